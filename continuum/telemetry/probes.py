"""Here live the places where a test can stop or kill the engine.

A probe is a named point in the code, next to a ``# Crash:`` comment that says what the world looks like if the
process dies there. Unarmed, it costs one global look-up and a comparison. A test arms it in its own process with
:func:`armed`, or in a child process through the environment::

    CONTINUUM_CRASH_AT=commit.sent:3    # SIGKILL itself when the probe is passed for the third time
    CONTINUUM_FREEZE_AT=commit.sent:3   # SIGSTOP itself there, as a paused virtual machine would be
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["CRASH_AT", "FREEZE_AT", "armed", "probe"]

CRASH_AT = "CONTINUUM_CRASH_AT"
FREEZE_AT = "CONTINUUM_FREEZE_AT"

# By name, or by thread and name.
_actions: dict[str | tuple[int, str], Callable[[], None]] = {}


def probe(name: str) -> None:
    """Pass a named point; whatever a test armed there runs now."""
    if _actions:
        action = _actions.get((threading.get_ident(), name)) or _actions.get(name)
        if action is not None:
            action()


@contextmanager
def armed(name: str, action: Callable[[], None], *, here: bool = False) -> Iterator[None]:
    """Run ``action`` whenever the probe is passed, until the block ends; ``here``: only on this thread.

    Blocks nest: of several around it the innermost counts.
    """
    key = (threading.get_ident(), name) if here else name
    before = _actions.get(key)
    _actions[key] = action
    try:
        yield
    finally:
        if before is None:
            del _actions[key]
        else:
            _actions[key] = before


def _arm_from_environment(variable: str, deadly: signal.Signals) -> None:
    wanted = os.environ.get(variable)
    if not wanted:
        return
    name, _, count = wanted.partition(":")
    left = int(count or 1)

    def strike() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), deadly)

    _actions[name] = strike


_arm_from_environment(CRASH_AT, signal.SIGKILL)
_arm_from_environment(FREEZE_AT, signal.SIGSTOP)
