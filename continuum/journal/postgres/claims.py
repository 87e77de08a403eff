"""Here live the statements about grants: who gets a run, what comes with it, and how it is given back.

The form of each is what keeps its plan right whatever the tables hold (tests/plans): conditions that must be answered
by one index are put into a LATERAL subquery behind ``offset 0``, which the planner cannot turn inside out. Written as
plain joins the generic plan of the claim scans every event there is. ``is not distinct from`` compares what only has to
be checked, because no index can answer it.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from continuum.journal.postgres.codes import DUE, code_columns, codes, may_take
from continuum.journal.postgres.literals import ids, integer, integers, microseconds, text
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.snapshots import read_folded
from continuum.journal.requests import (
    ClaimRequest,
    InspectRequest,
    RegrantRequest,
    ReleaseRequest,
    StickRequest,
)
from continuum.model.events import Event
from continuum.model.ids import ChainId, RunId
from continuum.model.leases import ClaimedRun, Grant, GrantState
from continuum.model.messages import Message
from continuum.model.runs import ParentLink
from continuum.model.snapshots import SNAPSHOT_FORMAT

__all__ = [
    "CAN_MOVE",
    "CLAIM",
    "INSPECT",
    "LOAD",
    "NOW_US",
    "REGRANT",
    "RELEASE",
    "STICK",
    "claim_call",
    "inspect_call",
    "load_call",
    "read_claimed",
    "read_states",
    "regrant_call",
    "release_call",
    "stick_call",
]

_MICROSECONDS: Final = "(extract(epoch from {}) * 1000000)::bigint"
NOW_US: Final = _MICROSECONDS.format("clock_timestamp()")

# A stuck run waits out its back-off whatever arrives, or each message would make it spin.
CAN_MOVE: Final = """(r.state in ('pending', 'running', 'suspended')
                       or (r.state = 'stuck' and (r.wake_at is null or r.wake_at <= now())))"""

# What follows a CTE ``u`` of runs (id, chain_id, …, stale): one row per run (kind 0), per snapshot (3) instead of the
# events it covers, per event (1), per message (2). All of it is of one moment, so no event falls between.
_FOLDED: Final = 3
_LOAD: Final = f"""
    , f as materialized (
        select u.id, s.through_seq, s.format, s.body
        from u left join lateral (
            select s.through_seq, s.format, s.body from continuum_snapshots s
            where s.run_id = u.id and s.format between 1 and {SNAPSHOT_FORMAT} and {{folded}} offset 0
        ) s on true
    )
    select 0 as kind, u.id as run_id, u.lease_token as number, u.workflow as type, u.stale::int as command,
           u.version_hash as name,
           json_build_array(u.chain_id, u.namespace, u.version, u.last_seq, u.grants,
                            {_MICROSECONDS.format("u.wake_at")}, u.parent_id, u.parent_command)::text as payload,
           {NOW_US} as at_us, null::text as location
    from u
    union all
    select {_FOLDED}, f.id, f.through_seq, null, f.format, null, f.body, null, null
    from f where f.through_seq is not null
    union all
    select 1, f.id, e.seq, e.type, e.command, e.name, e.payload::text, e.at_us, e.location
    from f cross join lateral (
        select * from continuum_events e where e.run_id = f.id and e.seq > coalesce(f.through_seq, 0)
        order by e.seq offset 0
    ) e
    union all
    select 2, u.id, b.id, b.kind, b.command, b.name, b.payload::text, null, b.run_id::text
    from u cross join lateral (
        select * from continuum_inbox b where b.chain_id = u.chain_id order by b.id offset 0
    ) b
