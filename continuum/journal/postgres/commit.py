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

from collections.abc import Sequence
from typing import Any, Final

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

_Lists = tuple[list[Any], ...]

# What only a batch needs in which a run ends or a task is cancelled. Without it a commit of one run takes a seventh
# less of the server's time, and most commits of a quiet system are such.
_DOOMED: Final = """
    ), doomed as materialized (
        select i.place, t.run_id, t.command from input i join continuum_tasks t on t.run_id = i.run_id
        where i.flags & 2 <> 0
        union all
        select x.place, t.run_id, t.command from unnest($16::int[], $17::int[]) x(place, command)
        join continuum_tasks t on t.run_id = ($2::uuid[])[x.place] and t.command = x.command
    ), taken as materialized (
        select d.place, t.run_id, t.command
        from doomed d join continuum_tasks t on t.run_id = d.run_id and t.command = d.command
        for update of t skip locked
"""
_ALL_TAKEN: Final = """
        left join (select place, count(*) as n from doomed group by place) d on d.place = i.place
        left join (select place, count(*) as n from taken group by place) t on t.place = i.place
"""


def _statement(name: str, *, doomed: bool) -> Statement:
    sql = _COMMIT
    for mark, text_of_it in (
        ("/* doomed */", _DOOMED if doomed else ""),
        ("/* all taken */", _ALL_TAKEN if doomed else ""),
        ("/* and all taken */", "and coalesce(d.n, 0) = coalesce(t.n, 0)" if doomed else ""),
        ("/* and taken */", "union all select * from taken" if doomed else ""),
        # A statement has to use each of its parameters.
        ("/* unused */", "" if doomed else ", $16::int[], $17::int[]"),
    ):
        sql = sql.replace(mark, text_of_it)
    return Statement(name, sql)


