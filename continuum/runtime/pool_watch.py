"""Here lives the watch over a pool: time limits, heartbeats, threads that are needed.

One thread. It sleeps a second at a time, less if a limit is nearer, and looks twice a millisecond while jobs wait that
no thread may have begun. It does nothing that can block: whatever concerns the journal goes to the reporter.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from continuum.model.failures import FailureKind
from continuum.runtime.attempt_life import AttemptLife
from continuum.runtime.job import Job
from continuum.runtime.pool_loop import BodyLoop
from continuum.runtime.pool_threads import BodyThreads

__all__ = ["Watch"]

logger = logging.getLogger("continuum.runtime")

_TICK: Final = 1.0
# Blocking activities begin about this late if the first thread is busy.
_LOOK: Final = 0.0005
_SOON: Final = 0.01


class Watch:
    """A thread that calls `look` and `scan`.

    :param ticked: called about once a second.
    """

    def __init__(
        self,
        *,
        threads: BodyThreads,
        loop: BodyLoop,
        life: AttemptLife,
        heartbeat_interval: float,
        ticked: Callable[[], None],
    ) -> None:
        self._threads = threads
        self._loop = loop
        self._life = life
        self._interval = heartbeat_interval
        self._ticked = ticked
        self._bell = threading.Lock()
        self._bell.acquire()
        self._looking = False
        self._scan_at = 0.0
        self._tick_at = 0.0
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="continuum-pool-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._ring()
        if self._thread is not None:
            self._thread.join(2 * _TICK)

    def look_soon(self) -> None:
        """Jobs wait, and the thread that was woken for them may be slow."""
        if not self._looking:
            self._looking = True
            self._ring()

    def scan_soon(self) -> None:
        """A limit may be near."""
        if self._scan_at > 0.0:
            self._scan_at = 0.0
            self._ring()

    def heard(self, job: Job) -> None:
        """A body has sent a heartbeat."""
        if not job.flushing and job.beaten - job.flushed >= self._interval:
            self.scan_soon()

    def scan(self, now: float) -> float:
        """End what has passed a limit, write due heartbeats; return when something is due next."""
        soonest = now + _TICK
        for job, in_thread in [
            *((job, True) for job in self._threads.jobs()),
            *((job, False) for job in self._loop.jobs()),
        ]:
            since = job.busy_since
            if since is not None:
                soonest = min(soonest, self._check(job, since, now, in_thread=in_thread))
        return soonest

    # ------------------------------------------------------------------ inner

    def _check(self, job: Job, since: float, now: float, *, in_thread: bool) -> float:
        policy = job.task.policy
        soonest = since + policy.timeout.total_seconds()
        if now >= soonest:
            self._give_up(job, FailureKind.TIMED_OUT, in_thread=in_thread)
            return now + _TICK
        if job.ended or job.started is None:
            return soonest  # cancelled, or its key is being looked up: only its thread is of interest
        if policy.heartbeat_timeout is not None:
            silent = job.beaten + policy.heartbeat_timeout.total_seconds()
            if now >= silent:
                self._give_up(job, FailureKind.HEARTBEAT_TIMED_OUT, in_thread=in_thread)
                return now + _TICK
            soonest = min(soonest, silent)
        if job.dirty:
            due = job.flushed + self._interval
            if now >= due and not job.flushing:
                self._life.flush(job)
            else:
                soonest = min(soonest, max(due, now + _SOON))
        return soonest

    def _give_up(self, job: Job, kind: FailureKind, *, in_thread: bool) -> None:
        stack = self._threads.stack_of(job) if in_thread else ""
        if not self._life.expire(job, kind, stack) and not job.ended:
            return
        if in_thread:
            self._threads.abandon(job)
        else:
            self._loop.cancel(job)

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # rung already
            self._bell.release()

    def _run(self) -> None:
        armed = False  # whether the last look is a look ago
        while not self._stopping:
            now = time.monotonic()
            self._bell.acquire(timeout=_LOOK if self._looking else max(0.0, self._scan_at - now))
            try:
                armed = self._pass(armed=armed)
            except Exception:
                logger.exception("the watch over the local pool met an unexpected error")

    def _pass(self, *, armed: bool) -> bool:
        if self._looking:
            again = self._threads.look(act=armed)
            armed = True
            if not again:
                self._looking = armed = False
                if self._threads.look(act=False):  # something was added while the flag was still up
                    self._looking = True
        now = time.monotonic()
        if now >= self._scan_at:
            self._scan_at = now + _TICK  # before scanning: whoever asks meanwhile sets it back
            soonest = self.scan(now)
            if self._scan_at > 0.0:
                self._scan_at = min(self._scan_at, soonest)
            if now >= self._tick_at:
                self._tick_at = now + _TICK
                self._threads.slow_down(now)
                self._ticked()
        return armed
