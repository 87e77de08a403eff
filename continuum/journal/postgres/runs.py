"""Here lives what clients ask: start, post, terminate.

Start and post are one statement each, which may ride in a caller's own transaction: neither locks a row of a run, and
no conflict ever becomes an error, for an error would undo the caller's work with it.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from continuum.journal.postgres import history
from continuum.journal.postgres.attributes import find_published, merge_attributes, tip_of
from continuum.journal.postgres.database import Database
from continuum.journal.postgres.joins import check_same_database, join
from continuum.journal.postgres.literals import integer, text
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.patches import find_patches
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.relatives import ENDED_STATES
from continuum.journal.postgres.search import find_descendants, search_runs
from continuum.journal.postgres.terminations import not_found, run_ended, terminate_run
from continuum.journal.protocol import PostResult, RunPage
from continuum.model.clock import DatabaseClock
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.messages import MESSAGE_KINDS, NewMessage
from continuum.model.patches import PatchUse
from continuum.model.runs import NewRun, Run, RunState
from continuum.model.search import Query
from continuum.telemetry.probes import probe

__all__ = ["CONTRACT", "POST", "START", "START_KEYED", "PostgresRuns"]

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
        select t.id, t.chain_id, t.state, t.state in ({ENDED_STATES}) as ended
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

CONTRACT: Final = Statement(
    "contract",
    """
    select v.signals::text
    from (select r.chain_id from continuum_runs r
          where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)) r
    join continuum_runs t on t.chain_id = r.chain_id and t.is_tip
    left join continuum_workflow_versions v on v.name = t.workflow and v.hash = t.version_hash
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
            raise not_found(message.run_id, message.namespace)
        [(tip, state, ended, posted)] = found
        if ended:
            raise run_ended(tip, state)
        return PostResult.DELIVERED if posted else PostResult.DUPLICATE

    def terminate(self, run_id: RunId, *, namespace: str | None, reason: str) -> RunId:
        """End the tip of the run's chain without its code."""
        return terminate_run(self._database, self._payloads, run_id, namespace=namespace, reason=reason)

    def contract(self, run_id: RunId, *, namespace: str | None = None, connection: Any = None) -> str | None:
        """Return the contract of the signals of the tip of the run's chain."""
        found = self._run(CONTRACT, [run_id, namespace], connection)
        if not found:
            raise not_found(run_id, namespace)
        contract: str | None = found[0][0]
        return contract

    def find(self, run_id: RunId, *, namespace: str | None = None, tip: bool = False) -> Run | None:
        """Return the run, or the tip of its chain."""
        return history.find_run(self._database, run_id, namespace=namespace, tip=tip)

    def search(self, query: Query) -> RunPage:
        """Return a page of runs."""
        return search_runs(self._database, query)

    def set_attributes(self, run_id: RunId, attributes: str, *, namespace: str | None = None) -> None:
        """Merge attributes into those of the tip of the run's chain."""
        merge_attributes(self._database, run_id, attributes, namespace=namespace)

    def published(self, run_id: RunId, *, namespace: str | None = None) -> Mapping[str, Event]:
        """Return what the tip of the run's chain published last, by name."""
        return find_published(self._database, self._payloads, run_id, namespace=namespace)

    def descendants(self, run_id: RunId, *, namespace: str | None = None, limit: int) -> Sequence[Run]:
        """Return the tips of the chains below the run's chain, parents first."""
        tip_of(self._database, run_id, namespace=namespace)
        return find_descendants(self._database, run_id, limit=limit)

    def patches(self) -> Sequence[PatchUse]:
        """Return the open runs, counted, by what they have answered to ``patched``."""
        return find_patches(self._database)

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
