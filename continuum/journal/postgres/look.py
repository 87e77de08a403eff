"""Here lives the reading of mail and the floor poll: what a lost hint should have said, in one statement.

Each part of the poll has a limit and is one or a few probes of an index, however many runs are parked (tests/plans).
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Iterable, Sequence
from typing import Any, Final

from continuum.journal.postgres.claims import CAN_MOVE, NOW_US
from continuum.journal.postgres.codes import DUE, code_columns, codes, may_take
from continuum.journal.postgres.literals import integer, text, texts
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.requests import LookReply, LookRequest, MailRequest
from continuum.model.leases import Grant
from continuum.model.messages import Message

__all__ = ["LOOK", "MAIL", "OVERDUE", "QUEUES", "look_call", "mail_call", "orphaned", "read_look", "read_messages"]

_MAIL: Final = """
    select b.id, b.chain_id, b.run_id, b.kind, b.command, b.name, b.payload::text
    from continuum_inbox b
    cross join lateral (
        select 1 from continuum_runs r
        where r.chain_id = b.chain_id and r.is_tip and r.lease_owner is not distinct from $1::uuid
        offset 0
    ) mine
    order by b.id limit $2::int
"""
MAIL: Final = Statement("mail", _MAIL)

# The queues asked for, or, if none are named, all in which a task is free: one probe of the index for each.
QUEUES: Final = """
    with recursive found as (
        (select t.queue as name from continuum_tasks t where {queues} is null and t.state = 'available'
         order by t.queue limit 1)
        union all
        select (select t.queue from continuum_tasks t where t.queue > f.name and t.state = 'available'
                order by t.queue limit 1)
        from found f where f.name is not null
    ), q as (
        select name from unnest({queues}) asked(name)
        union all
        select name from found where name is not null
    )
"""

# The order of each is that of the index that has to answer it: without one the planner may take the other.
_FREE_TASK: Final = f"""
    (
        exists (
            {QUEUES.format(queues="$5::text[]")}
            select 1 from q cross join lateral (
                select 1 from continuum_tasks t
                where t.queue = q.name and t.executor = 'local' and t.state = 'available' and t.available_at <= now()
                order by t.priority desc, t.available_at limit 1
            ) t
        ) or exists (
            select 1 from unnest($6::text[]) e(executor) cross join lateral (
                select 1 from continuum_tasks t
                where t.executor = e.executor and t.state = 'available' and t.available_at <= now()
                order by t.available_at limit 1
            ) t
        )
    )
"""
_CLAIMABLE: Final = f"""
    (
        exists (
            select 1 from takeable c cross join lateral (
                select 1 from continuum_runs r where {DUE}
                limit 1
            ) d
        ) or exists (
            select 1 from continuum_inbox i cross join lateral (
                select 1 from continuum_runs r
                where r.chain_id = i.chain_id and r.is_tip and r.lease_owner is null and {CAN_MOVE}
                  and {may_take("r.workflow", "r.version", "r.version_hash")}
                offset 0
            ) d
        )
    )
"""


def _skip_scan(table: str, column: str) -> str:
    """Return a recursive query body that lists the distinct values of an indexed column, one probe each."""
    return f"""
        (select {column} as holder from {table} where {column} is not null order by {column} limit 1)
        union all
        select (select {column} from {table} where {column} > s.holder order by {column} limit 1)
        from s where s.holder is not null
    """


def orphaned(table: str, column: str) -> str:
    """Return a query for the holders in a table that no longer exist."""
    return f"""
        with recursive s as ({_skip_scan(table, column)})
        select s.holder from s where s.holder is not null
          and not exists (select 1 from continuum_workers w where w.id = s.holder)
    """


# Nobody has claimed it in time, or it is over its time. Not `clock_timestamp()`, which no index can be asked for.
OVERDUE: Final = "t.lease_expires_at < now()"

LOOK: Final = Statement(
    "look",
    f"""
    with recursive mail as materialized ({_MAIL}),
    {codes("$3::text[]", "$4::int[]", "$7::text[]")},
    mine as materialized (
        select r.id, r.lease_token from (
            (select r.id from continuum_runs r
             where r.lease_owner = $1::uuid and r.wake_at is not null and r.wake_at <= now() limit $2::int)
            union
            (select r.id from (select distinct chain_id from mail) m cross join lateral (
                select r.id from continuum_runs r
                where r.chain_id = m.chain_id and r.is_tip and r.lease_owner is not distinct from $1::uuid offset 0) r)
        ) d cross join lateral (
            select r.id, r.lease_token from continuum_runs r
            where r.id = d.id and r.lease_owner is not distinct from $1::uuid offset 0
        ) r
        order by r.id limit $2::int
    )
    select 0 as kind, {NOW_US} as number, {_CLAIMABLE} as claimable, {_FREE_TASK} as tasks,
           (exists (select 1 from continuum_workers w where w.expires_at < clock_timestamp())
            or exists ({orphaned("continuum_runs", "lease_owner")})
            or exists ({orphaned("continuum_tasks", "claimed_by")})
            or exists (select 1 from continuum_tasks t where {OVERDUE})) as dead,
           null::uuid as chain_id, null::uuid as run_id, null::text as type, null::int as command,
           null::text as name, null::text as payload
    union all
    select 1, mine.lease_token, null, null, null, null, mine.id, null, null, null, null from mine
    union all
    select 2, mail.id, null, null, null, mail.chain_id, mail.run_id, mail.kind, mail.command, mail.name, mail.payload
    from mail
    """,
)


def mail_call(request: MailRequest) -> str:
    """Return the text that reads mail."""
    return MAIL.call(text(request.worker), integer(request.limit))


def look_call(request: LookRequest) -> str:
    """Return the text of the floor poll."""
    names, versions, hashes = code_columns(request.workflows, request.hashes)
    return LOOK.call(
        text(request.worker),
        integer(request.limit),
        names,
        versions,
        "null" if request.queues is None else texts(request.queues),
        texts(request.executors),
        hashes,
    )


def read_messages(rows: Iterable[tuple[Any, ...]], payloads: Payloads) -> list[Message]:
    """Return the messages of a mail request."""
    return [
        Message(number, chain, run_id, kind, command, name, *payloads.read(payload))
        for number, chain, run_id, kind, command, name, payload in rows
    ]


def read_look(rows: Sequence[tuple[Any, ...]], payloads: Payloads) -> tuple[LookReply, int]:
    """Return what the floor poll found, and the database's time."""
    claimable = tasks = dead = False
    now = 0
    messages: list[Message] = []
    due: list[Grant] = []
    for kind, number, *found, chain, run_id, what, command, name, payload in rows:
        if kind == 0:
            now, (claimable, tasks, dead) = number, found
        elif kind == 1:
            due.append(Grant(run_id, number))
        else:
            messages.append(Message(number, chain, run_id, what, command, name, *payloads.read(payload)))
    messages.sort(key=lambda message: message.id)
    return LookReply(messages, due, claimable, tasks, dead), now
