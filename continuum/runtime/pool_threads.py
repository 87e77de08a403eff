"""Here live the threads that run ``def`` activities.

Waking a thread costs more than a short activity takes, and several threads that fight for the interpreter over short
activities cost more than one that runs them all. So a submit wakes *one* idle thread, which takes jobs until none
waits. If the first of them turns out to be long, `spread` (called by the watch within a millisecond) wakes more; if
the recent average says that jobs are long, `submit` does so at once. (Measured: 22 µs a step against 46 when every
woken thread wakes the next.)

A thread cannot be killed. One whose attempt has passed its time limit is a *stray*: it is no longer counted, may be
replaced, and ends when its body returns.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from continuum.runtime.backlog import Waiting
from continuum.runtime.job import Job
from continuum.runtime.stacks import stack_of

__all__ = ["START_PAUSE", "BodyThreads"]

logger = logging.getLogger("continuum.runtime")

# Jobs longer than this are worth a thread each: waking one costs about 50 µs.
_LONG: Final = 0.0002
# Weight of the newest duration in the average.
_NEWEST: Final = 0.1
# A first guess, until there are durations.
_GUESS: Final = 0.001
# Before so many jobs the average says nothing.
_ENOUGH: Final = 20
# After a failure to start a thread (too many processes, no memory), the next try. Longer than a tick of the watch,
# which has to see the shortage to put back what waits.
START_PAUSE: Final = 1.5
# Jobs that one thread must get through between two looks to be left alone (`_LONG` at half a millisecond a look).
_BRISK: Final = 3


class _Thread:
    __slots__ = ("bell", "job", "stray", "taken", "thread")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.job: Job | None = None
        self.stray = False
        self.taken = 0  # written by its own thread only
        self.thread: threading.Thread | None = None


class BodyThreads:
    """Up to ``concurrency`` threads, started when there is work for them.

    :param run: runs a job to its end; never raises.
    :param freed: called when a limited queue has room again.
    :param rested: called when a thread finds nothing to do.
    :ivar average: recent duration of a job, in seconds.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        waiting: Waiting,
        run: Callable[[Job], None],
        freed: Callable[[], None],
        rested: Callable[[], None],
    ) -> None:
        self._concurrency = concurrency
        self._waiting = waiting
        self._run = run
        self._freed = freed
        self._rested = rested
        self._lock = threading.Lock()
        self._idle: list[_Thread] = []
        self._threads: list[_Thread] = []  # without strays
        self._started = 0
        self._seen = 0
        self._stopping = False
        self._start_at = 0.0
        self._measured = False
        self.average = _GUESS
        self._strays: list[_Thread] = []

    # ------------------------------------------------------------------ for the pool

    def notify(self, count: int) -> bool:
        """``count`` jobs were added. Returns whether the watch should look soon whether they are begun."""
        if self.average > _LONG:
            self.spread(count)
            return False
        if not self._wake():
            if not self._threads:
                self._start()
            return len(self._threads) < self.capacity
        return count > 1

    def spread(self, count: int) -> None:
        """Wake or start up to ``count`` threads."""
        for _ in range(min(count, self._concurrency)):
            if not self._wake() and not self._start():
                return

    def look(self, *, act: bool = True) -> bool:
        """Wake more threads if the awake ones did not get on since the last look (if ``act``).

        Returns whether to look again soon.
        """
        taken = sum(thread.taken for thread in self._threads)
        progress, self._seen = taken - self._seen, taken
        waiting = self._waiting.startable()
        if not waiting or not (self._idle or len(self._threads) < self.capacity):
            return False
        if act and progress < _BRISK:
            self.spread(waiting)
        return True

    @property
    def strays(self) -> int:
        """How many threads run a body that has been given up."""
        return len(self._strays)

    @property
    def pace(self) -> float | None:
        """``average``, or None while it is a guess."""
        if not self._measured:
            if sum(thread.taken for thread in self._threads) < _ENOUGH:
                return None
            self._measured = True
        return self.average

    @property
    def capacity(self) -> int:
        """How many jobs can run at once; fewer than wished while no more threads can be started."""
        return self._concurrency if time.monotonic() >= self._start_at else len(self._threads)

    @property
    def free(self) -> int:
        """How many more jobs could run at once."""
        return self.capacity - len(self.jobs())

    def jobs(self) -> list[Job]:
        """Return the jobs that run now, without those of strays."""
        return [job for thread in self._threads if (job := thread.job) is not None]

    def slow_down(self, now: float) -> None:
        """Let the average know of jobs that have not ended: all threads may be busy with long ones."""
        running = [now - job.busy_since for job in self.jobs() if job.busy_since is not None]
        if len(running) >= self._concurrency:
            self.average = max(self.average, min(running))

    def stack_of(self, job: Job) -> str:
        """Return where the thread of a job stands, as text."""
        for thread in self._threads:
            if thread.job is job and thread.thread is not None:
                return stack_of(thread.thread.ident, limit=-50)
        return ""

    def abandon(self, job: Job) -> None:
        """Make the thread of a job that passed its limit a stray, and let another take its place.

        The job has been ended by somebody else than its body.
        """
        with self._lock:
            found = next((thread for thread in self._threads if thread.job is job), None)
            if found is None:
                return  # the body has just come to its end after all
            found.stray = True
            self._threads.remove(found)
            self._strays.append(found)
        task = job.task
        logger.warning(
            "a thread still runs %s (run %s, attempt %d), which has been given up: it is replaced, its result will be"
            " ignored; %d such threads now",
            task.activity,
            task.run_id,
            task.attempt,
            self.strays,
        )
        if self._waiting.done(job):
            self._freed()
        self.spread(self._waiting.startable())

    def stop(self, timeout: float) -> bool:
        """Let the threads end when nothing waits; return whether they did in time. Strays are left alone."""
        deadline = time.monotonic() + timeout
        self._stopping = True
        while self._wake():
            pass
        with self._lock:
            # All of these have been started: one that has not cannot be joined.
            threads = list(self._threads)
        for thread in threads:
            if thread.thread is not None:
                thread.thread.join(max(0.0, deadline - time.monotonic()))
        return not self._threads

    # ------------------------------------------------------------------ inner

    def _wake(self) -> bool:
        try:
            self._idle.pop().bell.release()
        except IndexError:
            return False
        return True

    def _start(self) -> bool:
        with self._lock:
            if len(self._threads) >= self.capacity or self._stopping:
                return False
            self._started += 1
            new = _Thread()
            new.thread = threading.Thread(
                target=self._work, args=(new,), name=f"continuum-activities-{self._started}", daemon=True
            )
            self._threads.append(new)
            try:
                new.thread.start()
            except (RuntimeError, MemoryError) as error:
                # What waits is begun by the threads there are, or at the watch's next tick, or put back.
                self._threads.remove(new)
                self._start_at = time.monotonic() + START_PAUSE
                why = error
            else:
                return True
        logger.warning("no thread could be started for activities (%s); %d run", why, len(self._threads))
        return False

    def _work(self, me: _Thread) -> None:
        pop, run, done, clock = self._waiting.pop, self._run, self._waiting.done, time.monotonic
        began = clock()
        while True:
            try:
                job = pop()
            except IndexError:
                if not self._rest(me):
                    break
                began = clock()
                continue
            me.taken += 1
            if not job.ended:
                job.taken = began
                me.job = job
                try:
                    run(job)
                except BaseException:
                    # `run` sees to the end of the job; nothing may end the thread.
                    logger.exception("%r met an unexpected error", job)
                if job.contested:
                    # Given up, perhaps: then `abandon` has seen this very job here, or comes too late to.
                    with self._lock:
                        me.job = None
                else:
                    me.job = None
                now = clock()
                # Racing threads may lose each other's sample, which does not matter.
                self.average += (now - began - self.average) * _NEWEST
                began = now
            if me.stray:
                break
            if done(job):
                self._freed()
        self._leave(me)

    def _rest(self, me: _Thread) -> bool:
        """Sleep until there is work; return False if there will be none."""
        if self._stopping:
            return False
        self._rested()
        self._idle.append(me)
        if self._waiting.startable() or self._stopping:
            self._wake()  # it slipped in between: wake somebody, maybe this thread
        me.bell.acquire()
        return True

    def _leave(self, me: _Thread) -> None:
        with self._lock:
            if me.stray:
                self._strays.remove(me)
            else:
                self._threads.remove(me)
