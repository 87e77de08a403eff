"""Here lives what clients ask: start, post, terminate.

Start and post are one statement each, which may ride in a caller's own transaction: neither locks a row of a run, and
no conflict ever becomes an error, for an error would undo the caller's work with it.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from continuum.errors import RunNotFound, RunTerminal
from continuum.journal.postgres import history
from continuum.journal.postgres.database import Database
from continuum.journal.postgres.joins import check_same_database, join
from continuum.journal.postgres.literals import integer, text
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.protocol import PostResult, RunPage
from continuum.model.clock import DatabaseClock
from continuum.model.events import Event
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import RunId
from continuum.model.messages import MESSAGE_KINDS, NewMessage
from continuum.model.runs import ENDED, NewRun, Run, RunState
from continuum.telemetry.probes import probe

__all__ = ["POST", "START", "START_KEYED", "PostgresRuns"]

_ENDED: Final = ", ".join(f"'{state}'" for state in sorted(ENDED))
_NOW_US: Final = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"

_INSERT: Final = f"""
    made as (
        insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, trace_context,
                                    idempotency_key, state, last_seq, wake_at)
        select $1::uuid, $1::uuid, $2::text, $3::text, $4::int, $5::text, $8::text, {{key}}, 'pending', 1, now()
        {{condition}}
        on conflict do nothing
        returning id
    ), began as (
        insert into continuum_events (run_id, seq, type, payload, at_us)
        select id, 1, 'run_started', $6::json, {_NOW_US} from made
    ), searchable as (
        insert into continuum_attributes (run_id, attributes)
        select id, $7::jsonb from made where $7::jsonb is not null
        on conflict do nothing
    )
