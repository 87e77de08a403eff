"""Here lives the memory wing's row of a task: its states, and what becomes of its clock in each.

``available`` has no clock but ``available_at``; ``dispatched`` expires at its deadline; ``leased`` expires only if an
external executor runs it, because the local pool looks after its own time limits.
"""

from datetime import timedelta
from typing import Final

import msgspec

from continuum.journal.memory.rows import micros
from continuum.journal.protocol import ATTEMPT_GRACE, LONGEST_DISPATCH_DEADLINE
from continuum.model.failures import Failure
from continuum.model.ids import RunId, WorkerId
from continuum.model.tasks import ClaimedTask, DispatchedTask, TaskOrder, TaskRecord, TaskRef, TaskState

__all__ = ["LOCAL", "TaskRow"]

LOCAL: Final = "local"


class TaskRow(msgspec.Struct):
    """A row of ``continuum_tasks``; ``held`` while a transactional activity's transaction has ended it.

    :ivar claimed_by: who has dispatched or leased it; None also for what a drained dispatcher has left dispatched.
    :ivar expires_at: when the reaper offers a dispatched row again, or ends the attempt of a leased one; None: never.
    """

    run_id: RunId
    order: TaskOrder
    available_at: int
    state: TaskState = TaskState.AVAILABLE
    claimed_by: WorkerId | None = None
    claimed_at: int | None = None
    expires_at: int | None = None
    attempt: int = 1
    dispatch_no: int = 0
    heartbeat: str | None = None
    heartbeat_at: int | None = None
    last_error: Failure | None = None
    held: bool = False

    @property
    def executor(self) -> str:
        """Who executes it."""
        return self.order.policy.executor or LOCAL

    @property
    def ref(self) -> TaskRef:
        """Which attempt of which task it is."""
        return TaskRef(self.run_id, self.order.command, self.attempt)

    @property
    def is_last_attempt(self) -> bool:
        """Whether no attempt is left after this one."""
        return self.attempt >= self.order.policy.retry.max_attempts

    def is_due(self, now: int) -> bool:
        """Whether it is free and its time has come."""
        return self.state == TaskState.AVAILABLE and self.available_at <= now

    def is_expired(self, now: int) -> bool:
        """Whether the reaper has to look after it, whoever lives."""
        return self.expires_at is not None and self.expires_at < now

    @property
    def urgency(self) -> tuple[int, int, RunId, int]:
        """Sorts tasks by priority, then age."""
        return -self.order.policy.priority, self.available_at, self.run_id, self.order.command

    def claim(self, worker: WorkerId, now: int, *, limited: bool = False) -> ClaimedTask:
        """Give the row to a worker, for as long as its policy allows if the worker cannot be trusted to look."""
        self.state, self.claimed_by, self.claimed_at = TaskState.LEASED, worker, now
        self.expires_at = self._limit(now) if limited else None
        return self.claimed()

    def live(self, now: int) -> None:
        """Record a sign of life: a limited attempt may be silent anew, but not last longer."""
        self.heartbeat_at = now
        if self.expires_at is not None:
            self.expires_at = self._limit(now)

    def _limit(self, now: int) -> int:
        limit = self.times_out_at
        silence = self.order.policy.heartbeat_timeout
        return limit if silence is None else min(limit, now + micros(silence + ATTEMPT_GRACE))

    @property
    def times_out_at(self) -> int:
        """When the attempt that is claimed has had all its time."""
        assert self.claimed_at is not None, "only a claimed attempt has begun"
        return self.claimed_at + micros(self.order.policy.timeout + ATTEMPT_GRACE)

    def dispatch(self, worker: WorkerId, now: int, deadline: timedelta) -> DispatchedTask:
        """Mark the row as published, or about to be, by a dispatcher."""
        # A row dispatched forty times has long been at the bound. Whoever wants to wait longer from the start may.
        span = min(micros(deadline) << min(self.dispatch_no, 40), micros(max(deadline, LONGEST_DISPATCH_DEADLINE)))
        self.state, self.claimed_by, self.claimed_at = TaskState.DISPATCHED, worker, None
        self.dispatch_no += 1
        self.expires_at = now + span
        return DispatchedTask(self.ref, self.order.activity, self.order.policy, self.dispatch_no, self.expires_at)

    def free(self, at: int, *, attempt: int) -> None:
        """Offer the row again from ``at`` on."""
        self.state = TaskState.AVAILABLE
        self.claimed_by = self.claimed_at = self.expires_at = None
        if attempt != self.attempt:
            self.dispatch_no = 0
        self.attempt, self.available_at = attempt, at

    def claimed(self) -> ClaimedTask:
        """Return what its claimant needs to know."""
        order = self.order
        return ClaimedTask(
            run_id=self.run_id,
            command=order.command,
            attempt=self.attempt,
            activity=order.activity,
            arguments=order.arguments,
            policy=order.policy,
            idempotency_key=order.idempotency_key,
            heartbeat=self.heartbeat,
        )

    def seen(self) -> TaskRecord:
        """Return the row as operators see it."""
        policy = self.order.policy
        return TaskRecord(
            run_id=self.run_id,
            command=self.order.command,
            activity=self.order.activity,
            queue=policy.queue_name,
            priority=policy.priority,
            state=self.state,
            attempt=self.attempt,
            max_attempts=policy.retry.max_attempts,
            available_at=self.available_at,
            claimed_by=self.claimed_by,
            claimed_at=self.claimed_at,
            heartbeat=self.heartbeat,
            heartbeat_at=self.heartbeat_at,
            last_error=self.last_error,
            executor=self.executor,
            dispatch_no=self.dispatch_no,
        )
