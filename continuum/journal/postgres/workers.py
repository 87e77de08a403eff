"""Here lives who is alive: the rows of processes, and the versions of code they have loaded."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from continuum.journal.postgres.database import Database
from continuum.journal.postgres.literals import integer, integers, microseconds, text, texts
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.reaper import Sweeper
from continuum.model.ids import WorkerId
from continuum.model.leases import Reaped, WorkerInfo, WorkerRecord, WorkflowVersion

__all__ = ["PostgresWorkers"]


REGISTER: Final = Statement(
    "register",
    """
    insert into continuum_workers (id, hostname, pid, queues, workflows, expires_at)
    values ($1::uuid, $2::text, $3::int, $4::text[], $5::text[],
            clock_timestamp() + $6::bigint * interval '1 microsecond')
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
           cardinality(workflows) > 0
    from continuum_workers order by started_at, id
    """,
)
RECORD_VERSIONS: Final = Statement(
    "record_versions",
    """
    insert into continuum_workflow_versions (name, hash, version, retention_us, source)
    select * from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[])
    on conflict do nothing
    """,
)
SOURCE_OF: Final = Statement(
    "source_of",
    "select source from continuum_workflow_versions where name = $1::text and hash = $2::text",
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
        )

    def beat(self, worker: WorkerId, ttl: timedelta) -> bool:
        """Prolong a lease."""
        return bool(self._run(BEAT, text(worker), microseconds(ttl)))

    def deregister(self, worker: WorkerId) -> None:
        """Delete the worker's row."""
        self._run(DEREGISTER, text(worker))

    def reap(self, *, limit: int = 1000) -> Reaped:
        """Delete expired workers, then free what nobody holds any more."""
        return self._sweeper.reap(limit)

    def list_workers(self) -> list[WorkerRecord]:
        """Return all workers, the oldest first."""
        return [WorkerRecord(*row) for row in self._run(LIST)]

    def record_versions(self, versions: Sequence[WorkflowVersion]) -> None:
        """Keep the source of versions not known yet."""
        if versions:
            self._run(
                RECORD_VERSIONS,
                texts([version.name for version in versions]),
                texts([version.hash for version in versions]),
                integers([version.version for version in versions]),
                integers([version.retention_us for version in versions]),
                texts([version.source for version in versions]),
            )

    def source_of(self, name: str, version_hash: str) -> str | None:
        """Return a kept source."""
        rows = self._run(SOURCE_OF, text(name), text(version_hash))
        return str(rows[0][0]) if rows else None

    def _run(self, statement: Statement, *arguments: str) -> list[tuple[Any, ...]]:
        return self._database.run(statement, *arguments)
