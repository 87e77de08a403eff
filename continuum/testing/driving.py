"""Here lives driving the engine: from a test that is a ``def``, and from one that is an ``async def``.

A ``def`` may be called where a loop runs already (a fixture, a helper of an async test). Its ``async def`` activities
then run on a loop of their own, and the running one is set aside for so long.
"""

import asyncio
import sys
from asyncio import events as _events
from contextvars import Context
from typing import Any

from continuum.testing.engine import Steps
from continuum.testing.pool import Body

__all__ = ["Driver", "drive_async"]


class Driver:
    """Drives the engine from a ``def``. Its loop is made when the first ``async def`` body comes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def drive(self, steps: Steps) -> None:
        """Go through all steps. Raises what they raise."""
        try:
            for body in steps:
                self._run(body)
        finally:
            steps.close()

    def close(self) -> None:
        """Close the loop, if there is one."""
        loop, self._loop = self._loop, None
        if loop is not None:
            _alone(lambda: loop.run_until_complete(_end_all(loop)))
            loop.close()

    def _run(self, body: Body) -> None:
        loop = self._loop = self._loop or asyncio.new_event_loop()

        def run() -> None:
            # A context of its own, as in every pool.
            loop.run_until_complete(loop.create_task(body, context=Context()))

        _alone(run)


async def drive_async(steps: Steps) -> None:
    """Go through all steps; bodies are awaited here. Raises what the steps raise."""
    test = asyncio.current_task()
    asked = 0 if test is None else test.cancelling()
    try:
        for body in steps:
            await asyncio.get_running_loop().create_task(body, context=Context())
            if test is not None and test.cancelling() > asked:
                raise asyncio.CancelledError  # the body has kept it, but it was meant for the test (a timeout)
    finally:
        steps.close()


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    """End what bodies have left behind, as ``asyncio.run`` does."""
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _alone(run: Any) -> None:
    """Call something as if no loop were running on this thread."""
    host = _events._get_running_loop()  # noqa: SLF001 - the public one raises where none runs
    hooks = sys.get_asyncgen_hooks()
    _events._set_running_loop(None)  # noqa: SLF001 - as the loops of runs do
    try:
        run()
    finally:
        _events._set_running_loop(host)  # noqa: SLF001
        sys.set_asyncgen_hooks(*hooks)
