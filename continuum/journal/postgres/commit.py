"""Here lives the group commit: one statement that writes many runs, each wholly or not at all.

How it reads, in the order in which it happens:

1. ``input``: one row per run, numbered by its place in the batch. Everything else in the statement names its run by
   that number, so an id travels once and nothing has to be joined to find it.
2. ``locked``: the run rows, locked without waiting, that still have my owner, my token and the ``last_seq`` the
   decision was made on.
3. ``claims``: the task rows of local results, locked without waiting, that I still hold at that attempt.
   ``doomed`` and ``taken``: task rows nobody needs any more (cancelled ones, all of an ended run), and those of them
   that could be locked. They are left out of the text when there can be none.
4. ``good``: for each run of the batch, whether all of it can be written. An array, because looking a run up in it by
   number costs nothing, and a generic plan cannot get it wrong.
5. Everything that is written asks ``good``.

# Invariant: it waits for nobody. Rows are taken with SKIP LOCKED; a run with a row that is locked elsewhere is left out
of the answer, unwritten. (``lock_timeout`` is the backstop.) Inbox rows are deleted by their run's owner only.
# Invariant: no key is inserted that somebody else could have inserted first: (run, seq) and (run, command) belong to
the owner, and the run row is locked.
# Invariant: no index is on a column that an ordinary step changes, so its update of the run row is HOT; ``wake_at`` and
``lease_owner`` are written with their old values except when they change.
# Invariant: rows are found by their keys. ``is not distinct from`` compares what only has to be checked, because no
index can answer it: a plain ``=`` makes the planner walk everything this worker owns (tests/plans).
# Crash: before the server has committed, nothing of the batch exists, afterwards all of it does; who holds the runs now
finds out by claiming them, and who sent the batch and lost its answer re-grants its runs to itself first.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Sequence
from typing import Final

from continuum.errors import JournalError
from continuum.journal.postgres.literals import NOTHING, ids, integers, sparse, text, texts, words
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.requests import CommitRequest
from continuum.model.decisions import Commit
from continuum.model.events import Event, EventType
from continuum.model.runs import ENDED
from continuum.model.tasks import TaskOrder

__all__ = ["COMMIT", "COMMIT_DOOMED", "LOCAL", "MAX_RUNS", "MAX_TEXT", "commit_call"]

MAX_RUNS: Final = 500
# A batch stays far below; one run's decision, which is never split, may be this large.
MAX_TEXT: Final = 64 * 1024 * 1024

LOCAL: Final = "local"  # the executor of an order that names none

_WOKE: Final = 1
_ENDED: Final = 2
_CANCEL: Final = EventType.CANCEL_REQUESTED
_NONE: Final = -1

# Numbers travel in a few wide arrays, row after row, and are read by subscript, which costs nothing where there is no
# NULL (-1 stands for it). Each further array of an ``unnest`` costs a store of its own, and each further parameter its
# parsing: together a quarter of a commit of one run. Texts have to be unnested: finding the n-th is a walk.
_RUN_NUMBERS: Final = ("token", "seen", "added", "done", "flags", "wake_us", "retention_us", "cancelled_us")
_EVENT_NUMBERS: Final = ("place", "at_us", "seq", "command")
_ORDER_NUMBERS: Final = ("place", "mine", "command", "policy")


def _numbers(parameter: str, row: str, names: Sequence[str]) -> str:
    """Return the columns of a wide array, each as a subscript of ``row`` (from 1)."""
    width = len(names)
    return ", ".join(
        f"({parameter}::bigint[])[{width} * {row} - {width - at}] as {name}" for at, name in enumerate(names, 1)
    )


def _rows(parameter: str, first: str, *others: str) -> str:
    """Return a wide array as a relation; planned as a row or two, so that what it joins is found by index."""
    width = len(others) + 1
    columns = "".join(f", ({parameter}::bigint[])[k + {at}] as {name}" for at, name in enumerate(others, 1))
    return (
        f"(select v as {first}{columns} from unnest({parameter}::bigint[]) with ordinality as x(v, k)"
        f" where k % {width} = 1)"
    )


# What only a batch needs in which a run ends or a task is cancelled. Without it a commit of one run takes a seventh
# less of the server's time, and most commits of a quiet system are such.
_DOOMED: Final = f"""
    ), doomed as materialized (
        select i.place, t.run_id, t.command from input i join continuum_tasks t on t.run_id = i.run_id
        where i.flags & 2 <> 0
        union all
        select x.place, t.run_id, t.command from {_rows("$7", "place", "command")} x
        join continuum_tasks t on t.run_id = ($2::uuid[])[x.place] and t.command = x.command::int
    ), taken as materialized (
        select d.place, t.run_id, t.command
        from doomed d join continuum_tasks t on t.run_id = d.run_id and t.command = d.command
        for update of t skip locked
"""
_ALL_TAKEN: Final = """
            union all select place, 0, 0, -1 from doomed
            union all select place, 0, 0, 1 from taken
"""


def _statement(name: str, *, doomed: bool) -> Statement:
    return Statement(
        name,
        f"""
    with input as materialized (
        select i.run_id, i.state, i.adopted, i.place, {_numbers("$3", "i.place", _RUN_NUMBERS)}
        from unnest($2::uuid[], $4::text[], $5::text[]) with ordinality as i(run_id, state, adopted, place)
    ), locked as materialized (
        select i.place from input i join continuum_runs r on r.id = i.run_id
        where r.lease_owner is not distinct from $1::uuid and r.lease_token = i.token and r.last_seq = i.seen
        for no key update of r skip locked
    ), claims as materialized (
        select d.place, t.run_id, t.command
        from {_rows("$6", "place", "command", "attempt")} d
        join continuum_tasks t on t.run_id = ($2::uuid[])[d.place] and t.command = d.command::int
        where t.attempt = d.attempt and t.claimed_by is not distinct from $1::uuid and t.state = 'leased'
        for update of t skip locked
    {_DOOMED if doomed else ""}
    ), good as materialized (
        select array_agg(held = 1 and missing = 0 and left_over = 0 order by place) as runs
        from (
            select place, sum(lock) as held, sum(claim) as missing, sum(doom) as left_over from (
                select place, 0 as lock, -done as claim, 0 as doom from input
                union all select place, 1, 0, 0 from locked
                union all select place, 0, 1, 0 from claims
                {_ALL_TAKEN if doomed else ""}
            ) counted group by place
        ) counts
    ), written as (
        update continuum_runs r set
            last_seq = i.seen + i.added,
            state = i.state,
            grants = 0,
            stuck_reason = null,
            started_at = coalesce(r.started_at, now()),
            version_hash = coalesce(i.adopted, r.version_hash),
            cancel_requested_at = case when i.cancelled_us < 0 then r.cancel_requested_at
                else coalesce(r.cancel_requested_at, 'epoch'::timestamptz + i.cancelled_us * interval '1 microsecond')
                end,
            wake_at = case when i.flags & 1 = 0 then r.wake_at
                when i.wake_us >= 0 then 'epoch'::timestamptz + i.wake_us * interval '1 microsecond' end,
            completed_at = case when i.flags & 2 <> 0 then now() end,
            retention_until = case when i.flags & 2 <> 0 and i.retention_us >= 0
                then now() + i.retention_us * interval '1 microsecond' end,
            lease_owner = case when i.flags & 2 = 0 then r.lease_owner end,
            lease_token = r.lease_token + (i.flags & 2) / 2
        from input i where r.id = i.run_id and (select runs from good)[i.place]
    ), events as (
        insert into continuum_events (run_id, at_us, seq, command, type, name, payload, location)
        select ($2::uuid[])[e.place], e.at_us, e.seq, case when e.command >= 0 then e.command end, e.type, e.name,
               e.payload, e.location
        from (
            select t.*, {_numbers("$8", "t.n", _EVENT_NUMBERS)}
            from unnest($9::text[], $10::text[], $11::json[], $12::text[]) with ordinality
                as t(type, name, payload, location, n)
        ) e
        where (select runs from good)[e.place]
    ), ended as (
        delete from continuum_tasks t
        using (select * from claims {"union all select * from taken" if doomed else ""}) c
        where t.run_id = c.run_id and t.command = c.command and (select runs from good)[c.place]
    ), ordered as (
        insert into continuum_tasks (run_id, claimed_by, claimed_at, command, max_attempts, priority, state, activity,
                                     queue, executor, arguments, policy, idempotency_key)
        select ($2::uuid[])[o.place], case when o.mine = 1 then $1::uuid end, case when o.mine = 1 then now() end,
               o.command, ($17::bigint[])[2 * o.policy - 1], ($17::bigint[])[2 * o.policy],
               case when o.mine = 1 then 'leased' else 'available' end,
               o.activity, ($18::text[])[o.policy], ($19::text[])[o.policy], o.arguments, ($20::json[])[o.policy], o.key
        from (
            select t.*, {_numbers("$13", "t.n", _ORDER_NUMBERS)}
            from unnest($14::text[], $15::json[], $16::text[]) with ordinality as t(activity, arguments, key, n)
        ) o
        where (select runs from good)[o.place]
    ), consumed as (
        delete from continuum_inbox b
        using {_rows("$21", "place", "id")} m
        where b.chain_id = ($22::uuid[])[m.place] and b.id = m.id and (select runs from good)[m.place]
    )
    select (extract(epoch from clock_timestamp()) * 1000000)::bigint,
           (select array_agg(i.place) from input i where not (select runs from good)[i.place])
           {"" if doomed else ", $7::bigint[]"}
    """,  # a statement has to use each of its parameters
    )


COMMIT: Final = _statement("commit", doomed=False)
COMMIT_DOOMED: Final = _statement("commit_doomed", doomed=True)


def commit_call(request: CommitRequest, payloads: Payloads) -> str:
    """Return the text that executes the commit.

    Raises ``ValueError`` for a batch of too many runs, or that holds a run twice, and ``JournalError`` for a text that
    is too long.
    """
    commits = request.commits
    if len(commits) > MAX_RUNS:
        raise ValueError(f"{len(commits)} runs in one commit are more than {MAX_RUNS}: send several")
    columns = _Columns(payloads)
    for place, commit in enumerate(commits, 1):
        columns.add(place, commit)
    call = columns.call(request.worker)
    if len(call) > MAX_TEXT:
        raise JournalError(f"a commit of {len(call):,} characters is larger than {MAX_TEXT:,}: send fewer runs at once")
    return call


class _Columns:
    """The columns of a batch, filled run by run. This is the hot path of the turns thread: lists, no rows."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._doomed = False
        self.ids: list[str] = []
        self.chains: list[str] = []
        self.states: list[str] = []
        self.adopted: list[str | None] = []
        self.run_numbers: list[int] = []
        self.finished: list[int] = []
        self.cancelled: list[int] = []
        self.event_numbers: list[int] = []
        self.types: list[str] = []
        self.names: list[str | None] = []
        self.bodies: list[str | None] = []
        self.locations: list[str | None] = []
        self.order_numbers: list[int] = []
        self.orders: list[TaskOrder] = []
        # By identity: calls of one activity share the policy of its declaration.
        self.policies: dict[int, tuple[int, TaskOrder]] = {}
        self.mail: list[int] = []

    def add(self, place: int, commit: Commit) -> None:
        """Take in one run."""
        decision = commit.decision
        ended = decision.state in ENDED
        wake, retention = decision.wake_at, commit.retention_us
        flags = _ENDED | _WOKE if ended else _WOKE if commit.woke else 0
        cancelled = self._add_events(place, decision.events)
        self.ids.append(commit.run_id)
        self.chains.append(commit.chain_id)
        self.states.append(decision.state)
        self.adopted.append(commit.adopted_hash)
        self.run_numbers += (
            commit.token,
            commit.seen,
            len(decision.events),
            len(commit.finished),
            flags,
            _NONE if wake is None or ended else wake,
            _NONE if retention is None else retention,
            cancelled,
        )
        if ended:
            self._doomed = True
        elif decision.orders:  # what an ended run still asked for will never be awaited
            self._add_orders(place, commit)
        for command, attempt in commit.finished:
            self.finished += (place, command, attempt)
        for command in decision.cancelled:
            self._doomed = True
            self.cancelled += (place, command)
        for number in commit.consumed:
            self.mail += (place, number)

    def _add_events(self, place: int, events: Sequence[Event]) -> int:
        """Take in a run's events; return when its cancellation was requested."""
        cancelled = _NONE
        for event in events:
            command, kind = event.command, event.type
            self.event_numbers += (place, event.at, event.seq, _NONE if command is None else command)
            self.types.append(kind)
            self.names.append(event.name)
            self.bodies.append(event.payload)
            self.locations.append(event.location)
            if kind == _CANCEL and cancelled == _NONE:
                cancelled = event.at
        return cancelled

    def _add_orders(self, place: int, commit: Commit) -> None:
        for order in commit.decision.orders:
            known = self.policies.get(id(order.policy))
            if known is None:
                known = self.policies[id(order.policy)] = (len(self.policies) + 1, order)
            self.order_numbers += (place, order.command in commit.claimed, order.command, known[0])
            self.orders.append(order)

    def call(self, worker: str) -> str:
        """Return the text."""
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("a run is in this commit twice: make one decision of both")
        return (COMMIT_DOOMED if self._doomed else COMMIT).call(
            text(worker),
            ids(self.ids),
            integers(self.run_numbers),
            words(self.states),
            sparse(self.adopted),
            integers(self.finished),
            integers(self.cancelled),
            integers(self.event_numbers),
            words(self.types),
            sparse(self.names),
            sparse(self._payloads.wrap_all(self.bodies)),
            sparse(self.locations),
            *self._order_columns(),
            integers(self.mail),
            ids(self.chains) if self.mail else NOTHING,
        )

    def _order_columns(self) -> tuple[str, ...]:
        orders = self.orders
        if not orders:
            return (NOTHING,) * 8
        firsts = [order for _, order in self.policies.values()]
        policies = [order.policy for order in firsts]
        return (
            integers(map(int, self.order_numbers)),
            texts([order.activity for order in orders]),
            texts(self._payloads.wrap_all([order.arguments for order in orders])),
            sparse([order.idempotency_key for order in orders]),
            integers([number for one in policies for number in (one.retry.max_attempts, one.priority)]),
            texts([policy.queue for policy in policies]),
            texts([policy.executor or LOCAL for policy in policies]),
            texts([order.policy_text for order in firsts]),
        )
