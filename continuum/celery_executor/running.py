"""Here lives the watch over attempts that run in the keeper's own process, where the pool cannot end a body.

It ends attempts on paper: the journal hears that the limit was passed, the body is told by ``current_attempt()``, and
goes on in its thread until it looks. Nothing here blocks; what concerns the journal goes to a reporter.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.failures import FailureKind
from continuum.runtime.attempt_life import AttemptLife
from continuum.runtime.job import Job
from continuum.runtime.reporter import Reporter
from continuum.runtime.stacks import stack_of

__all__ = ["Running"]

_TICK: Final = 1.0
_CLOSE: Final = 2.0
_FOREVER: Final = 3600.0
_LAST_WORDS: Final = 2.0


class Running:
    """The jobs under way in this process. Any thread.

    :param wake: called when a job with a near limit begins.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._jobs: dict[Job, int] = {}
        self._reporter: Reporter | None = None

    def add(self, job: Job) -> None:
        """A job begins on this thread."""
        with self._lock:
            first = not self._jobs
            self._jobs[job] = threading.get_ident()
        policy = job.task.policy
        if first or policy.heartbeat_timeout is not None or policy.timeout.total_seconds() < _CLOSE:
            self._wake()

    def remove(self, job: Job) -> None:
        """A job has left its thread."""
        with self._lock:
            self._jobs.pop(job, None)

    def cancel_all(self) -> None:
        """The lease is gone, and with it every claim: tell the bodies."""
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()

    def scan(self, now: float, journal: Callable[[], Journal]) -> float:
        """End what has passed a limit; return when (monotonic) to look again."""
        with self._lock:
            jobs = list(self._jobs.items())
        soonest = now + (_TICK if jobs else _FOREVER)
        for job, thread in jobs:
            if job.ended or job.started is None:
                continue
            policy = job.task.policy
            ends = job.started + policy.timeout.total_seconds()
            kind = FailureKind.TIMED_OUT
            if policy.heartbeat_timeout is not None:
                silent = job.beaten + policy.heartbeat_timeout.total_seconds()
                if silent < ends:
                    ends, kind = silent, FailureKind.HEARTBEAT_TIMED_OUT
            if now >= ends:
                self._end(job, journal()).expire(job, kind, stack_of(thread))
            else:
                soonest = min(soonest, ends)
        return soonest

    def stop(self) -> None:
        """Let what was ended be reported."""
        if self._reporter is not None:
            self._reporter.stop(_LAST_WORDS)

    def _end(self, job: Job, journal: Journal) -> AttemptLife:
        if self._reporter is None:
            self._reporter = Reporter(threads=1)
        return _Ending(job, journal, self._reporter)


class _Ending(AttemptLife):
    """Reports the end of a job that somebody else runs."""

    def __init__(self, job: Job, journal: Journal, reporter: Reporter) -> None:
        super().__init__(
            journal=journal,
            reporter=reporter,
            owner=self,
            deliver=partial(self.post, job),
            mailed=self._mail,
            max_result_bytes=0,
        )

    def _mail(self) -> None:
        self._journal.hint(Hint(HintKind.MAIL))

    def release(self, job: Job) -> None:
        """Its thread still holds it."""

    def run_again(self, job: Job) -> None:
        """It is not run here."""

    def due_in(self, seconds: float) -> None:  # noqa: ARG002 - it knows when
        """Another attempt is due then; whoever dispatches it is told to look."""
        self._journal.hint(Hint(HintKind.TASKS))

    def began_close(self) -> None:
        """It is not begun here."""
