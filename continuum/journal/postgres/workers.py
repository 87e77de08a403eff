"""Here lives who is alive: the rows of processes, and what they do with the record of code."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from continuum.journal.postgres.codes import code_columns
from continuum.journal.postgres.database import Database
from continuum.journal.postgres.literals import integer, integers, microseconds, text, texts
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.reaper import Sweeper
from continuum.journal.postgres.versions import (
    LIST_VERSIONS,
    LOCK_VERSIONS,
    RECORD_VERSIONS,
    RETIRE_VERSIONS,
    REVIVE,
    SOURCE_OF,
    WITHDRAW,
)
from continuum.model.ids import WorkerId
from continuum.model.leases import (
    WITHDRAWN,
    Reaped,
    RecordedVersion,
    WorkerInfo,
    WorkerRecord,
    WorkflowVersion,
)

__all__ = ["PostgresWorkers"]

# So many stuck runs come due when a dispatcher starts; the others when their back-off is over.
_MOST_REVIVED: Final = 10_000

REGISTER: Final = Statement(
    "register",
    """
    insert into continuum_workers (id, hostname, pid, queues, workflows, expires_at, version_hashes)
    values ($1::uuid, $2::text, $3::int, $4::text[], $5::text[],
            clock_timestamp() + $6::bigint * interval '1 microsecond', $7::text[])
    on conflict (id) do update set expires_at = excluded.expires_at, heartbeat_at = excluded.heartbeat_at
    """,
)
BEAT: Final = Statement(
    "beat",
    """
    update continuum_workers set heartbeat_at = clock_timestamp(),
        expires_at = clock_timestamp() + $2::bigint * interval '1 microsecond'
    where id = $1::uuid
    returning 1
    """,
)
DEREGISTER: Final = Statement("deregister", "delete from continuum_workers where id = $1::uuid")
LIST: Final = Statement(
    "workers",
    """
    select id, hostname, pid, (extract(epoch from started_at) * 1000000)::bigint,
           (extract(epoch from expires_at) * 1000000)::bigint, expires_at > clock_timestamp(),
           cardinality(workflows) > 0, version_hashes
    from continuum_workers order by started_at, id
    """,
)


class PostgresWorkers:
    """``Journal.workers``."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self._database = database
        self._sweeper = Sweeper(database, payloads)

    def register(self, info: WorkerInfo) -> None:
        """Write the worker's row."""
        self._run(
            REGISTER,
            text(info.id),
            text(info.hostname),
            integer(info.pid),
            texts(info.queues),
            texts(info.workflows),
            microseconds(info.ttl),
            texts(info.version_hashes),
        )

    def beat(self, worker: WorkerId, ttl: timedelta) -> bool:
        """Prolong a lease."""
        return bool(self._run(BEAT, text(worker), microseconds(ttl)))

    def withdraw(self, worker: WorkerId) -> None:
        """Leave the worker's row without the marks of its code."""
        self._run(WITHDRAW, text(worker), texts(WITHDRAWN))

    def deregister(self, worker: WorkerId) -> None:
        """Delete the worker's row."""
        self._run(DEREGISTER, text(worker))

    def reap(self, *, limit: int = 1000) -> Reaped:
        """Delete expired workers, then free what nobody holds any more."""
        return self._sweeper.reap(limit)

    def list_workers(self) -> list[WorkerRecord]:
        """Return all workers, the oldest first."""
        rows = [[*row, tuple(marks)] for *row, marks in self._run(LIST)]
        return [WorkerRecord(*row) for row in rows]

    def record_versions(self, versions: Sequence[WorkflowVersion]) -> None:
        """Keep the source of versions not known yet, the contract of those known without one, and the retention."""
        if versions:
            self._run(
                RECORD_VERSIONS,
                texts([version.name for version in versions]),
                texts([version.hash for version in versions]),
                integers([version.version for version in versions]),
                integers([version.retention_us for version in versions]),
                texts([version.source for version in versions]),
                texts([version.signals for version in versions]),
            )

    def source_of(self, name: str, version_hash: str) -> str | None:
        """Return a kept source."""
        rows = self._run(SOURCE_OF, text(name), text(version_hash))
        return str(rows[0][0]) if rows else None

    def list_versions(self) -> list[RecordedVersion]:
        """Return all code on record or in use."""
        return [RecordedVersion(*row) for row in self._run(LIST_VERSIONS)]

    def retire_versions(self, versions: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Delete records that nothing needs."""
        if not versions:
            return []
        names, hashes = texts([name for name, _ in versions]), texts([version_hash for _, version_hash in versions])
        with self._database.transaction() as session:
            session.run(LOCK_VERSIONS, names, hashes)
            retired = session.run(RETIRE_VERSIONS, names, hashes)
        return sorted((name, version_hash) for name, version_hash in retired)

    def revive(self, workflows: Sequence[tuple[str, int]]) -> int:
        """Make stuck runs due."""
        if not workflows:
            return 0
        names, versions, _ = code_columns(workflows)
        return len(self._run(REVIVE, names, versions, integer(_MOST_REVIVED)))

    def _run(self, statement: Statement, *arguments: str) -> list[tuple[Any, ...]]:
        return self._database.run(statement, *arguments)
