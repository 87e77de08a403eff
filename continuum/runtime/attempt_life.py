"""Here lives the life of an attempt: decode, run, encode, and what becomes of the outcome.

::

    key known? ──yes──► its result is posted, the body is not run
       │no
    decode ─► body ─► encode ─┬─ plain ──────────► deliver: into the run's next commit, in memory
                              ├─ under a key ────► finish_keyed: key, task and letter in one transaction
                              └─ transactional ──► in the transaction that the body wrote in
       │ raised, timed out, wrong name …
       ├─ attempts left ─► retry: the row is freed for its next attempt, after a pause
       └─ none left, or permanent ─► delivered (or posted) as a failure

# Invariant: a result is acted upon only if this attempt's claim still holds when it is written; every write names run,
command, attempt and worker. Whatever comes late is thrown away by the journal, not by us.
"""

import inspect
import logging
import random
import time
from collections.abc import Callable
from contextvars import Context
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol

from continuum.declare.attempts import ATTEMPT, Attempt
from continuum.declare.registry import ActivityDeclaration
from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.model.codec import check_size
from continuum.model.failures import Failure, FailureKind
from continuum.model.tasks import TaskOutcome
from continuum.runtime.job import Job, describe_body_error, is_final, outcome_of
from continuum.runtime.reporter import Reports
from continuum.runtime.verdicts import next_attempt_in
from continuum.telemetry.probes import probe

__all__ = ["AttemptLife", "Owner"]

logger = logging.getLogger("continuum.runtime")

# Long enough that a rolling deploy gets somewhere between two attempts.
_UNKNOWN_DELAY: Final = timedelta(seconds=5)
# The journal was away before the body could begin.
_PUT_OFF: Final = 0.2
# Limits below this have to be announced: the watch looks once a second by itself.
_CLOSE: Final = timedelta(seconds=1)
# A heartbeat is being written; it must not land after the one that precedes a retry.
_FLUSHING: Final = 0.005
_MAX_STACK: Final = 16_000


class Owner(Protocol):
    """What the pool does for the attempts it runs."""

    def release(self, job: Job) -> None:
        """The journal has heard of the job's end: hold it no longer."""

    def run_again(self, job: Job) -> None:
        """Let the same attempt wait in line again; it has changed nothing."""

    def due_in(self, seconds: float) -> None:
        """A task will be free then."""

    def began_close(self) -> None:
        """An attempt with a near limit has begun."""


