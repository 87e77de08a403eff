"""Here lives what pools ask: claiming tasks, and reporting how attempts ended. External executors: `dispatches`.

# Invariant: every write names (run, command, attempt, worker) and the state ``leased``. What does not match is stale,
writes nothing, and is told so. Nothing here locks a row of a run.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, exc

from continuum.journal.postgres.database import UNSET, Database, Session, translated
from continuum.journal.postgres.dispatches import PostgresDispatches, letter_of
from continuum.journal.postgres.literals import ids, integer, integers, microseconds, text, texts
from continuum.journal.postgres.look import QUEUES
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.task_rows import (
    FREE,
    MICROSECOND,
    MINE,
    NEXT_ATTEMPT,
    REFS,
    TASK,
    THIS,
    claim_of,
    expiry,
    letters,
    read_task,
    with_error,
)
from continuum.journal.protocol import TransactionalTask
from continuum.model.failures import Failure
from continuum.model.ids import RunId, WorkerId
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRecord, TaskRef
from continuum.telemetry.probes import probe

__all__ = ["CLAIM_TASKS", "FINISH", "HELD", "OF_RUN", "PROGRESS", "PUT_BACK", "RETRY", "PostgresTasks"]


# Each queue is asked by itself, so that a full one hides nothing; more may be locked than are taken, for a moment.
CLAIM_TASKS: Final = Statement(
    "claim_tasks",
    f"""
    {QUEUES.format(queues="$3::text[]")}, free as materialized (
        select f.* from q cross join lateral (
            select t.run_id, t.command, t.priority, t.available_at from continuum_tasks t
            where t.queue = q.name and t.executor = $2::text and t.state = 'available' and t.available_at <= now()
            order by t.priority desc, t.available_at
            limit least($5::int, coalesce(($4::int[])[array_position($3::text[], q.name)], $5::int))
            for update skip locked
        ) f
    ), best as materialized (
        select * from free order by priority desc, available_at, run_id, command limit $5::int
    ), claimed as (
        update continuum_tasks t set state = 'leased', claimed_by = $1::uuid, claimed_at = clock_timestamp()
        from best where t.run_id = best.run_id and t.command = best.command
        returning {TASK}, t.priority, t.available_at
    )
    select t.run_id, t.command, t.attempt, t.activity, t.arguments, t.policy, t.idempotency_key, t.heartbeat
    from claimed t order by t.priority desc, t.available_at, t.run_id, t.command
    """,
)

FINISH: Final = Statement(
    "finish",
    f"""
    with gone as (
        delete from continuum_tasks t where {THIS} returning t.run_id, t.command
    )
    {letters("$5::text", "$6::json")}
    returning id
    """,
)

# Kept although the claim may be gone: the effect has happened, and must not be repeated.
KEEP_RESULT: Final = Statement(
    "keep_result",
    """
    with kept as (
        insert into continuum_activity_results (activity, key, run_id, payload)
        values ($1::text, $2::text, $3::uuid, $4::json) on conflict do nothing returning payload::text
    )
    select payload from kept
    union all
    select payload::text from continuum_activity_results where activity = $1::text and key = $2::text
    """,
)
FIND_RESULT: Final = Statement(
    "find_result",
    "select payload::text from continuum_activity_results where activity = $1::text and key = $2::text",
)

RETRY: Final = Statement(
    "retry",
    f"""
    update continuum_tasks t set {NEXT_ATTEMPT},
        available_at = clock_timestamp() + $6::bigint * {MICROSECOND},
        errors = {with_error("$5::json")}
    where {THIS}
    returning 1
    """,
)

# A local pool watches its attempts itself; one in an external executor gets more time by each sign of life.
PROGRESS: Final = Statement(
    "progress",
    f"""
    update continuum_tasks t set heartbeat = coalesce($5::json, t.heartbeat), heartbeat_at = clock_timestamp(),
        lease_expires_at = case when t.lease_expires_at is not null
            then {expiry("t.claimed_at", "clock_timestamp()")} end
    where {THIS}
    returning 1
    """,
)

HELD: Final = Statement(
    "held",
    f"""
    select {TASK} from continuum_tasks t where t.claimed_by = $1::uuid and t.state = 'leased'
    order by t.run_id, t.command
    """,
)

PUT_BACK: Final = Statement(
    "put_back",
    f"""
    with picked as materialized (
        select v.run_id, v.command from {REFS.format(runs="$2", commands="$3", attempts="$4")} d
        cross join lateral (
            select t.run_id, t.command from continuum_tasks t
            where t.run_id = d.run_id and t.command = d.command and t.attempt = d.attempt and {MINE}
            for update
        ) v
    )
    update continuum_tasks t set {FREE}
    from picked p where t.run_id = p.run_id and t.command = p.command
    returning 1
    """,
)

OF_RUN: Final = Statement(
    "of_run",
    """
    select t.run_id, t.command, t.activity, t.queue, t.priority, t.state, t.attempt, t.max_attempts,
           (extract(epoch from t.available_at) * 1000000)::bigint, t.claimed_by,
           (extract(epoch from t.claimed_at) * 1000000)::bigint, t.heartbeat::text,
           (extract(epoch from t.heartbeat_at) * 1000000)::bigint, (t.errors -> -1)::text, t.executor, t.dispatch_no
    from continuum_tasks t where t.run_id = $1::uuid order by t.command
    """,
)


class PostgresTasks(PostgresDispatches):
    """``Journal.tasks``."""

    def claim(
        self, worker: WorkerId, *, queues: Mapping[str, int] | None, limit: int, executor: str = "local"
    ) -> list[ClaimedTask]:
        """Claim free due tasks, by priority, then age."""
        named = rooms = "null"
        if queues is not None:
            room = {name: most for name, most in queues.items() if most > 0}
            if not room:
                return []
            named, rooms = texts(list(room)), integers(room.values())
        rows = self._database.run(CLAIM_TASKS, text(worker), text(executor), named, rooms, integer(limit))
        return [read_task(row, self._payloads) for row in rows]

    def finish(self, worker: WorkerId, outcome: TaskOutcome) -> bool:
        """End the attempt and post its outcome."""
        with self._database.session() as session:
            return self.finish_in(session, worker, outcome)

    def finish_in(self, session: Session, worker: WorkerId, outcome: TaskOutcome) -> bool:
        """End the attempt on this session, whatever transaction it is in."""
        kind, payload = letter_of(outcome)
        claim = (text(worker), text(outcome.run_id), integer(outcome.command), integer(outcome.attempt))
        # Crash: before the answer the outcome may be posted or not; handing it in again posts it at most once.
        posted = session.run(FINISH, *claim, text(kind), text(self._payloads.wrap(payload)))
        return bool(posted)

    def finish_keyed(self, worker: WorkerId, outcome: TaskOutcome, *, key: str) -> tuple[bool, str]:
        """End the attempt with the first result ever stored under the key."""
        assert outcome.payload is not None, "only a success has a result to keep"
        with self._database.transaction() as session:
            winner = self._keep(session, outcome, key)
            # Crash: the result and the letter come together or not at all.
            probe("task.kept")
            first = TaskOutcome(outcome.run_id, outcome.command, outcome.attempt, outcome.activity, winner)
            held = self.finish_in(session, worker, first)
        return held, winner

    def _keep(self, session: Session, outcome: TaskOutcome, key: str) -> str:
        payload = text(self._payloads.wrap(outcome.payload))
        rows = session.run(KEEP_RESULT, text(outcome.activity), text(key), text(outcome.run_id), payload)
        if not rows:
            # It had to wait for another one's insert, and its snapshot is older than that.
            rows = session.run(FIND_RESULT, text(outcome.activity), text(key))
        return str(self._payloads.unwrap(rows[0][0]))

    def find_result(self, activity: str, key: str) -> str | None:
        """Return a kept result."""
        rows = self._database.run(FIND_RESULT, text(activity), text(key))
        return self._payloads.unwrap(rows[0][0]) if rows else None

    def retry(self, worker: WorkerId, task: ClaimedTask, *, failure: Failure, delay: timedelta) -> bool:
        """Free the task for its next attempt."""
        stored = text(self._payloads.wrap(failure.encode()))
        return bool(self._database.run(RETRY, *claim_of(worker, task), stored, microseconds(delay)))

    def progress(self, worker: WorkerId, task: ClaimedTask, *, details: str | None) -> bool:
        """Record a sign of life."""
        return bool(self._database.run(PROGRESS, *claim_of(worker, task), text(self._payloads.wrap(details))))

    def held(self, worker: WorkerId) -> list[ClaimedTask]:
        """Return the worker's claims."""
        return [read_task(row, self._payloads) for row in self._database.run(HELD, text(worker))]

    def put_back(self, worker: WorkerId, tasks: Sequence[ClaimedTask | TaskRef]) -> int:
        """Free tasks that have not begun."""
        if not tasks:
            return 0
        return len(
            self._database.run(
                PUT_BACK,
                text(worker),
                ids([task.run_id for task in tasks]),
                integers([task.command for task in tasks]),
                integers([task.attempt for task in tasks]),
            )
        )

    @contextmanager
    def transaction(self, worker: WorkerId) -> Iterator[TransactionalTask]:
        """Lend a SQLAlchemy connection whose transaction also takes the outcome."""
        connection = self._begin()
        try:
            transaction = _Transaction(self, self._database, connection, worker)
            yield transaction
            # Crash: what the activity wrote and its outcome come together or not at all.
            probe("task.transaction")
            with translated():
                connection.commit()
        finally:
            # What has not been committed is rolled back; a connection that broke is not put back.
            with suppress(exc.DBAPIError):
                connection.close()

    def _begin(self) -> Connection:
        with translated():
            connection = self._database.engine.connect()
            try:
                connection.execution_options(isolation_level="READ COMMITTED")
                connection.exec_driver_sql(UNSET)
            except BaseException:
                connection.close()
                raise
        return connection

    def of_run(self, run_id: RunId) -> list[TaskRecord]:
        """Return a run's tasks, by command."""
        unwrap = self._payloads.unwrap
        found = []
        for row in self._database.run(OF_RUN, text(run_id)):
            heartbeat, heartbeat_at, error = unwrap(row[11]), row[12], unwrap(row[13])
            last_error = None if error is None else Failure.parse(error)
            columns: list[Any] = [*row[:11], heartbeat, heartbeat_at, last_error, *row[14:]]
            found.append(TaskRecord(*columns))
        return found


class _Transaction:
    """A :class:`~continuum.journal.protocol.TransactionalTask`."""

    def __init__(self, tasks: PostgresTasks, database: Database, connection: Connection, worker: WorkerId) -> None:
        self.connection: Any = connection
        self._tasks = tasks
        self._database = database
        self._worker = worker

    def finish(self, outcome: TaskOutcome) -> bool:
        """End the attempt when the transaction commits. False: the claim is gone, all is undone."""
        with translated():
            driver = self.connection.connection.driver_connection
            session = Session(driver, self._database.names, self.connection.info.setdefault("prepared", set()))
            if self._tasks.finish_in(session, self._worker, outcome):
                return True
        self.connection.rollback()
        return False
