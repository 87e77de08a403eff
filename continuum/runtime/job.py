"""Here lives one claimed task inside this process, from its submission to its acknowledged end.

A job ends once: by its body, by a time limit, or because nobody waits for it any more. Body, watch and turns thread
are different threads, so `end` is the one door, and whoever is first through it reports; the others go home.
"""

import time
from collections.abc import Callable

import msgspec

from continuum.declare.attempts import Attempt
from continuum.declare.registry import ActivityDeclaration
from continuum.errors import RetryAfter
from continuum.model.failures import Failure, describe_exception
from continuum.model.ids import RunId, WorkerId
from continuum.model.tasks import ClaimedTask, TaskOutcome

__all__ = ["Job", "Key", "describe_body_error", "is_final", "outcome_of"]

Key = tuple[RunId, int, int]


class Job:
    """A task with its claim, and what is known of its one execution.

    :ivar worker: under whose id it was claimed; a process that lost its lease has a new one since.
    :ivar activity: None if this process does not have the code.
    :ivar taken: monotonic time at which a thread or the loop took it up; None before.
    :ivar started: monotonic time at which the body began; None before, and while its key is looked up.
    :ivar beaten: monotonic time of its last sign of life.
    :ivar contested: whether somebody came to end it and was too late.
    """

    __slots__ = (
        "_door",
        "_heard",
        "activity",
        "attempt",
        "beaten",
        "contested",
        "details",
        "dirty",
        "ended",
        "flushed",
        "flushing",
        "started",
        "taken",
        "task",
        "worker",
    )

    def __init__(
        self,
        task: ClaimedTask,
        worker: WorkerId,
        activity: ActivityDeclaration | None,
        heard: "Callable[[Job], None] | None" = None,
    ) -> None:
        self.task = task
        self.worker = worker
        self.activity = activity
        self.attempt: Attempt | None = None
        self.taken: float | None = None
        self.started: float | None = None
        self.beaten = 0.0
        self.ended = False
        self.contested = False
        self._heard = heard  # told of heartbeats
        # list.pop is atomic: whoever takes the one element has ended the job.
        self._door = [True]
        self.details: str | None = None
        self.dirty = False  # heartbeats not yet told to the journal
        self.flushed = 0.0
        self.flushing = False

    def __repr__(self) -> str:
        return f"<Job {self.task.activity} {self.task.run_id}/{self.task.command}/{self.task.attempt}>"

    @property
    def key(self) -> Key:
        """Run, command and attempt."""
        return self.task.run_id, self.task.command, self.task.attempt

    @property
    def busy_since(self) -> float | None:
        """Since when it has occupied a thread, or a place on the loop; monotonic."""
        return self.taken if self.started is None else self.started

    @property
    def posts(self) -> bool:
        """Whether its outcome has to be written by a transaction of its own instead of the run's next commit."""
        return self.task.idempotency_key is not None or self.task.policy.transactional

    def begin(self, now: float) -> Attempt:
        """Note that the body begins, and return what it can learn about itself."""
        task = self.task
        self.beaten = now  # first: the watch compares it as soon as the body has begun
        self.started = now
        self.attempt = attempt = Attempt(
            number=task.attempt,
            run_id=task.run_id,
            command=task.command,
            activity=task.activity,
            idempotency_key=task.idempotency_key,
            earlier=task.heartbeat,
            beat=self._beat,
        )
        if self.ended:  # cancelled a moment ago; whoever did it may have found no attempt to tell
            attempt.cancel()
        return attempt

    def end(self) -> bool:
        """End the job. True for exactly one caller, ever."""
        try:
            self._door.pop()
        except IndexError:
            self.contested = True
            return False
        self.ended = True
        return True

    def cancel(self) -> None:
        """Let the body know that nobody waits for it."""
        if self.attempt is not None:
            self.attempt.cancel()

    def _beat(self, details: str | None) -> None:
        if self.ended:
            return
        if details is not None:
            self.details = details
        self.beaten = time.monotonic()
        self.dirty = True
        if self._heard is not None:
            self._heard(self)


def outcome_of(job: Job, payload: str | None, failure: Failure | None = None) -> TaskOutcome:
    """Return the outcome of a job's attempt."""
    task = job.task
    return TaskOutcome(task.run_id, task.command, task.attempt, task.activity, payload, failure)


def is_final(task: ClaimedTask, error: BaseException) -> bool:
    """Whether what a body raised ends the task, attempts left or not: its policy gives up on what asks for no retry."""
    return task.policy.retry.gives_up and not isinstance(error, RetryAfter)


def describe_body_error(error: BaseException, attempt: int, *, permanent: bool = False) -> Failure:
    """Return the storable description of what a body raised, without the frames of the pool."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_ours(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    failure = describe_exception(error.with_traceback(trace), attempts=attempt)
    return msgspec.structs.replace(failure, permanent=True) if permanent else failure


def _is_ours(module: str) -> bool:
    return module.startswith(("continuum.runtime.", "continuum.celery_executor.", "asyncio."))
