"""Here live the effects that wait for something of the run's own: time to pass, or its variables to change."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from continuum.replay.effects.base import current_loop, seconds_of
from continuum.replay.loop import DeterministicLoop

__all__ = ["sleep", "wait_until"]


def sleep(delay: timedelta | float) -> Coroutine[Any, Any, None]:
    """Wait for this long: a row in the database, not a thread. `asyncio.sleep` with seconds does the same.

    A delay of zero or less only lets other tasks run. Raises ``NotInWorkflow``, ``TypeError``.
    """
    current_loop("sleep()")
    return asyncio.sleep(seconds_of(delay, "the delay"))


def wait_until(predicate: Callable[[], Any], timeout: timedelta | float | None = None) -> Coroutine[Any, Any, None]:
    """Wait until the predicate is true. It is asked at once, and again whenever the run has come to rest.

    The predicate must only look at the workflow's own variables. What it raises is raised here. Raises ``TimeoutError``
    after ``timeout``, ``NotInWorkflow``.
    """
    loop = current_loop("wait_until()")
    if not callable(predicate):
        message = f"wait_until() takes a function without arguments, not {predicate!r}"
        raise TypeError(message)
    seconds = None if timeout is None else seconds_of(timeout, "the timeout")
    return _until(loop, predicate, seconds)


async def _until(loop: DeterministicLoop, predicate: Callable[[], Any], seconds: float | None) -> None:
    if loop.check(predicate):
        return
    condition = loop.add_condition(predicate)
    if seconds is None:
        await condition
    else:
        async with asyncio.timeout(seconds):
            await condition
