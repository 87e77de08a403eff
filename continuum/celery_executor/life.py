"""Here lives the life of an attempt in a Celery worker: that of the local pool's attempts, on one thread, to its end.

The differences to the local pool's: signals are held back but for the body (:mod:`~.masking`), everything is reported
before the Celery task returns (:mod:`~.reports`), and a body may be ended from outside (:mod:`~.bodies`).
"""

import logging
import os
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, Final

import msgspec

from continuum.celery_executor.bodies import call_async, is_green_timeout, is_soft_limit, is_told_to_end
from continuum.celery_executor.finishing import Finisher
from continuum.celery_executor.masking import Shield
from continuum.celery_executor.reports import InlineReports
from continuum.celery_executor.summons import was_summoned
from continuum.declare.attempts import ATTEMPT, Attempt
from continuum.declare.registry import ActivityDeclaration
from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.tasks import TaskOutcome
from continuum.runtime.attempt_life import AttemptLife
from continuum.runtime.job import Job, describe_body_error
from continuum.telemetry.probes import probe

__all__ = ["CeleryLife"]

logger = logging.getLogger("continuum.celery")

_FELL_OUT: Final = 1

# Heartbeats are written at most this often.
_HEARTBEATS: Final = 1.0
# The pool reckons its time limit from when it hears that the body's process has begun, which is about when we did.
_TOLERANCE: Final = 0.5


