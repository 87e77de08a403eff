"""Here live the values that describe one requested call of an activity."""

from enum import StrEnum

import msgspec

from continuum.model.failures import Failure
from continuum.model.ids import RunId
from continuum.model.policies import ActivityPolicy

__all__ = ["ClaimedTask", "DispatchedTask", "TaskOrder", "TaskOutcome", "TaskRecord", "TaskRef", "TaskState"]


class TaskState(StrEnum):
    """Where a task row stands.

    ``available`` → (``dispatched`` →) ``leased`` → gone. A dispatched row has been, or will in a moment be, published
    to its executor by the dispatcher in ``claimed_by``; whoever gets the message claims it, and so may anybody who
    claims available rows of that executor.
    """

    AVAILABLE = "available"
    DISPATCHED = "dispatched"
    LEASED = "leased"
    DEAD = "dead"


class TaskRef(msgspec.Struct, frozen=True, gc=False, order=True):
    """Which attempt of which task: all that travels through a broker."""

    run_id: RunId
    command: int
    attempt: int


class DispatchedTask(msgspec.Struct, frozen=True, gc=False):
    """A task whose row is marked as dispatched by this process: it has to publish it.

    :ivar dispatch_no: how often this attempt has been dispatched, this time included; it only names the message.
    :ivar deadline_us: when it is offered again if nobody has claimed it, in microseconds since the epoch.
    """

    ref: TaskRef
    activity: str
    policy: ActivityPolicy
    dispatch_no: int
    deadline_us: int


class TaskOrder(msgspec.Struct, frozen=True, gc=False):
    """A task that a decision wants to exist.

    :ivar command: number of the ``activity_scheduled`` command; with the run id it is the task's key.
    :ivar arguments: encoded arguments.
    :ivar policy_text: ``policy`` as stored, encoded once per declaration rather than once per call.
    """

    command: int
    activity: str
    arguments: str
    policy: ActivityPolicy
    policy_text: str
    idempotency_key: str | None = None


class ClaimedTask(msgspec.Struct, frozen=True, gc=False):
    """A task this process may execute now: it holds the claim (run, command, attempt).

    :ivar heartbeat: what an earlier attempt reported last, as JSON text.
    :ivar namespace: the run's namespace, for the attempt's context.
    """

    run_id: RunId
    command: int
    attempt: int
    activity: str
    arguments: str
    policy: ActivityPolicy
    idempotency_key: str | None = None
    heartbeat: str | None = None


class TaskOutcome(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended: a payload, or a failure that will not be retried.

    Exactly one of the two is set.
    """

    run_id: RunId
    command: int
    attempt: int
    activity: str
    payload: str | None
    failure: Failure | None = None


class TaskRecord(msgspec.Struct, frozen=True):
    """A task row as an operator sees it. Times are microseconds since the epoch."""

    run_id: RunId
    command: int
    activity: str
    queue: str
    priority: int
    state: str
    attempt: int
    max_attempts: int
    available_at: int
    claimed_by: str | None
    claimed_at: int | None
    heartbeat: str | None
    heartbeat_at: int | None
    last_error: Failure | None
    executor: str = "local"
    dispatch_no: int = 0
