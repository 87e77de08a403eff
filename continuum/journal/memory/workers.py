"""Here lives who is alive in the memory wing, what becomes of the belongings of the dead, and loaded code."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from continuum.journal.memory.rows import RunRow, WorkerRow, check_json, check_text, micros
from continuum.journal.memory.store import Store
from continuum.journal.memory.task_rows import TaskRow
from continuum.journal.memory.versions import list_versions, retire_versions, revive
from continuum.model.events import EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.leases import (
    WITHDRAWN,
    Reaped,
    RecordedVersion,
    WorkerInfo,
    WorkerRecord,
    WorkflowVersion,
)
from continuum.model.tasks import TaskState

__all__ = ["MemoryWorkers"]


class MemoryWorkers:
    """``Journal.workers``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, info: WorkerInfo) -> None:
        """Write the worker's row."""
        check_text("the host name", info.hostname)
        with self._store.lock:
            now = self._store.now()
            expires_at = now + micros(info.ttl)
            self._store.workers[info.id] = WorkerRow(
                info.id, info.hostname, info.pid, now, expires_at, info.workflows, info.version_hashes
            )

    def beat(self, worker: WorkerId, ttl: timedelta) -> bool:
        """Prolong a lease."""
        with self._store.lock:
            row = self._store.workers.get(worker)
            if row is None:
                return False
            row.expires_at = self._store.now() + micros(ttl)
            return True

    def withdraw(self, worker: WorkerId) -> None:
        """Leave the worker's row without the marks of its code."""
        with self._store.lock:
            row = self._store.workers.get(worker)
            if row is not None:
                row.version_hashes = WITHDRAWN

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
            runs, tasks = self._orphans(), self._overdue_tasks(now)
            for run in runs[:limit]:
                self.sweep_run(run)
            reoffered = exhausted = 0
            for row in tasks[:limit]:
                if row.state == TaskState.DISPATCHED:
                    # Nobody has begun it: it is the same attempt that is published once more.
                    row.free(row.available_at, attempt=row.attempt)
                    reoffered += 1
                else:
                    exhausted += self.sweep_task(row, now)
            return Reaped(
                workers=tuple(expired),
                runs=len(runs[:limit]),
                requeued=len(tasks[:limit]) - reoffered - exhausted,
                exhausted=exhausted,
                reoffered=reoffered,
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

    def _overdue_tasks(self, now: int) -> list[TaskRow]:
        store = self._store
        found = [row for row in store.all_tasks() if not row.held and (store.is_orphaned(row) or row.is_expired(now))]
        return sorted(found, key=lambda row: (row.run_id, row.order.command))

    def sweep_run(self, run: RunRow) -> None:
        """Free a dead owner's run; the risen token fences whatever the dead one has still under way."""
        self._store.own(run, None)
        run.token += 1

    def sweep_task(self, row: TaskRow, now: int) -> bool:
        """End an attempt that its worker will not end, and offer the next; whether there was none left."""
        failure = self._verdict(row)
        if not (row.is_last_attempt or failure.permanent):
            row.last_error = failure
            row.free(now, attempt=row.attempt + 1)
            return False
        self._store.end_task(row, EventType.ACTIVITY_FAILED, failure.encode())
        return True

    def _verdict(self, row: TaskRow) -> Failure:
        attempt, policy = row.attempt, row.order.policy
        which = f"attempt {attempt} of {policy.retry.max_attempts}"
        if self._store.is_orphaned(row):
            kind, message = FailureKind.WORKER_DIED, f"the worker died during {which}"
            return Failure(type_name="WorkerDied", message=message, kind=kind, attempts=attempt)
        if row.expires_at == row.times_out_at:
            kind, limit = FailureKind.TIMED_OUT, f"its timeout of {policy.timeout}"
        else:
            kind, limit = FailureKind.HEARTBEAT_TIMED_OUT, f"its heartbeat_timeout of {policy.heartbeat_timeout}"
        return Failure(
            type_name="TimeoutError",
            message=f"attempt {attempt} of {row.order.activity} passed {limit}",
            kind=kind,
            permanent=policy.retry.gives_up,
            attempts=attempt,
        )

    def list_workers(self) -> list[WorkerRecord]:
        """Return all workers."""
        with self._store.lock:
            now = self._store.now()
            return [
                WorkerRecord(
                    row.id,
                    row.hostname,
                    row.pid,
                    row.started_at,
                    row.expires_at,
                    row.expires_at > now,
                    bool(row.workflows),
                    row.version_hashes,
                )
                for row in self._store.workers.values()
            ]

    def record_versions(self, versions: Sequence[WorkflowVersion]) -> None:
        """Keep the source of versions not known yet, and the retention of all."""
        for version in versions:
            check_text("the workflow's name", version.name)
            check_text("the workflow's source", version.source)
            check_json("the contract of its signals", version.signals)
        with self._store.lock:
            store = self._store
            for version in sorted(versions, key=lambda one: one.version):
                key = (version.name, version.hash)
                known = store.versions.setdefault(key, version)
                store.versions[key] = msgspec.structs.replace(known, retention_us=version.retention_us)
                store.first_seen.setdefault(key, store.now())

    def source_of(self, name: str, version_hash: str) -> str | None:
        """Return a kept source."""
        with self._store.lock:
            version = self._store.versions.get((name, version_hash))
            return None if version is None else version.source

    def list_versions(self) -> list[RecordedVersion]:
        """Return all code on record or in use."""
        with self._store.lock:
            return list_versions(self._store)

    def retire_versions(self, versions: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Delete records that nothing needs."""
        with self._store.lock:
            return retire_versions(self._store, versions)

    def revive(self, workflows: Sequence[tuple[str, int]]) -> int:
        """Make stuck runs due."""
        with self._store.lock:
            return revive(self._store, frozenset(workflows))
