"""Here lives who is alive in the memory wing, what becomes of the belongings of the dead, and loaded code."""

from collections.abc import Sequence
from datetime import timedelta

from continuum.journal.memory.rows import RunRow, TaskRow, WorkerRow, check_text
from continuum.journal.memory.store import Store
from continuum.model.events import EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.leases import Reaped, WorkerInfo, WorkerRecord, WorkflowVersion

__all__ = ["MemoryWorkers"]

_MICROSECOND = timedelta(microseconds=1)


class MemoryWorkers:
    """``Journal.workers``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, info: WorkerInfo) -> None:
        """Write the worker's row."""
        check_text("the host name", info.hostname)
        with self._store.lock:
            now = self._store.now()
            row = WorkerRow(info.id, info.hostname, info.pid, now, now + info.ttl // _MICROSECOND)
            self._store.workers[info.id] = row

    def beat(self, worker: WorkerId, ttl: timedelta) -> bool:
        """Prolong a lease."""
        with self._store.lock:
            row = self._store.workers.get(worker)
            if row is None:
                return False
            row.expires_at = self._store.now() + ttl // _MICROSECOND
            return True

    def deregister(self, worker: WorkerId) -> None:
        """Delete the worker's row."""
        with self._store.lock:
            self._store.workers.pop(worker, None)

    def reap(self, *, limit: int = 1000) -> Reaped:
        """Delete the expired, then sweep what nobody holds any more: two things, the second by condition."""
        with self._store.lock:
            store, now = self._store, self._store.now()
            expired = [row.id for row in store.workers.values() if row.expires_at < now]
            for worker in expired:
                del store.workers[worker]
            runs, tasks = self._orphans(), self._orphaned_tasks()
            for run in runs[:limit]:
                self.sweep_run(run)
            exhausted = sum(self.sweep_task(row, now) for row in tasks[:limit])
            return Reaped(
                workers=tuple(expired),
                runs=len(runs[:limit]),
                requeued=len(tasks[:limit]) - exhausted,
                exhausted=exhausted,
                more=len(runs) >= limit or len(tasks) >= limit,
            )

    def _orphans(self) -> list[RunRow]:
        store = self._store
        found = [
            run
            for owner, runs in store.owned.items()
            if owner not in store.workers
            for run in runs.values()
            if run.id not in store.locked
        ]
        return sorted(found, key=lambda run: run.id)

    def _orphaned_tasks(self) -> list[TaskRow]:
        store = self._store
        found = [
            row
            for row in store.all_tasks()
            if row.claimed_by is not None and row.claimed_by not in store.workers and not row.held
        ]
        return sorted(found, key=lambda row: (row.run_id, row.order.command))

    def sweep_run(self, run: RunRow) -> None:
        """Free a dead owner's run; the risen token fences whatever the dead one has still under way."""
        self._store.own(run, None)
        run.token += 1

    def sweep_task(self, row: TaskRow, now: int) -> bool:
        """Offer a dead worker's task again, one attempt later; whether there was none left."""
        if not row.is_last_attempt:
            row.free(now, attempt=row.attempt + 1)
            return False
        run = self._store.runs[row.run_id]
        failure = Failure(
            type_name="WorkerDied",
            message=f"the worker died during attempt {row.attempt} of {row.order.policy.retry.max_attempts}",
            kind=FailureKind.WORKER_DIED,
            attempts=row.attempt,
        )
        self._store.post(
            run, EventType.ACTIVITY_FAILED, only=run.id, command=row.order.command, payload=failure.encode()
        )
        self._store.drop_task(row.run_id, row.order.command)
        return True

    def list_workers(self) -> list[WorkerRecord]:
        """Return all workers."""
        with self._store.lock:
            now = self._store.now()
            return [
                WorkerRecord(row.id, row.hostname, row.pid, row.started_at, row.expires_at, row.expires_at > now)
                for row in self._store.workers.values()
            ]

    def record_versions(self, versions: Sequence[WorkflowVersion]) -> None:
        """Keep the source of versions not known yet."""
        for version in versions:
            check_text("the workflow's name", version.name)
            check_text("the workflow's source", version.source)
        with self._store.lock:
            for version in versions:
                self._store.versions.setdefault((version.name, version.hash), version)

    def source_of(self, name: str, version_hash: str) -> str | None:
        """Return a kept source."""
        with self._store.lock:
            version = self._store.versions.get((name, version_hash))
            return None if version is None else version.source
