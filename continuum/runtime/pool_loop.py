"""Here lives the event loop, on a thread of its own, that runs ``async def`` activities.

One ``call_soon_threadsafe`` per submit. From Python 3.12 on a body's first step runs at once (eager tasks), so that one
which never waits costs no round through the loop.

Cancelling is asking: a body that catches ``CancelledError`` and goes on is a stray, as a thread would be.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, Final

from continuum.declare.attempts import ATTEMPT
from continuum.errors import ContinuumError
from continuum.runtime.attempt_life import AttemptLife
from continuum.runtime.backlog import Waiting
from continuum.runtime.job import Job
from continuum.runtime.pool_threads import START_PAUSE
from continuum.runtime.reporter import Reporter

__all__ = ["BodyLoop"]

logger = logging.getLogger("continuum.runtime")

# How long cancelled bodies may take to clean up when the pool stops.
_CLEAN_UP: Final = 1.0
# Weight of the newest duration in the average; before so many bodies it says nothing.
_NEWEST: Final = 0.1
_ENOUGH: Final = 20


class BodyLoop:
    """An asyncio loop that runs up to ``concurrency`` bodies at once. Its thread starts with the first of them."""

    def __init__(
        self,
        *,
        concurrency: int,
        waiting: Waiting,
        life: AttemptLife,
        reporter: Reporter,
        freed: Callable[[], None],
        rested: Callable[[], None],
    ) -> None:
        self._concurrency = concurrency
        self._waiting = waiting
        self._life = life
        self._reporter = reporter
        self._freed = freed
        self._rested = rested
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._ending = False  # the thread is to end
        self._start_at = 0.0
        self._ended = 0
        self._average = 0.0
        self._tasks: dict[Job, asyncio.Task[None] | None] = {}  # without strays; written by the loop's thread only
        self._strays: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ any thread

    def submit(self, jobs: list[Job]) -> None:
        """Run jobs."""
        self._waiting.push(jobs)
        self.nudge()

    def nudge(self) -> None:
        """Begin what waits, if there is room."""
        self._call(self._fill)

    def jobs(self) -> list[Job]:
        """Return the jobs that run now."""
        return list(self._tasks)

    def cancel(self, job: Job) -> None:
        """Ask a running body to end; its place is free from now on."""
        self._call(partial(self._cancel, job))

    @property
    def strays(self) -> int:
        """How many bodies were cancelled and have not ended."""
        return len(self._strays)

    @property
    def capacity(self) -> int:
        """How many bodies can run at once; none while the loop cannot be started."""
        return self._concurrency if time.monotonic() >= self._start_at else 0

    @property
    def free(self) -> int:
        """How many more bodies could run at once."""
        return self.capacity - len(self._tasks)

    @property
    def pace(self) -> float | None:
        """Recent duration of a body, in seconds; None before there were enough of them."""
        return self._average if self._ended >= _ENOUGH else None

    def stop(self, timeout: float) -> bool:
        """Wait for the bodies, then cancel those that are left; return whether all ended by themselves."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or self._stopped:
            return True
        self._stopped = True
        deadline = time.monotonic() + timeout
        finished = asyncio.run_coroutine_threadsafe(self._finish(deadline), loop)
        try:
            left = finished.result(timeout + 2 * _CLEAN_UP)
        except TimeoutError:
            left = True  # a body blocks the loop itself
        self._ending = True
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLEAN_UP)
        return not left

    # ------------------------------------------------------------------ the thread

    def _call(self, callback: Callable[[], None]) -> None:
        loop = self._loop or self._start()
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed: the pool has stopped
                loop.call_soon_threadsafe(callback)

    def _start(self) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._loop is not None or time.monotonic() < self._start_at:
                return self._loop
            loop: asyncio.AbstractEventLoop | None = None
            try:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self._run_loop, args=(loop,), name="continuum-async-activities", daemon=True
                )
                thread.start()
            except (RuntimeError, OSError, MemoryError) as error:
                # Threads or descriptors have run out. What waits is begun at the watch's next tick, or put back.
                if loop is not None:
                    loop.close()
                self._start_at = time.monotonic() + START_PAUSE
                logger.warning("the loop of async activities could not be started (%s)", error)
                return None
            self._loop, self._thread = loop, thread
            return loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            self._run_on(loop)
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=_CLEAN_UP))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until the pool stops it: asyncio lets SystemExit of any task end it, and bodies may stop it."""
        while True:
            try:
                loop.run_forever()
            except BaseException:
                logger.exception("something that runs on the loop of async activities tried to end it")
            if self._ending or loop.is_closed():
                return

    def _fill(self) -> None:
        while len(self._tasks) < self._concurrency:
            try:
                job = self._waiting.pop()
            except IndexError:
                self._rested()
                return
            if job.ended:
                self._over(job)
            else:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        job.taken = time.monotonic()
        self._tasks[job] = None
        task = _spawn(self._live(job))
        if not task.done():
            self._tasks[job] = task

    async def _live(self, job: Job) -> None:
        life, task, activity = self._life, job.task, job.activity
        assert activity is not None
        try:
            known = await self._find_result(job) if task.idempotency_key is not None else None
            if known is not None:
                life.use_result(job, known)
                return
            if job.ended:
                return
            ATTEMPT.set(life.begin(job))
            args, kwargs = activity.decode_arguments(task.arguments)
            result = await activity.function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - cancelled, SystemExit …: all end an attempt, never the loop
            life.body_raised(job, error)
        else:
            life.body_returned(job, activity, result)
        finally:
            self._left(job)

    async def _find_result(self, job: Job) -> str | None:
        """Look the key up on a thread that may wait for the journal."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[str | None] = loop.create_future()

        def settle(payload: str | None, error: Exception | None = None) -> None:
            if not found.done():
                if error is None:
                    found.set_result(payload)
                else:
                    found.set_exception(error)

        def look() -> None:
            answer: partial[None]
            try:
                answer = partial(settle, self._life.find_result(job))
            except Exception as error:
                if isinstance(error, ContinuumError) and error.transient and not job.ended:
                    raise
                answer = partial(settle, None, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(answer)

        self._reporter.put(look)
        return await found

    def _cancel(self, job: Job) -> None:
        task = self._tasks.pop(job, None)
        if task is None:
            return
        self._strays.add(task)
        task.add_done_callback(self._strays.discard)
        task.cancel()
        self._over(job)
        self._fill()

    def _left(self, job: Job) -> None:
        if job in self._tasks:
            del self._tasks[job]
            if job.taken is not None:
                self._ended += 1
                self._average += (time.monotonic() - job.taken - self._average) * _NEWEST
            self._over(job)
            if self._waiting.startable():
                asyncio.get_running_loop().call_soon(self._fill)
            else:
                self._rested()

    def _over(self, job: Job) -> None:
        if self._waiting.done(job):
            self._freed()

    async def _finish(self, deadline: float) -> bool:
        """Wait for all bodies until the deadline; cancel the rest, and return whether there was any."""
        running = [task for task in self._tasks.values() if task is not None]
        if running:
            await asyncio.wait(running, timeout=max(0.0, deadline - time.monotonic()))
        left = list(self._tasks)
        for job in left:
            # It stays claimed, and is swept: its attempt counts. Nothing is reported from here any more.
            job.end()
            job.cancel()
            self._cancel(job)
        if self._strays:
            await asyncio.wait(list(self._strays), timeout=_CLEAN_UP)
        return bool(left)


if sys.version_info >= (3, 12):

    def _spawn(body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        return asyncio.Task(body, loop=loop, context=Context(), eager_start=True)

else:

    def _spawn(body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(body, context=Context())
