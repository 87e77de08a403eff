"""Here lives what every effect begins with: finding the workflow it was called in."""

from asyncio import events as _events
from datetime import timedelta
from typing import Final

from continuum.errors import NotInWorkflow
from continuum.replay.entry import RunInfo
from continuum.replay.loop import DeterministicLoop

__all__ = ["current_loop", "get_running", "in_workflow", "run_info", "seconds_of"]

get_running: Final = _events._get_running_loop  # noqa: SLF001 - the public one raises where none runs


def current_loop(effect: str) -> DeterministicLoop:
    """Return the loop of the workflow that is calling. Raises ``NotInWorkflow``."""
    loop = get_running()
    if type(loop) is DeterministicLoop:
        return loop
    raise NotInWorkflow(
        f"{effect} was used where no workflow is running. It works in the code of an @workflow function, and in what"
        " that awaits; an activity, a thread or a script cannot use it."
    )


def in_workflow() -> bool:
    """Whether the caller is workflow code."""
    return type(get_running()) is DeterministicLoop


def run_info() -> RunInfo:
    """Return which run the code is running in. Raises ``NotInWorkflow``."""
    return current_loop("run_info()").run


def seconds_of(delay: timedelta | float, what: str) -> float:
    """Return a duration in seconds. Raises ``TypeError`` on what is none."""
    if isinstance(delay, timedelta):
        return delay.total_seconds()
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        message = f"{what} must be a timedelta or a number of seconds, not {delay!r}"
        raise TypeError(message)
    return delay