"""

_RUN_COLUMNS: Final = """r.id, r.chain_id, r.namespace, r.workflow, r.version, r.version_hash, r.lease_token,
                         r.last_seq, r.grants, r.wake_at, r.parent_id, r.parent_command"""

# The key-share lock on its own worker row keeps a dead worker from claiming: whoever deletes the row waits for the
# claim, or the claim finds no row. ``wake_at`` is not touched: what made the run move is gone only once a commit has
# consumed it. ``stale``: the row changed between the statement's snapshot and its lock, so the history read here is
# too old, and the line loads it again.
CLAIM: Final = Statement(
    "claim",
    f"""
    with recursive me as materialized (
        select id from continuum_workers where id = $1::uuid and expires_at > clock_timestamp() for key share
    ), {codes("$2::text[]", "$3::int[]", "$5::text[]")}
    , due as materialized (
        select d.id, d.wake_at
        from me cross join takeable c
        cross join lateral (
            select r.id, r.wake_at from continuum_runs r
            where {DUE}
            order by r.wake_at limit $4::int for no key update skip locked
        ) d
    ), mailed as materialized (
        select r.id
        from me cross join (select distinct chain_id from continuum_inbox) i
        cross join lateral (
            select r.id from continuum_runs r
            where r.chain_id = i.chain_id and r.is_tip and r.lease_owner is null and {CAN_MOVE}
              and {may_take("r.workflow", "r.version", "r.version_hash")}
            limit 1 for no key update skip locked
        ) r
        limit $4::int
    ), pick as materialized (
        select id from (
            (select id from due order by wake_at limit $4::int) union (select id from mailed)
        ) p order by id limit $4::int
    ), claimed as (
        update continuum_runs r set lease_owner = $1::uuid, lease_token = r.lease_token + 1, grants = r.grants + 1
        from pick where r.id = pick.id
        returning {_RUN_COLUMNS}
    ), u as materialized (
        select c.*, old.lease_token <> c.lease_token - 1 as stale
        from claimed c cross join lateral (
            select o.lease_token from continuum_runs o where o.id = c.id offset 0
        ) old
    )
    {_LOAD.format(folded="true")}
    """,
)

REGRANT: Final = Statement(
    "regrant",
    """
    update continuum_runs r set lease_token = r.lease_token + 1
    from (select * from unnest($2::uuid[], $3::bigint[]) g(id, token) order by id) g
    where r.id = g.id and r.lease_owner is not distinct from $1::uuid and r.lease_token = g.token
    """,
)

# Always a statement after the grant: its snapshot holds whatever the grant has waited for. With $4, only runs that were
# granted in this very transaction: the token asked for may be an older grant's plus one. With $5, from
# snapshots where there are any.
LOAD: Final = Statement(
    "load",
    f"""
    with u as materialized (
        select {_RUN_COLUMNS}, false as stale
        from unnest($2::uuid[], $3::bigint[]) g(id, token) join continuum_runs r on r.id = g.id
        where r.lease_owner is not distinct from $1::uuid and r.lease_token = g.token
          and (not $4::boolean or r.xmin = pg_current_xact_id_if_assigned()::xid)
    )
    {_LOAD.format(folded="$5::boolean")}
    """,
)

INSPECT: Final = Statement(
    "inspect",
    """
    select r.id, r.lease_owner, r.lease_token, r.last_seq
    from unnest($1::uuid[]) g(id) join continuum_runs r on r.id = g.id
    """,
)

RELEASE: Final = Statement(
    "release",
    """
    update continuum_runs r set lease_owner = null, lease_token = r.lease_token + 1
    from unnest($2::uuid[], $3::bigint[]) g(id, token)
    where r.id = g.id and r.lease_owner is not distinct from $1::uuid and r.lease_token = g.token
    returning r.id
    """,
)

# A release that knew no `stuck_since` has left some runs stuck without, and others with one of an earlier time.
_STUCK_SINCE: Final = "case when r.state = 'stuck' then coalesce(r.stuck_since, now()) else now() end"
# `greatest` leaves out what is null: no dispatcher has started, or the back-off does not grow.
STICK: Final = Statement(
    "stick",
    f"""
    update continuum_runs r set state = 'stuck', stuck_reason = $4::text, grants = $6::int, lease_owner = null,
        lease_token = r.lease_token + 1, stuck_since = {_STUCK_SINCE},
        wake_at = clock_timestamp() + greatest($5::bigint * interval '1 microsecond', least(
            case when $7::bigint is not null then now() - greatest({_STUCK_SINCE}, (
                select max(w.started_at) from continuum_workers w
                where w.expires_at > clock_timestamp() and r.workflow = any(w.workflows))) end,
            $7::bigint * interval '1 microsecond'))
    where r.id = $2::uuid and r.lease_owner is not distinct from $1::uuid and r.lease_token = $3::bigint
    returning r.id
    """,
)


# ------------------------------------------------------------------ calls


def claim_call(request: ClaimRequest) -> str:
    """Return the text that claims and loads."""
    names, versions, hashes = code_columns(request.workflows, request.hashes)
    return CLAIM.call(text(request.worker), names, versions, integer(request.limit), hashes)


def regrant_call(request: RegrantRequest) -> str:
    """Return the text that re-grants, then loads under the new tokens: two statements, one round trip."""
    grants = request.grants
    regrant = REGRANT.call(text(request.worker), *_grants(grants))
    raised = [Grant(grant.run_id, grant.token + 1) for grant in grants]
    return f"{regrant}; {LOAD.call(text(request.worker), *_grants(raised), 'true', 'true')}"


def load_call(worker: str, grants: Sequence[Grant]) -> str:
    """Return the text that loads runs held under these very grants, from their events alone."""
    return LOAD.call(text(worker), *_grants(grants), "false", "false")


def inspect_call(request: InspectRequest) -> str:
    """Return the text that reads grants."""
    return INSPECT.call(ids(request.run_ids))


def release_call(request: ReleaseRequest) -> str:
    """Return the text that gives runs back."""
    return RELEASE.call(text(request.worker), *_grants(request.grants))


def stick_call(request: StickRequest) -> str:
    """Return the text that marks a run stuck and gives it back."""
    return STICK.call(
        text(request.worker),
        text(request.grant.run_id),
        integer(request.grant.token),
        text(request.reason),
        microseconds(request.backoff),
        integer(request.grants),
        "null" if request.longest is None else microseconds(request.longest),
    )


def _grants(grants: Sequence[Grant]) -> tuple[str, str]:
    return ids([grant.run_id for grant in grants]), integers([grant.token for grant in grants])


# ------------------------------------------------------------------ replies

_read_row = msgspec.json.Decoder(
    tuple[str, str, int, int, int, int | None, RunId | None, int | None],
).decode


def read_claimed(rows: Iterable[tuple[Any, ...]], payloads: Payloads) -> tuple[list[ClaimedRun], list[Grant], int]:
    """Return the runs of a load, the grants among them that must be loaded again, and the database's time.

    Again: a history was read too early, or its snapshot cannot be read.
    """
    runs: dict[str, ClaimedRun] = {}
    stale: dict[str, Grant] = {}
    now = 0
    unreadable: dict[str, str] = {}
    folded: dict[str, int] = {}
    for kind, run_id, number, what, command, name, payload, at, location in rows:
        if kind == 1:
            body, reason = payloads.read(payload)
            if reason is not None:
                unreadable.setdefault(run_id, f"{reason} (event {number})")
            runs[run_id].events.append(Event(number, what, command, name, body, at, location))
        elif kind == 0:
            chain, namespace, version, last_seq, grants, wake_at, parent, started_by = _read_row(payload)
            now = at
            runs[run_id] = ClaimedRun(
                run_id,
                ChainId(chain),
                namespace,
                what,
                version,
                name,
                number,
                last_seq,
                grants,
                wake_at,
                [],
                [],
                parent=None if parent is None or started_by is None else ParentLink(parent, started_by),
            )
            if command:
                stale[run_id] = Grant(run_id, number)
        elif kind == _FOLDED:
            run = runs[run_id]
            events = read_folded(run, through_seq=number, number=command, stored=payload, payloads=payloads)
            if events is not None:
                run.events.extend(events)
                folded[run_id] = number
            else:
                stale[run_id] = Grant(run.run_id, run.token)
        else:
            run = runs[run_id]
            body, reason = payloads.read(payload)
            run.mail.append(Message(number, run.chain_id, location, what, command, name, body, reason))
    for run_id, reason in unreadable.items():
        runs[run_id] = msgspec.structs.replace(runs[run_id], unreadable=reason)
    for run_id, through_seq in folded.items():
        runs[run_id] = msgspec.structs.replace(runs[run_id], folded=through_seq)
    return list(runs.values()), list(stale.values()), now


def read_states(rows: Iterable[tuple[Any, ...]]) -> list[GrantState]:
    """Return what rows say about their owners."""
    return [GrantState(*row) for row in rows]