"""
START: Final = Statement(
    "start",
    f"with {_INSERT.format(key='null', condition='')} select true, $1::uuid, {_NOW_US}",
)
START_KEYED: Final = Statement(
    "start_keyed",
    f"""
    with key as (
        insert into continuum_ingress_keys (namespace, workflow, key, run_id)
        select $2::text, $3::text, $9::text, $1::uuid
        where not exists (select 1 from continuum_runs where id = $1::uuid)
        on conflict do nothing
        returning run_id
    ), {_INSERT.format(key="$9::text", condition="from key")}
    select exists (select 1 from key) or exists (select 1 from continuum_runs where id = $1::uuid),
           (select run_id from continuum_ingress_keys
            where namespace = $2::text and workflow = $3::text and key = $9::text),
           {_NOW_US}
    """,
)
# For a start that had to wait for the other one: its own snapshot is older than the key it met.
FIND_KEY: Final = Statement(
    "find_key",
    """
    select run_id from continuum_ingress_keys where namespace = $1::text and workflow = $2::text and key = $3::text
    """,
)

POST: Final = Statement(
    "post",
    f"""
    with tip as materialized (
        select t.id, t.chain_id, t.state, t.state in ({_ENDED}) as ended
        from continuum_runs r join continuum_runs t on t.chain_id = r.chain_id and t.is_tip
        where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)
    ), delivery as (
        insert into continuum_delivery_ids (chain_id, name, delivery_id)
        select chain_id, coalesce($4::text, ''), $6::text from tip where $6::text is not null and not ended
        on conflict do nothing
        returning 1
    ), posted as (
        insert into continuum_inbox (chain_id, kind, name, payload)
        select chain_id, $3::text, $4::text, $5::json from tip
        where not ended and ($6::text is null or exists (select 1 from delivery))
        returning id
    )
    select id, state, ended, exists (select 1 from posted) from tip
    """,
)

LOCK_TIP: Final = Statement(
    "lock_tip",
    f"""
    select t.id, t.state, t.state in ({_ENDED})
    from continuum_runs r join continuum_runs t on t.chain_id = r.chain_id and t.is_tip
    where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)
    for no key update of t
    """,
)
# It waits for task rows, and so takes them in order of their key: see the invariant of `task_rows`.
TERMINATE: Final = Statement(
    "terminate",
    f"""
    with ended as (
        update continuum_runs r set state = 'terminated', last_seq = r.last_seq + 1, completed_at = clock_timestamp(),
            lease_owner = null, lease_token = r.lease_token + 1, wake_at = null, stuck_reason = null,
            retention_until = clock_timestamp() + interval '1 microsecond' * (
                select v.retention_us from continuum_workflow_versions v
                where v.name = r.workflow and v.hash = r.version_hash)
        where r.id = $1::uuid
        returning r.id, r.last_seq
    ), said as (
        insert into continuum_events (run_id, seq, type, payload, at_us)
        select id, last_seq, 'run_terminated', $2::json, {_NOW_US} from ended
    ), tasks as materialized (
        select t.command from continuum_tasks t where t.run_id = $1::uuid order by t.command for update
    )
    delete from continuum_tasks t using tasks x where t.run_id = $1::uuid and t.command = x.command
    """,
)


class PostgresRuns:
    """``Journal.runs``."""

    def __init__(self, database: Database, clock: DatabaseClock, payloads: Payloads) -> None:
        self._database = database
        self._clock = clock
        self._payloads = payloads
        # Connections of callers that have been seen to lead to this database.
        self._ours: WeakSet[Any] = WeakSet()

    def start(self, run: NewRun, *, connection: Any = None) -> tuple[RunId, bool]:
        """Write a run, once per run id and once per idempotency key."""
        arguments = [
            run.id,
            run.namespace,
            run.workflow,
            run.version,
            run.version_hash,
            self._payloads.wrap(run.started),
            run.attributes,
            run.trace_context,
        ]
        key = run.idempotency_key
        statement = START if key is None else START_KEYED
        if key is not None:
            arguments.append(key)
        asked = self._clock.monotonic_us()
        # Crash: before the answer the run may be there or not; starting the same id again changes nothing.
        [(made, first, now)] = self._run(statement, arguments, connection)
        probe("start.written")
        if connection is None:
            self._clock.observe(now, asked, self._clock.monotonic_us())
        if made:
            return run.id, True
        if first is None:
            [(first,)] = self._run(FIND_KEY, [run.namespace, run.workflow, key], connection)
        return RunId(first), first == run.id

    def post(self, message: NewMessage, *, connection: Any = None) -> PostResult:
        """Put a message into the inbox of the run's chain."""
        assert message.kind in MESSAGE_KINDS, message.kind
        payload = self._payloads.wrap(message.payload)
        found = self._run(
            POST,
            [message.run_id, message.namespace, message.kind, message.name, payload, message.delivery_id],
            connection,
        )
        if not found:
            raise _not_found(message.run_id, message.namespace)
        [(tip, state, ended, posted)] = found
        if ended:
            raise _terminal(tip, state)
        return PostResult.DELIVERED if posted else PostResult.DUPLICATE

    def terminate(self, run_id: RunId, *, namespace: str | None, reason: str) -> RunId:
        """End the tip of the run's chain without its code."""
        why = Failure("Terminated", reason, kind=FailureKind.CANCELLED).encode()
        with self._database.transaction() as session:
            # Waits for a commit of the run that is under way; the owner's next one is fenced by the risen token.
            found = session.run(LOCK_TIP, text(run_id), text(namespace))
            if not found:
                raise _not_found(run_id, namespace)
            [(tip, state, ended)] = found
            if ended:
                raise _terminal(tip, state)
            # Crash: nothing has been written yet; the lock goes with the connection.
            probe("terminate.locked")
            session.run(TERMINATE, text(tip), text(self._payloads.wrap(why)))
        return RunId(tip)

    def find(self, run_id: RunId, *, namespace: str | None = None, tip: bool = False) -> Run | None:
        """Return the run, or the tip of its chain."""
        return history.find_run(self._database, run_id, namespace=namespace, tip=tip)

    def list_runs(
        self,
        *,
        namespace: str | None = None,
        states: Sequence[RunState] = (),
        workflow: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return runs by falling id, that is, newest first."""
        return history.list_runs(
            self._database, namespace=namespace, states=states, workflow=workflow, limit=limit, cursor=cursor
        )

    def history(self, run_id: RunId, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """Return events of a run; none of a run that does not exist."""
        rows = self._database.run(history.HISTORY, text(run_id), integer(after), integer(limit))
        return history.read_events(rows, self._payloads)

    def outcomes(self, run_ids: Sequence[RunId]) -> Mapping[RunId, tuple[RunState, Event]]:
        """Return how chains ended, those that have."""
        return history.find_outcomes(self._database, run_ids, self._payloads)

    def _run(self, statement: Statement, arguments: list[Any], connection: Any) -> list[tuple[Any, ...]]:
        if connection is not None:
            joined = join(connection, self._database.names)
            if joined.physical not in self._ours:
                check_same_database(joined, self._database)
                self._ours.add(joined.physical)
            return joined.run(statement.sql, arguments)
        return self._database.run(
            statement, *[integer(one) if isinstance(one, int) else text(one) for one in arguments]
        )


def _not_found(run_id: RunId, namespace: str | None) -> RunNotFound:
    place = "" if namespace is None else f" in namespace {namespace!r}"
    return RunNotFound(f"there is no run {run_id}{place}", run_id=run_id)


def _terminal(run_id: RunId, state: str) -> RunTerminal:
    return RunTerminal(
        f"run {run_id} has ended ({state}); nothing can be sent to it any more", run_id=run_id, state=state
    )