class AttemptLife:
    """Runs jobs. Methods are safe on any thread; none raises.

    Two methods are there to be replaced by another kind of pool: `call_body` and `ended_by`.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        reporter: Reports,
        owner: Owner,
        deliver: Callable[[TaskOutcome], None],
        mailed: Callable[[], None],
        max_result_bytes: int,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._journal = journal
        self._reporter = reporter
        self._owner = owner
        self._deliver = deliver
        self._mailed = mailed
        self._max_result = max_result_bytes
        self._fraction = fraction  # where in the jitter's window a retry begins

    # ------------------------------------------------------------------ on the body's thread

    def run(self, job: Job) -> None:
        """Run a job of a ``def`` on this thread, to its end."""
        try:
            self._run(job)
        except BaseException as error:
            # A bug of ours. An attempt must end some way: a job that is held and forgotten waits for ever.
            logger.exception("%r met an unexpected error", job)
            self.body_raised(job, error)

    def _run(self, job: Job) -> None:
        task, activity = job.task, job.activity
        if activity is None:
            self.refuse_unknown(job)
            return
        if task.idempotency_key is not None:
            if self._has_result(job):
                return
            if job.ended:  # given up while its key was looked up
                job.contested = True
                return
        if task.policy.transactional:
            self._run_in_transaction(job, activity)
            return
        attempt = self.begin(job)
        try:
            args, kwargs = activity.decode_arguments(task.arguments)
            result = self.call_body(attempt, activity, args, kwargs)
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end an attempt, not a worker
            self.body_raised(job, error)
            return
        self.body_returned(job, activity, result)

    def call_body(
        self, attempt: Attempt, activity: ActivityDeclaration, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a body. Raises what it raises."""
        # A context of its own: nothing a body sets may be seen by the next one on this thread.
        return Context().run(_call, attempt, activity.function, args, kwargs)

    def begin(self, job: Job) -> Attempt:
        """Note that the body begins, and return its attempt."""
        attempt = job.begin(time.monotonic())
        policy = job.task.policy
        if policy.timeout < _CLOSE or policy.heartbeat_timeout is not None:
            self._owner.began_close()
        return attempt

    def body_raised(self, job: Job, error: BaseException) -> None:
        """Report what a body raised."""
        if job.end():
            self.ended_by(job, error)

    def ended_by(self, job: Job, error: BaseException, *, permanent: bool = False) -> None:
        """Report the exception that ended a job; the caller has ended it.

        :param permanent: whether another attempt would meet it again.
        """
        permanent = permanent or is_final(job.task, error)
        self.fail(job, describe_body_error(error, job.task.attempt, permanent=permanent))

    def body_returned(self, job: Job, activity: ActivityDeclaration, result: Any) -> None:
        """Report what a body returned."""
        # Crash: the effect has happened, nothing says so. The sweep frees the task at the next attempt (an attempt is
        # at least once); under an idempotency key the effect's own key has to recognise the second try.
        probe("attempt.returned")
        try:
            payload = self._encode(activity, result)
        except BaseException as error:  # noqa: BLE001 - encoding calls properties and constructors of users' classes
            if job.end():
                self.ended_by(job, error, permanent=True)
            return
        if job.end():
            if job.task.idempotency_key is None:
                self._deliver(outcome_of(job, payload))
            else:
                self._put(job, partial(self._post_keyed, job, payload))

    def _encode(self, activity: ActivityDeclaration, result: Any) -> str:
        try:
            payload = activity.encode_result(result)
        finally:
            if inspect.iscoroutine(result):
                result.close()  # a def that returned a coroutine: it will never be awaited
        check_size(payload, self._max_result, "result")
        return payload

    def _has_result(self, job: Job) -> bool:
        """Whether the job's key has a result, or cannot be looked up now; either way the body is not to run."""
        try:
            payload = self.find_result(job)
        except Exception as error:  # noqa: BLE001 - a driver's bug ends an attempt, not a thread
            if isinstance(error, ContinuumError) and error.transient:
                self._reporter.put(partial(self._again, job), after=_PUT_OFF)
            else:
                self.body_raised(job, error)
            return True
        if payload is None:
            return False
        self.use_result(job, payload)
        return True

    def find_result(self, job: Job) -> str | None:
        """Return the result stored under the job's key. Raises as the journal does."""
        key = job.task.idempotency_key
        return None if key is None else self._journal.tasks.find_result(job.task.activity, key)

    def use_result(self, job: Job, payload: str) -> None:
        """End a job with a result that was there before it."""
        logger.debug("%s: %r is done already, its result is used", job.task.activity, job.task.idempotency_key)
        if job.end():
            self.post(job, outcome_of(job, payload))

    def refuse_unknown(self, job: Job) -> None:
        """End an attempt whose code this process does not have."""
        name = job.task.activity
        logger.error("activity %r is not declared in this worker; import its module here", name)
        failure = Failure(
            type_name="UnknownActivity",
            message=f"no worker that took this task has the code of activity {name!r}: import its module in the"
            f" workers that serve queue {job.task.policy.queue_name!r}, or serve that queue elsewhere.",
            attempts=job.task.attempt,
        )
        if job.end():
            self.fail(job, failure, delay=_UNKNOWN_DELAY)

    # ------------------------------------------------------------------ transactional

    def _run_in_transaction(self, job: Job, activity: ActivityDeclaration) -> None:
        attempt = self.begin(job)
        raised: BaseException | None = None
        permanent = finished = ours = False
        try:
            with self._journal.tasks.transaction(job.worker) as transaction:
                try:
                    args, kwargs = activity.decode_arguments(job.task.arguments)
                    kwargs["connection"] = transaction.connection
                    result = self.call_body(attempt, activity, args, kwargs)
                    permanent = True  # what cannot be encoded now never can be
                    payload = self._encode(activity, result)
                except BaseException as error:
                    raised = error
                    raise
                ours = job.end()
                if not ours:
                    raise _Undo  # noqa: TRY301 - timed out meanwhile: leaving by an exception undoes all of it
                # Crash: all of it is undone, as if the attempt had died in its body.
                probe("attempt.transaction")
                finished = transaction.finish(outcome_of(job, payload))
        except _Undo:
            return
        except BaseException as error:  # noqa: BLE001 - as in run()
            if not (ours or job.end()):
                return  # somebody else has reported it
            if raised is None and isinstance(error, ContinuumError) and error.transient:
                # Perhaps it was committed, perhaps not. If it was, the claim is gone, and the second run of the body
                # is undone as a whole when it asks to finish.
                self._reporter.put(partial(self._again, job), after=_PUT_OFF)
            else:
                self.ended_by(job, error, permanent=permanent and raised is not None)
            return
        self._owner.release(job)
        if finished:
            self._mailed()

    def _again(self, job: Job) -> None:
        self._owner.run_again(job)

    # ------------------------------------------------------------------ any thread

    def expire(self, job: Job, kind: FailureKind, stack: str = "") -> bool:
        """End an attempt that passed a time limit. False if it had ended before."""
        if not job.end():
            return False
        job.cancel()
        task = job.task
        limit = (
            f"its timeout of {task.policy.timeout}"
            if kind is FailureKind.TIMED_OUT
            else f"its heartbeat_timeout of {task.policy.heartbeat_timeout}"
        )
        logger.warning("attempt %d of %s (run %s) passed %s", task.attempt, task.activity, task.run_id, limit)
        failure = Failure(
            type_name="TimeoutError",
            message=f"attempt {task.attempt} of {task.activity} passed {limit}",
            traceback=stack[-_MAX_STACK:],
            kind=kind,
            permanent=task.policy.retry.gives_up,
            attempts=task.attempt,
        )
        self.fail(job, failure)
        return True

    def fail(self, job: Job, failure: Failure, *, delay: timedelta | None = None) -> None:
        """Report a failed attempt of a job that the caller has ended: another attempt, or the end."""
        pause = next_attempt_in(job.task, failure, fraction=self._fraction())
        if pause is None:
            outcome = outcome_of(job, None, failure)
            if job.posts:
                self.post(job, outcome)
            else:
                self._deliver(outcome)
            return
        self._put(job, partial(self._retry, job, failure, pause if delay is None else delay))

    def post(self, job: Job, outcome: TaskOutcome) -> None:
        """Post an outcome as a message instead of handing it to the run's owner in memory."""
        self._put(job, partial(self._post, job, outcome))

    def flush(self, job: Job) -> None:
        """Write the job's last heartbeat; a failure is made good by the next one."""
        job.flushing, job.dirty = True, False
        self._reporter.put(partial(self._flush, job))

    # ------------------------------------------------------------------ on the reporter's threads

    def _put(self, job: Job, report: Callable[[], float | None]) -> None:
        self._reporter.put(report, give_up=partial(self._owner.release, job))

    def _retry(self, job: Job, failure: Failure, delay: timedelta) -> float | None:
        if job.flushing:
            return _FLUSHING
        tasks, task = self._journal.tasks, job.task
        if job.dirty:
            tasks.progress(job.worker, task, details=job.details)
            job.dirty = False
        freed = tasks.retry(job.worker, task, failure=failure, delay=delay)
        # Crash: the row is free and due at its time; the floor poll of any worker finds it.
        probe("attempt.retried")
        self._owner.release(job)
        if freed:
            self._owner.due_in(delay.total_seconds())
        return None

    def _post(self, job: Job, outcome: TaskOutcome) -> None:
        tasks = self._journal.tasks
        try:
            held = tasks.finish(job.worker, outcome)
        except ContinuumError as error:
            if error.transient or outcome.failure is not None:
                raise
            # The journal refuses this very value, and always will.
            failure = describe_body_error(error, job.task.attempt, permanent=True)
            held = tasks.finish(job.worker, outcome_of(job, None, failure))
        # Crash: task row out, letter in; the run's owner finds it by a hint or a poll.
        probe("attempt.posted")
        self._owner.release(job)
        if held:
            self._mailed()

    def _post_keyed(self, job: Job, payload: str) -> None:
        key = job.task.idempotency_key
        assert key is not None
        held, _winner = self._journal.tasks.finish_keyed(job.worker, outcome_of(job, payload), key=key)
        # Crash: as above, and the result is kept under its key.
        probe("attempt.posted")
        self._owner.release(job)
        if held:
            self._mailed()

    def _flush(self, job: Job) -> None:
        try:
            alive = self._journal.tasks.progress(job.worker, job.task, details=job.details)
        except ContinuumError as error:
            logger.debug("a heartbeat of %r was not written: %s", job, error)
            job.dirty = True
        else:
            if not alive:
                job.cancel()  # the claim is gone: nobody waits
        finally:
            job.flushed = time.monotonic()
            job.flushing = False


class _Undo(Exception):
    pass


def _call(attempt: Attempt, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    ATTEMPT.set(attempt)
    return function(*args, **kwargs)
