"""Here lives the text of log lines, which objects of workflow code write, and only while a run is live.

# Invariant: whether a line is written makes no difference to workflow code: what writes it neither raises nor asks for
anything.
"""

from collections.abc import Callable

from continuum.replay.ledger import Ledger

__all__ = ["spell"]


def spell(ledger: Ledger, write: Callable[[], str]) -> str:
    """Return the text, or that there is none. Effects are refused meanwhile."""
    outer = ledger.barred
    if outer is None:
        ledger.bar("the text of a log line")
    try:
        return write()
    except BaseException as error:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<its text raised {type(error).__name__}>"
    finally:
        ledger.barred = outer
