"""Here lives what the memory wing promises external executors: marks, claims by name, late outcomes, the crashed.

# Invariant: nothing here trusts a message. A claim names an attempt and is judged by the row; a duplicate, a message of
an attempt that is over and one that was lost change nothing but who is asked next.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from continuum.journal.memory.rows import check_json, micros
from continuum.journal.memory.store import Store
from continuum.journal.memory.task_rows import TaskRow
from continuum.journal.protocol import Dispatches
from continuum.model.events import EventType
from continuum.model.failures import TIMEOUTS, Failure
from continuum.model.ids import WorkerId
from continuum.model.tasks import ClaimedTask, DispatchedTask, TaskOutcome, TaskRef, TaskState

__all__ = ["MemoryDispatches", "check_outcome"]

_UNBEGUN = frozenset((TaskState.AVAILABLE, TaskState.DISPATCHED))


class MemoryDispatches:
    """The part of ``Journal.tasks`` that is for external executors."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def dispatch(
        self, worker: WorkerId, *, executor: str, rooms: Mapping[str, int], room: int, limit: int, deadline: timedelta
    ) -> Dispatches:
        """Mark free due tasks as dispatched, by priority, then age."""
        left = dict(rooms)
        taken: list[DispatchedTask] = []
        with self._store.lock:
            if not self.may_take(worker):
                return Dispatches([])
            now = self._store.now()
            mine = [row for row in self._store.all_tasks() if row.executor == executor]
            due = sorted((row for row in mine if row.is_due(now)), key=lambda row: row.urgency)
            later = [row.available_at for row in mine if row.state == TaskState.AVAILABLE and row.available_at > now]
            for row in due:
                queue = row.order.policy.queue_name
                if len(taken) < limit and left.setdefault(queue, room) > 0:
                    left[queue] -= 1
                    taken.append(row.dispatch(worker, now, deadline))
        return Dispatches(taken, min(later, default=None), more=len(taken) < len(due))

    def may_take(self, worker: WorkerId) -> bool:
        """Whether the worker lives; nobody would look after what a dead one takes."""
        return self._store.is_alive(worker)

    def undelivered(self, worker: WorkerId, *, executor: str) -> list[TaskRef]:
        """Return what the worker has dispatched and nobody has claimed."""
        with self._store.lock:
            return [row.ref for row in self._dispatched_by(worker) if row.executor == executor]

    def claim_dispatched(self, worker: WorkerId, refs: Sequence[TaskRef]) -> list[ClaimedTask]:
        """Claim named attempts that nobody has begun."""
        claimed: list[ClaimedTask] = []
        with self._store.lock:
            if not self.may_take(worker):
                return []
            for ref in refs:
                row = self._store.task(ref.run_id, ref.command)
                if row is not None and self.is_claimable(row, ref):
                    claimed.append(row.claim(worker, self._store.now(), limited=True))
        return claimed

    def is_claimable(self, row: TaskRow, ref: TaskRef) -> bool:
        """Whether a message about this attempt is news."""
        # A deferred row is free before its time: whoever asks for it by name has the code that was missing.
        return row.attempt == ref.attempt and row.state in _UNBEGUN

    def finish_many(self, worker: WorkerId, outcomes: Sequence[TaskOutcome]) -> frozenset[TaskRef]:
        """End attempts and post their outcomes."""
        for outcome in outcomes:
            check_outcome(outcome)
        accepted = set()
        with self._store.lock:
            # Claims first: only what is not this worker's own can be late.
            for is_wanted in (self.is_own, self.is_late):
                for outcome in outcomes:
                    row = self._store.task(outcome.run_id, outcome.command)
                    if row is not None and is_wanted(row, worker, outcome):
                        self._end(row, outcome)
                        accepted.add(TaskRef(outcome.run_id, outcome.command, outcome.attempt))
        return frozenset(accepted)

    def is_own(self, row: TaskRow, worker: WorkerId, outcome: TaskOutcome) -> bool:
        """Whether the outcome is that of a claim which holds."""
        return self._store.claimed_task(worker, outcome.run_id, outcome.command, outcome.attempt) is row

    def is_late(self, row: TaskRow, _: WorkerId, outcome: TaskOutcome) -> bool:
        """Whether a lost claim's outcome saves the next attempt: a success, before that has begun."""
        return outcome.failure is None and row.state in _UNBEGUN and row.attempt >= outcome.attempt

    def defer(self, refs: Sequence[TaskRef], *, delay: timedelta) -> int:
        """Offer dispatched tasks again after a while."""
        count = 0
        with self._store.lock:
            for ref in refs:
                row = self._store.task(ref.run_id, ref.command)
                if row is not None and self.is_deferrable(row, ref):
                    row.free(self._store.now() + micros(delay), attempt=row.attempt)
                    count += 1
        return count

    def is_deferrable(self, row: TaskRow, ref: TaskRef) -> bool:
        """Whether the message that could not be obeyed was about the row as it is."""
        return row.state == TaskState.DISPATCHED and row.attempt == ref.attempt

    def abandon(self, worker: WorkerId, ref: TaskRef, *, failure: Failure) -> bool:
        """End an attempt whose process died."""
        check_json("the failure", failure.encode())
        with self._store.lock:
            row = self._store.claimed_task(worker, ref.run_id, ref.command, ref.attempt)
            if row is None:
                return False
            given_up = failure.kind in TIMEOUTS and row.order.policy.retry.gives_up
            if row.is_last_attempt or given_up:
                self._store.end_task(row, EventType.ACTIVITY_FAILED, failure.encode())
            else:
                row.last_error = failure
                row.free(self._store.now(), attempt=row.attempt + 1)
            return True

    def hand_over(self, worker: WorkerId) -> int:
        """Leave dispatched tasks to their deadlines."""
        with self._store.lock:
            rows = self._dispatched_by(worker)
            for row in rows:
                row.claimed_by = None
            return len(rows)

    def _dispatched_by(self, worker: WorkerId) -> list[TaskRow]:
        rows = self._store.all_tasks()
        return [row for row in rows if row.state == TaskState.DISPATCHED and row.claimed_by == worker]

    def _end(self, row: TaskRow, outcome: TaskOutcome) -> None:
        if outcome.failure is None:
            self._store.end_task(row, EventType.ACTIVITY_COMPLETED, outcome.payload)
        else:
            self._store.end_task(row, EventType.ACTIVITY_FAILED, outcome.failure.encode())


def check_outcome(outcome: TaskOutcome) -> None:
    """Refuse an outcome that no journal can hold."""
    assert (outcome.payload is None) != (outcome.failure is None), "an outcome is a payload or a failure"
    check_json("the result", outcome.payload)
    if outcome.failure is not None:
        check_json("the failure", outcome.failure.encode())
