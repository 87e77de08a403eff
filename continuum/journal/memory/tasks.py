"""Here lives what pools ask of the memory wing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from continuum.journal.memory.dispatches import MemoryDispatches, check_outcome
from continuum.journal.memory.rows import check_json, check_text, micros
from continuum.journal.memory.task_rows import LOCAL, TaskRow
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import RunId, WorkerId
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRecord, TaskRef, TaskState

__all__ = ["MemoryTasks"]


class MemoryTasks(MemoryDispatches):
    """``Journal.tasks``."""

    def claim(
        self, worker: WorkerId, *, queues: Mapping[str, int] | None, limit: int, executor: str = LOCAL
    ) -> list[ClaimedTask]:
        """Claim free due tasks, by priority, then age."""
        left = None if queues is None else dict(queues)
        claimed: list[ClaimedTask] = []
        with self._store.lock:
            now = self._store.now()
            free = [row for row in self._store.all_tasks() if row.is_due(now) and row.executor == executor]
            for row in sorted(free, key=lambda row: row.urgency):
                if len(claimed) >= limit:
                    break
                queue = row.order.policy.queue_name
                if left is not None:
                    if left.get(queue, 0) <= 0:
                        continue
                    left[queue] -= 1
                claimed.append(row.claim(worker, now))
        return claimed

    def finish(self, worker: WorkerId, outcome: TaskOutcome) -> bool:
        """End the attempt and post its outcome."""
        check_outcome(outcome)
        with self._store.lock:
            row = self._claimed(worker, outcome)
            if row is None:
                return False
            self._end(row, outcome)
            return True

    def finish_keyed(self, worker: WorkerId, outcome: TaskOutcome, *, key: str) -> tuple[bool, str]:
        """End the attempt with the first result ever stored under the key."""
        check_outcome(outcome)
        check_text("the idempotency key", key)
        payload = outcome.payload
        assert payload is not None, "only a success has a result to keep"
        with self._store.lock:
            # Kept although the claim may be gone: the effect has happened, and must not be repeated.
            winner = self._store.results.setdefault((outcome.activity, key), payload)
            row = self._claimed(worker, outcome)
            if row is not None:
                self._store.end_task(row, EventType.ACTIVITY_COMPLETED, winner)
            return row is not None, winner

    def find_result(self, activity: str, key: str) -> str | None:
        """Return a kept result."""
        with self._store.lock:
            return self._store.results.get((activity, key))

    def retry(self, worker: WorkerId, task: ClaimedTask, *, failure: Failure, delay: timedelta) -> bool:
        """Free the task for its next attempt."""
        with self._store.lock:
            row = self._claimed(worker, task)
            if row is None:
                return False
            row.last_error = failure
            row.free(self._store.now() + micros(delay), attempt=row.attempt + 1)
            return True

    def progress(self, worker: WorkerId, task: ClaimedTask, *, details: str | None) -> bool:
        """Record a sign of life."""
        check_json("the details", details)
        with self._store.lock:
            row = self._claimed(worker, task)
            if row is None:
                return False
            row.heartbeat = row.heartbeat if details is None else details
            row.live(self._store.now())
            return True

    def held(self, worker: WorkerId) -> list[ClaimedTask]:
        """Return the worker's claims."""
        with self._store.lock:
            rows = self._store.all_tasks()
            return [row.claimed() for row in rows if row.claimed_by == worker and row.state == TaskState.LEASED]

    def put_back(self, worker: WorkerId, tasks: Sequence[ClaimedTask | TaskRef]) -> int:
        """Free tasks that have not begun."""
        count = 0
        with self._store.lock:
            for task in tasks:
                row = self._claimed(worker, task)
                if row is not None:
                    row.free(row.available_at, attempt=row.attempt)
                    count += 1
        return count

    @contextmanager
    def transaction(self, worker: WorkerId) -> Iterator["MemoryTransaction"]:
        """Let an activity's outcome appear when the block is left without an exception."""
        transaction = MemoryTransaction(self, worker)
        try:
            yield transaction
        except BaseException:
            self.undo(transaction)
            raise
        self.apply(transaction)

    def of_run(self, run_id: RunId) -> list[TaskRecord]:
        """Return a run's tasks, by command."""
        with self._store.lock:
            rows = self._store.tasks.get(run_id, {})
            return [rows[command].seen() for command in sorted(rows)]

    def hold(self, worker: WorkerId, outcome: TaskOutcome) -> TaskRow | None:
        """Lock the claimed row for a transaction that has ended the attempt."""
        check_outcome(outcome)
        with self._store.lock:
            row = self._claimed(worker, outcome)
            if row is not None:
                row.held = True
            return row

    def apply(self, transaction: "MemoryTransaction") -> None:
        """Make the outcomes of a transaction visible."""
        with self._store.lock:
            for row, outcome in transaction.ended:
                # Cancelled or terminated meanwhile: nobody waits for the outcome.
                if self._store.task(row.run_id, row.order.command) is row:
                    self._end(row, outcome)
            transaction.ended.clear()

    def undo(self, transaction: "MemoryTransaction") -> None:
        """Forget the outcomes of a transaction."""
        with self._store.lock:
            for row, _ in transaction.ended:
                row.held = False
            transaction.ended.clear()

    def _claimed(self, worker: WorkerId, task: ClaimedTask | TaskOutcome | TaskRef) -> TaskRow | None:
        return self._store.claimed_task(worker, task.run_id, task.command, task.attempt)


class MemoryTransaction:
    """What a transactional activity gets. There is no connection: it can only report its outcome."""

    connection: Any = None

    def __init__(self, tasks: MemoryTasks, worker: WorkerId) -> None:
        self._tasks = tasks
        self._worker = worker
        self.ended: list[tuple[TaskRow, TaskOutcome]] = []

    def finish(self, outcome: TaskOutcome) -> bool:
        """End the attempt when the transaction commits. False: the claim is gone, all is undone."""
        row = self._tasks.hold(self._worker, outcome)
        if row is None:
            self._tasks.undo(self)
            return False
        self.ended.append((row, outcome))
        return True
