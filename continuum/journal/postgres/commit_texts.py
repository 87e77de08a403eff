"""Here live the texts of the group commit: one statement that writes many runs, each wholly or not at all.

How one reads, in the order in which it happens:

1. ``input``: one row per run, numbered by its place in the batch. Everything else in the statement names its run by
   that number, so an id travels once and nothing has to be joined to find it.
2. ``locked``: the run rows, locked without waiting, that still have my owner, my token and the ``last_seq`` the
   decision was made on.
3. ``claims``: the task rows of local results, locked without waiting, that I still hold at that attempt.
   ``doomed`` and ``taken``: task rows nobody needs any more, and those of them that could be locked.
4. ``good``: for each run of the batch, whether all of it can be written. An array, because looking a run up in it by
   number costs nothing, and a generic plan cannot get it wrong.
5. Everything that is written asks ``good``.

The same statement is prepared in six texts, because a part that has nothing to do still costs the server its start:

* ``COMMIT``: many runs; results in, tasks out, ends. ``COMMIT_MAIL``: and messages that are consumed.
  ``COMMIT_DOOMED``: and tasks that are cancelled. ``COMMIT_FAMILY``: and all that reaches beyond a run's own rows, its
  children, letters, attributes and successor (see `commit_family_texts`).
* ``COMMIT_SINGLE``: one run, as scalars, little written. ``COMMIT_STEP``: and of its row only what an ordinary step
  changes. That is what a quiet system sends, step by step, in five sixths of ``COMMIT``'s time.

A run that ends needs no more than its columns: which of its tasks are left is known to the decision.

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

from typing import Final

from continuum.journal.postgres.commit_family_texts import ALL_WORN, BEQUEATHED, NO_TIP, REACH, WORN
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.wide import numbers, rows

__all__ = [
    "COMMIT",
    "COMMIT_DOOMED",
    "COMMIT_FAMILY",
    "COMMIT_MAIL",
    "COMMIT_SINGLE",
    "COMMIT_STEP",
    "ENDED_FLAG",
    "WOKE_FLAG",
]

WOKE_FLAG: Final = 1  # wake_at is to be written
ENDED_FLAG: Final = 2

# Numbers travel in wide arrays: see `wide`.
_RUN_NUMBERS: Final = ("token", "seen", "added", "done", "flags", "wake_us", "retention_us", "cancelled_us")
_EVENT_NUMBERS: Final = ("at_us", "seq", "command")  # after the place, in a batch
# ``claim``: how an order is inserted. 0 free, 1 claimed, more: dispatched, with a deadline of so many milliseconds.
_ORDER_NUMBERS: Final = ("claim", "command", "policy")


# -- what is locked, and what that says ------------------------------------------------------------------------------

# Both leave `good`: an array by place, or one value. ``$1`` is the worker, ``$2`` the run ids or the run's id.
_LOCKED_MANY: Final = f"""
    input as materialized (
        select i.run_id, i.state, i.adopted, i.place, {numbers("$3", "i.place", _RUN_NUMBERS)}
        from unnest($2::uuid[], $4::text[], $5::text[]) with ordinality as i(run_id, state, adopted, place)
    ), locked as materialized (
        select i.place from input i join continuum_runs r on r.id = i.run_id
        where r.lease_owner is not distinct from $1::uuid and r.lease_token = i.token and r.last_seq = i.seen
        for no key update of r skip locked
    ), claims as materialized (
        select d.place, t.run_id, t.command
        from {rows("$6", "place", "command", "attempt")} d
        join continuum_tasks t on t.run_id = ($2::uuid[])[d.place] and t.command = d.command::int
        where t.attempt = d.attempt and t.claimed_by is not distinct from $1::uuid and t.state = 'leased'
        for update of t skip locked
    {{doomed}}
    ), good as materialized (
        select array_agg(held = 1 and missing = 0 and left_over = 0 order by place) as runs
        from (
            select place, sum(lock) as held, sum(claim) as missing, sum(doom) as left_over from (
                select place, 0 as lock, -done as claim, 0 as doom from input
                union all select place, 1, 0, 0 from locked
                union all select place, 0, 1, 0 from claims
                {{all_taken}}
            ) counted group by place
        ) counts
    )"""
_DOOMED: Final = f"""
    ), doomed as materialized (
        select x.place, t.run_id, t.command from {rows("$22", "place", "command")} x
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
_LOCKED_ONE: Final = f"""
    locked as materialized (
        select 1 from continuum_runs r
        where r.id = $2::uuid and r.lease_owner is not distinct from $1::uuid
          and r.lease_token = {{token}} and r.last_seq = {{seen}}
        for no key update of r skip locked
    ), claims as materialized (
        select t.run_id, t.command
        from {rows("$5", "command", "attempt")} d
        join continuum_tasks t on t.run_id = $2::uuid and t.command = d.command::int
        where t.attempt = d.attempt and t.claimed_by is not distinct from $1::uuid and t.state = 'leased'
        for update of t skip locked
    ), good as materialized (
        select exists (select from locked) and (select count(*) from claims) = {{done}} as runs
    )"""

# -- what is written -------------------------------------------------------------------------------------------------

# ``{good}`` says whether the run of a row may be written, ``{run}`` is its id.
_WRITTEN: Final = """
    , written as (
        update continuum_runs r set
            last_seq = {seen} + {added},
            state = {state},
            grants = 0,
            stuck_reason = null,
            stuck_since = null,
            started_at = coalesce(r.started_at, now()){rare}
        {which}
    )"""
# What an ordinary step leaves as it is.
_RARE: Final = """,
            version_hash = coalesce({adopted}, r.version_hash),
            cancel_requested_at = case when {cancelled_us} < 0 then r.cancel_requested_at
                else coalesce(r.cancel_requested_at, 'epoch'::timestamptz + {cancelled_us} * interval '1 microsecond')
                end,
            wake_at = case when {flags} & 1 = 0 then r.wake_at
                when {wake_us} >= 0 then 'epoch'::timestamptz + {wake_us} * interval '1 microsecond' end,
            completed_at = case when {flags} & 2 <> 0 then now() end,
            retention_until = case when {flags} & 2 <> 0 and {retention_us} >= 0
                then now() + {retention_us} * interval '1 microsecond' end,
            lease_owner = case when {flags} & 2 = 0 then r.lease_owner end,
            lease_token = r.lease_token + ({flags} & 2) / 2"""
_EVENTS: Final = """
    , events as (
        insert into continuum_events (run_id, at_us, seq, command, type, name, payload, location)
        select {run}, x.at_us, x.seq, case when x.command >= 0 then x.command end, x.type, x.name, x.payload, x.location
        from ({rows}) x
        where {good}
    )"""
_EVENTS_MANY: Final = f"""
            select t.*, {numbers("$7", "t.n", ("place", *_EVENT_NUMBERS))}
            from unnest($8::text[], $9::text[], $10::json[], $11::text[]) with ordinality
                as t(type, name, payload, location, n)
"""
_EVENTS_ONE: Final = f"""
            select {numbers("$6", "n", _EVENT_NUMBERS)},
                   ($7::text[])[4 * n - 3] as type, ($7::text[])[4 * n - 2] as name,
                   ($7::text[])[4 * n - 1]::json as payload, ($7::text[])[4 * n] as location
            from generate_series(1, cardinality($6::bigint[]) / 3) n
"""
_TASKS: Final = """
    , gone as (
        delete from continuum_tasks t using {gone} x
        where t.run_id = x.run_id and t.command = x.command and {good}
    ), ordered as (
        insert into continuum_tasks (run_id, claimed_by, claimed_at, command, state, dispatch_no, dispatched_at,
                                     lease_expires_at, activity, arguments, idempotency_key, max_attempts, priority,
                                     queue, executor, policy)
        select {run}, case when x.claim > 0 then $1::uuid end, case when x.claim = 1 then now() end, x.command,
               case x.claim when 1 then 'leased' when 0 then 'available' else 'dispatched' end, (x.claim > 1)::int,
               case when x.claim > 1 then now() end,
               case when x.claim > 1 then clock_timestamp() + x.claim * interval '1 millisecond' end,
               x.activity, x.arguments, x.key, {policy}
        from ({rows}) x
        where {good}
    )"""
_ORDERS_MANY: Final = f"""
            select t.*, {numbers("$12", "t.n", ("place", *_ORDER_NUMBERS))}
            from unnest($13::text[], $14::json[], $15::text[]) with ordinality as t(activity, arguments, key, n)
"""
_ORDERS_ONE: Final = f"""
            select {numbers("$8", "n", _ORDER_NUMBERS)}, ($9::text[])[3 * n - 2] as activity,
                   ($9::text[])[3 * n - 1]::json as arguments, ($9::text[])[3 * n] as key
            from generate_series(1, cardinality($8::bigint[]) / 3) n
"""
_POLICY_MANY: Final = """
               ($16::bigint[])[2 * x.policy - 1], ($16::bigint[])[2 * x.policy],
               ($17::text[])[x.policy], ($18::text[])[x.policy], ($19::json[])[x.policy]"""
_POLICY_ONE: Final = """
               ($10::bigint[])[2 * x.policy - 1], ($10::bigint[])[2 * x.policy],
               ($11::text[])[3 * x.policy - 2], ($11::text[])[3 * x.policy - 1], ($11::text[])[3 * x.policy]::json"""
_MAIL: Final = f"""
    , consumed as (
        delete from continuum_inbox b
        using {rows("$20", "place", "id")} x
        where b.chain_id = ($21::uuid[])[x.place] and b.id = x.id and (select runs from good)[x.place]
    )"""
_NOW_US: Final = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"


def _many(name: str, *, mail: bool = False, doomed: bool = False, family: bool = False) -> Statement:
    """Return the text for a batch.

    ``family`` implies ``doomed``, which implies ``mail``, so that the parameters of one begin the next one's.
    """
    doomed = doomed or family
    good, run = "(select runs from good)[x.place]", "($2::uuid[])[x.place]"
    columns = {column: f"i.{column}" for column in (*_RUN_NUMBERS, "state", "adopted")}
    gone = "(select * from claims union all select * from taken)" if doomed else "claims"
    return Statement(
        name,
        "with"
        + _LOCKED_MANY.format(
            doomed=(_DOOMED if doomed else "") + (WORN if family else ""),
            all_taken=(_ALL_TAKEN if doomed else "") + (ALL_WORN if family else ""),
        )
        + _WRITTEN.format(
            **columns,
            rare=(_RARE + (NO_TIP if family else "")).format(**columns),
            which="from input i where r.id = i.run_id and (select runs from good)[i.place]"
            + (BEQUEATHED if family else ""),
        )
        + _EVENTS.format(run=run, good=good, rows=_EVENTS_MANY)
        + _TASKS.format(run=run, good=good, gone=gone, rows=_ORDERS_MANY, policy=_POLICY_MANY)
        + (_MAIL if mail or doomed else "")
        + (REACH if family else "")
        + f"select {_NOW_US}, (select array_agg(i.place) from input i where not (select runs from good)[i.place])",
    )


def _single(name: str, *, rare: bool) -> Statement:
    """Return the text for exactly one run: the same, without places. ``rare`` parameters are the last ones."""
    good, run = "(select runs from good)", "$2::uuid"
    columns = {column: f"($3::bigint[])[{at}]" for at, column in enumerate(_RUN_NUMBERS, 1)}
    columns |= {"state": "$4::text", "adopted": "$12::text"}
    return Statement(
        name,
        "with"
        + _LOCKED_ONE.format(**columns)
        + _WRITTEN.format(
            **columns, rare=_RARE.format(**columns) if rare else "", which=f"where r.id = {run} and {good}"
        )
        + _EVENTS.format(run=run, good=good, rows=_EVENTS_ONE)
        + _TASKS.format(run=run, good=good, gone="claims", rows=_ORDERS_ONE, policy=_POLICY_ONE)
        + f"select {_NOW_US}, case when not {good} then array[1] end",
    )


COMMIT: Final = _many("commit")
COMMIT_MAIL: Final = _many("commit_mail", mail=True)
COMMIT_DOOMED: Final = _many("commit_doomed", doomed=True)
COMMIT_FAMILY: Final = _many("commit_family", family=True)
COMMIT_SINGLE: Final = _single("commit_single", rare=True)
COMMIT_STEP: Final = _single("commit_step", rare=False)
