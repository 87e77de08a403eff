"""Here lives the reading of runs: their rows, their events, their outcomes."""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, Select, select

from continuum.journal.postgres import tables
from continuum.journal.postgres.database import Database, translated
from continuum.journal.postgres.literals import ids, text
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.model.events import TERMINAL, Event
from continuum.model.ids import ChainId, RunId, WorkerId, parse_run_id
from continuum.model.runs import ENDED, ParentClose, Run, RunState

__all__ = [
    "HISTORY",
    "OUTCOMES",
    "fetch_runs",
    "find_outcomes",
    "find_run",
    "outcomes_call",
    "read_events",
    "select_runs",
]

HISTORY: Final = Statement(
    "history",
    """
    select e.seq, e.type, e.command, e.name, e.payload::text, e.at_us, e.location from continuum_events e
    where e.run_id = $1::uuid and e.seq > $2::int order by e.seq limit $3::int
    """,
)

# Notes may follow the terminal event (mail that came too late), so it is looked for from the end. The range of the ids
# asked for says the same once more: known before the statement runs, it spares it the start of all other partitions.
# The tip of a chain may lie outside, and comes without its event then.
OUTCOMES: Final = Statement(
    "outcomes",
    f"""
    select g.id, t.id, t.state, e.seq, e.type, e.command, e.name, e.payload::text, e.at_us, e.location
    from unnest($1::uuid[]) g(id)
    cross join lateral (select r.chain_id from continuum_runs r where r.id = g.id offset 0) r
    cross join lateral (
        select t.id, t.state from continuum_runs t
        where t.chain_id = r.chain_id and t.is_tip and t.state in ({", ".join(f"'{one}'" for one in sorted(ENDED))})
        offset 0
    ) t
    left join lateral (
        select * from continuum_events e
        where e.run_id = t.id and e.run_id between $2::uuid and $3::uuid
          and e.type in ({", ".join(f"'{one}'" for one in sorted(TERMINAL))})
        order by e.seq desc limit 1
    ) e on true
    """,
)


def read_events(rows: Iterable[tuple[Any, ...]], payloads: Payloads) -> list[Event]:
    """Return events from rows of (seq, type, command, name, payload, at, location)."""
    return [
        Event(seq, kind, command, name, payloads.unwrap(payload), at, location)
        for seq, kind, command, name, payload, at, location in rows
    ]


def outcomes_call(run_ids: Sequence[str]) -> tuple[str, str, str]:
    """Return the arguments of ``OUTCOMES`` for some runs."""
    return ids(run_ids), text(min(run_ids)), text(max(run_ids))


def find_outcomes(
    database: Database, run_ids: Sequence[RunId], payloads: Payloads
) -> Mapping[RunId, tuple[RunState, Event]]:
    """Return how chains ended, those that have, by the ids that were asked for."""
    asked = [parse_run_id(run_id) for run_id in run_ids]
    found: dict[RunId, tuple[RunState, Event]] = {}
    tips: dict[RunId, RunId] = {}
    for run_id, tip, state, *row in database.run(OUTCOMES, *outcomes_call(asked)) if asked else ():
        if row[0] is None:
            tips[RunId(run_id)] = RunId(tip)
        else:
            [event] = read_events([tuple(row)], payloads)
            found[RunId(run_id)] = (RunState(state), event)
    if tips and not tips.keys() <= set(tips.values()):
        ends = find_outcomes(database, sorted(set(tips.values())), payloads)
        found.update((run_id, ends[tip]) for run_id, tip in tips.items() if tip in ends)
    return found


def find_run(database: Database, run_id: RunId, *, namespace: str | None, tip: bool) -> Run | None:
    """Return the run, or the tip of its chain."""
    asked = tables.runs
    seen = tables.runs.alias() if tip else asked
    query = select_runs(seen)
    if tip:
        query = query.join(asked, asked.c.chain_id == seen.c.chain_id).where(seen.c.is_tip)
    query = query.where(asked.c.id == run_id)
    if namespace is not None:
        query = query.where(asked.c.namespace == namespace)
    found = fetch_runs(database, query)
    return found[0] if found else None


def select_runs(seen: Any) -> Select[Any]:
    """Return the query for runs, with their attributes, that `fetch_runs` takes."""
    attributes = tables.attributes
    return select(seen, attributes.c.attributes).outerjoin_from(seen, attributes, attributes.c.run_id == seen.c.id)


def fetch_runs(database: Database, query: Select[Any], *, settings: str | None = None) -> list[Run]:
    """Return the runs of a query; with ``settings`` (``set local …``) it is planned under these."""
    options: dict[str, Any] = {"schema_translate_map": {None: database.names.schema}}
    if settings is not None:
        options["isolation_level"] = "READ COMMITTED"  # a transaction, for them to end with
    with translated(database.names), database.engine.connect() as connection:
        asking = connection.execution_options(**options)
        if settings is not None:
            asking.exec_driver_sql(settings)
        return [_read_run(row) for row in asking.execute(query)]


def _read_run(row: Row[Any]) -> Run:
    """Return the run of a row of `select_runs`."""
    return Run(
        id=RunId(row.id),
        chain_id=row.chain_id,
        namespace=row.namespace,
        workflow=row.workflow,
        version=row.version,
        version_hash=row.version_hash,
        state=RunState(row.state),
        last_seq=row.last_seq,
        created_at=_moment(row.created_at),
        started_at=_optional_moment(row.started_at),
        completed_at=_optional_moment(row.completed_at),
        wake_at=_optional_moment(row.wake_at),
        retention_until=_optional_moment(row.retention_until),
        stuck_reason=row.stuck_reason,
        stuck_since=_optional_moment(row.stuck_since),
        cancel_requested_at=_optional_moment(row.cancel_requested_at),
        idempotency_key=row.idempotency_key,
        trace_context=row.trace_context,
        lease_owner=None if row.lease_owner is None else WorkerId(row.lease_owner),
        lease_token=row.lease_token,
        grants=row.grants,
        is_tip=row.is_tip,
        parent_id=None if row.parent_id is None else RunId(row.parent_id),
        parent_chain_id=None if row.parent_chain_id is None else ChainId(row.parent_chain_id),
        parent_command=row.parent_command,
        parent_close=None if row.parent_close is None else ParentClose(row.parent_close),
        continued_from=None if row.continued_from is None else RunId(row.continued_from),
        attributes=row.attributes or {},
    )


def _moment(at: datetime) -> datetime:
    # The session's time zone is the database's; ours is UTC.
    return at.astimezone(UTC)


def _optional_moment(at: datetime | None) -> datetime | None:
    return None if at is None else _moment(at)
