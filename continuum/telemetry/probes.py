"""Here live the places where a test can stop or kill the engine.

A probe is a named point in the code, next to a ``# Crash:`` comment that says what the world looks like if the
process dies there. Unarmed, it costs one global look-up and a comparison. A test arms it in its own process with
:func:`armed`, or in a child process through the environment::

    CONTINUUM_CRASH_AT=commit.sent:3    # SIGKILL itself when the probe is passed for the third time
    CONTINUUM_FREEZE_AT=commit.sent:3   # SIGSTOP itself there, as a paused virtual machine would be
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["CRASH_AT", "FREEZE_AT", "armed", "probe"]

CRASH_AT = "CONTINUUM_CRASH_AT"
FREEZE_AT = "CONTINUUM_FREEZE_AT"

_actions: dict[str, Callable[[], None]] = {}


def probe(name: str) -> None:
    """Pass a named point; whatever a test armed there runs now."""
    if _actions:
        action = _actions.get(name)
        if action is not None:
            action()


@contextmanager
def armed(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Run ``action`` whenever the probe is passed, until the block ends."""
    _actions[name] = action
    try:
        yield
    finally:
        del _actions[name]


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
