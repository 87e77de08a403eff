"""Here lives the patch effect: new code for new runs, old code for those that passed the place before."""

from asyncio import events as _events

from continuum.model.names import check_effect_name
from continuum.replay.loop import DeterministicLoop

__all__ = ["patched"]


def patched(patch: str) -> bool:
    """Whether this run takes the changed code.

    Write ``if patched("id"): new code, else: old code``. True in a run that reaches the place for the first time (that
    is recorded), and ever after in that run; False in a run whose history went on from here without it. One answer per
    id and run. Outside of workflows False. Raises ``TypeError`` or ``ValueError`` for what cannot be an id (a text of 1
    to 500 characters).
    """
    loop = _events._get_running_loop()  # noqa: SLF001 - the public one raises where none runs
    if type(loop) is not DeterministicLoop:
        return False
    return loop.ledger.patched(check_effect_name(patch, "the text that names the change,"))