_COMMIT: Final = """
    with input as materialized (
        select * from unnest($2::uuid[], $3::bigint[], $4::int[], $5::int[], $6::int[], $7::text[], $8::int[],
                             $9::bigint[], $10::bigint[], $11::bigint[], $12::text[])
            with ordinality
            as i(run_id, token, seen, added, done, state, flags, wake_us, retention_us, cancelled_us, adopted, place)
    ), locked as materialized (
        select i.place from input i join continuum_runs r on r.id = i.run_id
        where r.lease_owner is not distinct from $1::uuid and r.lease_token = i.token and r.last_seq = i.seen
        for no key update of r skip locked
    ), claims as materialized (
        select d.place, t.run_id, t.command
        from unnest($13::int[], $14::int[], $15::int[]) d(place, command, attempt)
        join continuum_tasks t on t.run_id = ($2::uuid[])[d.place] and t.command = d.command and t.attempt = d.attempt
        where t.claimed_by is not distinct from $1::uuid and t.state = 'leased'
        for update of t skip locked
    /* doomed */
    ), good as materialized (
        select array_agg(l.place is not null and i.done = coalesce(c.n, 0) /* and all taken */
                         order by i.place) as runs
        from input i
        left join locked l on l.place = i.place
        left join (select place, count(*) as n from claims group by place) c on c.place = i.place
        /* all taken */
    ), written as (
        update continuum_runs r set
            last_seq = i.seen + i.added,
            state = i.state,
            grants = 0,
            stuck_reason = null,
            started_at = coalesce(r.started_at, now()),
            version_hash = coalesce(i.adopted, r.version_hash),
            cancel_requested_at = case when i.cancelled_us is null then r.cancel_requested_at
                else coalesce(r.cancel_requested_at, 'epoch'::timestamptz + i.cancelled_us * interval '1 microsecond')
                end,
            wake_at = case when i.flags & 1 <> 0 then 'epoch'::timestamptz + i.wake_us * interval '1 microsecond'
                else r.wake_at end,
            completed_at = case when i.flags & 2 <> 0 then now() end,
            retention_until = case when i.flags & 2 <> 0 then now() + i.retention_us * interval '1 microsecond' end,
            lease_owner = case when i.flags & 2 = 0 then r.lease_owner end,
            lease_token = r.lease_token + (i.flags & 2) / 2
        from input i where r.id = i.run_id and (select runs from good)[i.place]
    ), events as (
        insert into continuum_events (run_id, at_us, seq, command, type, name, payload, location)
        select ($2::uuid[])[e.place], e.at_us, e.seq, e.command, e.type, e.name, e.payload, e.location
        from unnest($18::int[], $19::bigint[], $20::int[], $21::int[], $22::text[], $23::text[], $24::json[],
                    $25::text[]) e(place, at_us, seq, command, type, name, payload, location)
        where (select runs from good)[e.place]
    ), ended as (
        delete from continuum_tasks t
        using (select * from claims /* and taken */) c
        where t.run_id = c.run_id and t.command = c.command and (select runs from good)[c.place]
    ), ordered as (
        insert into continuum_tasks (run_id, claimed_by, claimed_at, command, max_attempts, priority, state, activity,
                                     queue, executor, arguments, policy, idempotency_key)
        select ($2::uuid[])[o.place], case when o.mine then $1::uuid end, case when o.mine then now() end, o.command,
               ($32::int[])[o.policy], ($33::int[])[o.policy], case when o.mine then 'leased' else 'available' end,
               o.activity, ($34::text[])[o.policy], ($35::text[])[o.policy], o.arguments, ($36::json[])[o.policy], o.key
        from unnest($26::int[], $27::boolean[], $28::int[], $29::int[], $30::text[], $31::json[], $40::text[])
            o(place, mine, command, policy, activity, arguments, key)
        where (select runs from good)[o.place]
    ), consumed as (
        delete from continuum_inbox b
        using unnest($37::int[], $38::uuid[], $39::bigint[]) m(place, chain_id, id)
        where b.chain_id = m.chain_id and b.id = m.id and (select runs from good)[m.place]
    )
    select (extract(epoch from clock_timestamp()) * 1000000)::bigint,
           (select array_agg(i.place) from input i where not (select runs from good)[i.place])
           /* unused */
    """
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
    """The columns of a batch, filled run by run. This is the hot path of the turns thread: 40 lists, no rows."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._doomed = self._rare = False
        self.runs: _Lists = tuple([] for _ in range(11))
        self.finished: _Lists = ([], [], [])
        self.cancelled: _Lists = ([], [])
        self.events: _Lists = tuple([] for _ in range(8))
        self.orders: _Lists = tuple([] for _ in range(7))
        # By identity: calls of one activity share the policy of its declaration.
        self.policies: dict[int, tuple[int, TaskOrder]] = {}
        self.mail: _Lists = ([], [], [])

    def add(self, place: int, commit: Commit) -> None:
        """Take in one run."""
        decision = commit.decision
        events = decision.events
        ended = decision.state in ENDED
        flags = _ENDED | _WOKE if ended else _WOKE if commit.woke else 0
        ids_, tokens, seens, added, done, states, all_flags, wakes, retentions, cancels, adopted = self.runs
        ids_.append(commit.run_id)
        tokens.append(commit.token)
        seens.append(commit.seen)
        added.append(len(events))
        done.append(len(commit.finished))
        states.append(decision.state)
        all_flags.append(flags)
        adopted.append(commit.adopted_hash)
        wakes.append(None if ended else decision.wake_at)
        retentions.append(commit.retention_us if ended else None)
        cancels.append(self._add_events(place, events))
        self._rare = self._rare or flags != 0
        self._doomed = self._doomed or ended
        if decision.orders and not ended:  # what an ended run still asked for will never be awaited
            self._add_orders(place, commit)
        for command, attempt in commit.finished:
            _append(self.finished, place, command, attempt)
        for command in decision.cancelled:
            self._doomed = True
            _append(self.cancelled, place, command)
        for number in commit.consumed:
            _append(self.mail, place, commit.chain_id, number)

    def _add_events(self, place: int, events: Sequence[Event]) -> int | None:
        places, ats, seqs, commands, types, names, bodies, locations = self.events
        cancelled: int | None = None
        for event in events:
            places.append(place)
            ats.append(event.at)
            seqs.append(event.seq)
            commands.append(event.command)
            types.append(event.type)
            names.append(event.name)
            bodies.append(event.payload)
            locations.append(event.location)
            if event.type == _CANCEL:
                cancelled = event.at if cancelled is None else cancelled
                self._rare = True
        return cancelled

    def _add_orders(self, place: int, commit: Commit) -> None:
        places, mine, commands, policies, activities, arguments, keys = self.orders
        for order in commit.decision.orders:
            known = self.policies.get(id(order.policy))
            if known is None:
                known = self.policies[id(order.policy)] = (len(self.policies) + 1, order)
            places.append(place)
            mine.append("t" if order.command in commit.claimed else "f")
            commands.append(order.command)
            policies.append(known[0])
            activities.append(order.activity)
            arguments.append(order.arguments)
            keys.append(order.idempotency_key)

    def call(self, worker: str) -> str:
        """Return the text."""
        ids_, tokens, seens, added, done, states, flags, wakes, retentions, cancels, adopted = self.runs
        if len(set(ids_)) != len(ids_):
            raise ValueError("a run is in this commit twice: make one decision of both")
        rare = (integers(wakes), integers(retentions), integers(cancels)) if self._rare else (NOTHING,) * 3
        places, ats, seqs, commands, types, names, bodies, locations = self.events
        wrap_all = self._payloads.wrap_all
        order_columns, key = self._order_columns()
        return (COMMIT_DOOMED if self._doomed else COMMIT).call(
            text(worker),
            ids(ids_),
            integers(tokens),
            integers(seens),
            integers(added),
            integers(done),
            words(states),
            integers(flags),
            *rare,
            sparse(adopted),
            *([integers(column) for column in self.finished] if self.finished[0] else (NOTHING,) * 3),
            *([integers(column) for column in self.cancelled] if self.cancelled[0] else (NOTHING,) * 2),
            integers(places),
            integers(ats),
            integers(seqs),
            integers(commands),
            words(types),
            sparse(names),
            sparse(wrap_all(bodies)),
            sparse(locations),
            *order_columns,
            *self._mail_columns(),
            key,
        )

    def _order_columns(self) -> tuple[tuple[str, ...], str]:
        places, mine, commands, numbers, activities, arguments, keys = self.orders
        if not places:
            return (NOTHING,) * 11, NOTHING
        firsts = [order for _, order in self.policies.values()]
        policies = [order.policy for order in firsts]
        columns = (
            integers(places),
            words(mine),
            integers(commands),
            integers(numbers),
            texts(activities),
            texts(self._payloads.wrap_all(arguments)),
            integers([policy.retry.max_attempts for policy in policies]),
            integers([policy.priority for policy in policies]),
            texts([policy.queue for policy in policies]),
            texts([policy.executor or LOCAL for policy in policies]),
            texts([order.policy_text for order in firsts]),
        )
        return columns, sparse(keys)

    def _mail_columns(self) -> tuple[str, str, str]:
        places, chains, numbers = self.mail
        return (integers(places), ids(chains), integers(numbers)) if places else (NOTHING, NOTHING, NOTHING)


def _append(columns: _Lists, *values: Any) -> None:
    for column, value in zip(columns, values, strict=True):
        column.append(value)