class CeleryLife(AttemptLife):
    """Runs one job.

    :param limit: seconds after which the pool ends the body, reckoned from ``since`` (monotonic).
    :ivar word: what the journal accepted: ``done``, ``failed``, ``retry``, ``put-back``; ``late`` if nothing.
    :ivar error: what the body raised, if it did and that was its end.
    :ivar pause: in how many seconds the next attempt is due.
    :ivar leaving: by which exception the process, or greenlet, was told to end; raise it when all is said.
    :ivar again: whether the journal was away when the body could not begin, or its transaction not be committed.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        worker: WorkerId,
        finisher: Finisher,
        shield: Shield,
        reports: InlineReports,
        limit: float,
        since: float,
        max_result_bytes: int,
    ) -> None:
        super().__init__(
            journal=journal,
            reporter=reports,
            owner=self,
            deliver=self._take,
            mailed=self._accepted,
            max_result_bytes=max_result_bytes,
        )
        self._worker = worker
        self._finisher = finisher
        self._shield = shield
        self._reports = reports
        self._limit = limit
        self._since = since
        self.word = "late"
        self.error: BaseException | None = None
        self.pause = 0.0
        self.leaving: BaseException | None = None
        self.again = False
        self._begun = False

    # ------------------------------------------------------------------ the body

    def call_body(
        self, attempt: Attempt, activity: ActivityDeclaration, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a body; signals of the pool reach it, and nothing but it."""
        self._begun = True
        process = os.getpid()
        try:
            with self._shield.lowered():
                if activity.is_async:
                    return Context().run(_call_async, attempt, activity.function, args, kwargs)
                return super().call_body(attempt, activity, args, kwargs)
        finally:
            if os.getpid() != process:
                # Forked by the body, and fallen out of it: it would report the attempt of a body that still runs, and
                # go on as a second child on the pool's pipes.
                os._exit(_FELL_OUT)

    def heard(self, job: Job) -> None:
        """Write a heartbeat of the body, unless the last one was written a moment ago."""
        if job.flushing or job.beaten - job.flushed < _HEARTBEATS:
            return
        job.flushing, job.dirty = True, False
        with self._shield.raised():
            try:
                self._flush(job)
            except Exception:
                logger.exception("a heartbeat of %r was not written", job)

    def body_raised(self, job: Job, error: BaseException) -> None:
        """Report what a body raised; remember if this process is to go."""
        if is_told_to_end(error):
            self.leaving = error
        super().body_raised(job, error)

    def ended_by(self, job: Job, error: BaseException, *, permanent: bool = False) -> None:
        """Report how the body was ended, from outside or by itself."""
        told = is_told_to_end(error)
        passed = time.monotonic() - self._since >= self._limit - min(_TOLERANCE, self._limit / 5)
        if told:
            self.leaving = error
            if not passed and was_summoned():
                # A deploy, or an operator's wish: no fault of the attempt, which is made again as it was.
                self._reports.put(partial(self._free, job))
                return
        self.error = error
        if is_soft_limit(error) or (passed and (told or is_green_timeout(error))):
            self.fail(job, self._timed_out(job, error))
        elif told:
            self.fail(job, _died(job, error))
        else:
            super().ended_by(job, error, permanent=permanent)

    def _timed_out(self, job: Job, error: BaseException) -> Failure:
        task = job.task
        kind = "soft time limit" if is_soft_limit(error) else "time limit"
        return msgspec.structs.replace(
            describe_body_error(error, task.attempt, permanent=task.policy.retry.gives_up),
            type_name="TimeoutError",
            message=f"attempt {task.attempt} of {task.activity} passed its {kind}",
            kind=FailureKind.TIMED_OUT,
        )

    # ------------------------------------------------------------------ what the journal says

    def _take(self, outcome: TaskOutcome) -> None:
        # Crash: the effect has happened, nothing says so; the next attempt makes it again, or recognises it.
        probe("delivery.returned")
        self._reports.put(partial(self._finish, outcome))

    def _finish(self, outcome: TaskOutcome) -> None:
        worker = self._worker
        try:
            held = self._finisher.finish(worker, outcome)
        except ContinuumError as error:
            if error.transient or outcome.failure is not None:
                raise
            # The journal refuses this very value, and always will.
            self.error = error
            failure = describe_body_error(error, outcome.attempt, permanent=True)
            outcome = msgspec.structs.replace(outcome, payload=None, failure=failure)
            held = self._finisher.finish(worker, outcome)
        # Crash: task row out, letter in; the run's owner finds it by a hint or a poll. The Celery task ends as lost,
        # and giving the attempt up finds no claim.
        probe("delivery.reported")
        self.word = _ended(outcome) if held else "late"

    def _free(self, job: Job) -> None:
        freed = self._journal.tasks.put_back(job.worker, [job.task])
        # Crash: the row is free at the same attempt, and dispatched again by any dispatcher.
        probe("delivery.freed")
        self.word = "put-back" if freed else "late"
        if freed:
            self._journal.hint(Hint(HintKind.TASKS))

    def _accepted(self) -> None:
        self.word = "done" if self.error is None else "failed"
        self._journal.hint(Hint(HintKind.MAIL))

    def leave(self, job: Job) -> None:
        """Leave a job to others, the journal having been away too long. What has not begun is not counted."""
        if self._begun:
            return
        try:
            self._free(job)
        except Exception as error:  # noqa: BLE001 - the journal is still away: it is missed here, or swept
            logger.warning("%r could not be put back: %s", job, error)
        else:
            self.again = False

    # ------------------------------------------------------------------ as the owner of its job

    def release(self, job: Job) -> None:
        """Nothing is held here: what the journal accepted it has said by now, or says in a moment."""

    def run_again(self, job: Job) -> None:  # noqa: ARG002 - the one there is
        """Note that the journal was away, and that nothing has changed."""
        self.again = True

    def due_in(self, seconds: float) -> None:
        """Another attempt is due then; whoever dispatches it is told to look."""
        self.word, self.pause = "retry", seconds
        self._journal.hint(Hint(HintKind.TASKS))

    def began_close(self) -> None:
        """The keeper was told of the job before it began."""


def _died(job: Job, error: BaseException) -> Failure:
    task = job.task
    return msgspec.structs.replace(
        describe_body_error(error, task.attempt, permanent=task.policy.retry.gives_up),
        type_name="WorkerDied",
        message=f"attempt {task.attempt} of {task.activity} ended its process by a signal",
        kind=FailureKind.WORKER_DIED,
    )


def _ended(outcome: TaskOutcome) -> str:
    return "done" if outcome.failure is None else "failed"


def _call_async(attempt: Attempt, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    ATTEMPT.set(attempt)
    return call_async(function, args, kwargs)
