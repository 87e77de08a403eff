"""Here lives the half of ``Journal.tasks`` that is for external executors: marking, claiming by name, ending many.

A free row is marked as dispatched before it is published, so that what a broker loses is found by its deadline. Whoever
gets the message claims the row by its key and attempt, whatever mark it bears. Nothing here locks a row of a run.

What happens when two meet (see also the invariant of `task_rows`):

* *dispatch* and any other claimant: the row is skipped. A commit that cancels the task meanwhile is left out and sent
  again, as it is when a pool claims.
* *claim_dispatched* waits, for milliseconds, and then sees what became of the row: claimed by a duplicate of the
  message, cancelled, one attempt on → no claim; offered again by the reaper or by ``defer``, left behind by
  ``hand_over`` → a claim. Skipped, the message would be lost and the task would wait out its deadline.
* *finish_many*, *abandon* wait for the same reason: an outcome may not be lost to a lock. After a sweep a success
  finds the next attempt unbegun, and ends it; a failure finds nothing of its own.
* *defer*, *hand_over*: the row is skipped. Somebody is just claiming, cancelling or offering it.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from continuum.journal.postgres.database import Database
from continuum.journal.postgres.literals import ids, integer, integers, microseconds, text, texts, words
from continuum.journal.postgres.look import QUEUES
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.task_rows import (
    ALIVE,
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
    policy_of,
    read_task,
    with_error,
)
from continuum.journal.protocol import LONGEST_DISPATCH_DEADLINE, Dispatches
from continuum.model.events import EventType
from continuum.model.failures import TIMEOUTS, Failure
from continuum.model.ids import WorkerId
from continuum.model.tasks import ClaimedTask, DispatchedTask, TaskOutcome, TaskRef

__all__ = [
    "ABANDON",
    "CLAIM_DISPATCHED",
    "DEFER",
    "DISPATCH",
    "FINISH_MANY",
    "HAND_OVER",
    "UNDELIVERED",
    "PostgresDispatches",
    "letter_of",
]

_AT_US: Final = "(extract(epoch from {}) * 1000000)::bigint"

# As `claim_tasks`, with room for queues that are not named. Each dispatch doubles the deadline, up to the longest. The
# last row is always there: whether more are due, and when the next one will be.
DISPATCH: Final = Statement(
    "dispatch",
    f"""
    {QUEUES.format(queues="null::text[]")}, free as materialized (
        select f.* from q cross join lateral (
            select t.run_id, t.command, t.priority, t.available_at from continuum_tasks t
            where {ALIVE} and t.queue = q.name and t.executor = $2::text and t.state = 'available'
              and t.available_at <= now()
            order by t.priority desc, t.available_at
            limit least($6::int, coalesce(($4::int[])[array_position($3::text[], q.name)], $5::int))
            for update of t skip locked
        ) f
    ), best as materialized (
        select * from free order by priority desc, available_at, run_id, command limit $6::int
    ), marked as (
        update continuum_tasks t set state = 'dispatched', claimed_by = $1::uuid, dispatch_no = t.dispatch_no + 1,
            dispatched_at = clock_timestamp(),
            lease_expires_at = clock_timestamp() + {MICROSECOND}
                * least($7::bigint * power(2, least(t.dispatch_no, 30)), $8::bigint)
        from best where t.run_id = best.run_id and t.command = best.command
        returning t.run_id, t.command, t.attempt, t.activity, t.policy::text, t.dispatch_no, t.lease_expires_at,
                  t.priority, t.available_at
    )
    select m.run_id, m.command, m.attempt, m.activity, m.policy, m.dispatch_no, {_AT_US.format("m.lease_expires_at")},
           false as more, m.priority, m.available_at
    from marked m
    union all
    select null, null, null, null, null, null, (
        select {_AT_US.format("t.available_at")} from continuum_tasks t
        where t.executor = $2::text and t.state = 'available' and t.available_at > now()
        order by t.available_at limit 1
    ), (
        select count(*) from (
            select 1 from continuum_tasks t
            where t.executor = $2::text and t.state = 'available' and t.available_at <= now()
            order by t.available_at limit $6::int + 1
        ) due
    ) > (select count(*) from best), null, null
    order by priority desc nulls last, available_at, run_id, command
    """,
)

UNDELIVERED: Final = Statement(
    "undelivered",
    """
    select t.run_id, t.command, t.attempt from continuum_tasks t
    where t.claimed_by = $1::uuid and t.state = 'dispatched' and t.executor = $2::text order by t.run_id, t.command
    """,
)

CLAIM_DISPATCHED: Final = Statement(
    "claim_dispatched",
    f"""
    with picked as materialized (
        select v.run_id, v.command, clock_timestamp() as begun
        from {REFS.format(runs="$2", commands="$3", attempts="$4")} d
        cross join lateral (
            select t.run_id, t.command from continuum_tasks t
            where t.run_id = d.run_id and t.command = d.command and t.attempt = d.attempt
              and t.state in ('available', 'dispatched') and {ALIVE}
            for update of t
        ) v
    )
    update continuum_tasks t set state = 'leased', claimed_by = $1::uuid, claimed_at = p.begun,
        lease_expires_at = {expiry("p.begun", "p.begun")}
    from picked p where t.run_id = p.run_id and t.command = p.command
    returning {TASK}
    """,
)

# A success is worth having while nobody has begun anew: its effect has happened, and once is better than twice.
_LATE: Final = """(d.kind = 'activity_completed' and t.attempt >= d.attempt
                       and t.state in ('available', 'dispatched'))"""

FINISH_MANY: Final = Statement(
    "finish_many",
    f"""
    with picked as materialized (
        select d.run_id, d.command, d.attempt, d.kind, d.payload, d.place from (
            select * from unnest($2::uuid[], $3::int[], $4::int[], $5::text[], $6::json[]) with ordinality
                d(run_id, command, attempt, kind, payload, place)
            order by run_id, command, place
        ) d
        cross join lateral (
            select t.run_id from continuum_tasks t
            where t.run_id = d.run_id and t.command = d.command
              and ((t.attempt = d.attempt and {MINE}) or {_LATE})
            for update of t
        ) v
    ), gone as (
        delete from continuum_tasks t using picked p where t.run_id = p.run_id and t.command = p.command
        returning p.*
    ), posted as (
        {letters("g.kind", "g.payload")}
        order by g.place
    )
    select run_id, command, attempt from gone
    """,
)

DEFER: Final = Statement(
    "defer",
    f"""
    with picked as materialized (
        select v.run_id, v.command from {REFS.format(runs="$1", commands="$2", attempts="$3")} d
        cross join lateral (
            select t.run_id, t.command from continuum_tasks t
            where t.run_id = d.run_id and t.command = d.command and t.attempt = d.attempt and t.state = 'dispatched'
            for update skip locked
        ) v
    )
    update continuum_tasks t set {FREE},
        available_at = clock_timestamp() + $4::bigint * {MICROSECOND}
    from picked p where t.run_id = p.run_id and t.command = p.command
    returning 1
    """,
)

ABANDON: Final = Statement(
    "abandon",
    f"""
    with held as materialized (
        select t.run_id, t.command, t.attempt < t.max_attempts
            and not ($6::bool and coalesce((t.policy -> 'retry' ->> 'gives_up')::bool, false)) as again
        from continuum_tasks t where {THIS} for update
    ), offered as (
        update continuum_tasks t set {NEXT_ATTEMPT}, available_at = clock_timestamp(),
            errors = {with_error("$5::json")}
        from held h where h.again and t.run_id = h.run_id and t.command = h.command
    ), gone as (
        delete from continuum_tasks t using held h where not h.again and t.run_id = h.run_id and t.command = h.command
        returning t.run_id, t.command
    ), posted as (
        {letters("'activity_failed'", "$5::json")}
    )
    select 1 from held
    """,
)

HAND_OVER: Final = Statement(
    "hand_over",
    """
    with picked as materialized (
        select t.run_id, t.command from continuum_tasks t where t.claimed_by = $1::uuid and t.state = 'dispatched'
        for update skip locked
    )
    update continuum_tasks t set claimed_by = null
    from picked p where t.run_id = p.run_id and t.command = p.command
    returning 1
    """,
)


class PostgresDispatches:
    """What dispatchers and workers of external executors ask."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self._database = database
        self._payloads = payloads

    def dispatch(
        self, worker: WorkerId, *, executor: str, rooms: Mapping[str, int], room: int, limit: int, deadline: timedelta
    ) -> Dispatches:
        """Mark free due tasks of an executor as dispatched by this worker."""
        # Crash: what is marked and was not published is offered again when its dispatcher is found dead.
        *rows, last = self._database.run(
            DISPATCH,
            text(worker),
            text(executor),
            texts(list(rooms)),
            integers(max(0, most) for most in rooms.values()),
            integer(max(0, room)),
            integer(max(0, limit)),
            microseconds(deadline),
            # Whoever wants to wait longer than the longest from the start may.
            microseconds(max(deadline, LONGEST_DISPATCH_DEADLINE)),
        )
        return Dispatches(
            [
                DispatchedTask(TaskRef(*row[:3]), activity, policy_of(policy), number, deadline_us)
                for *row, activity, policy, number, deadline_us, _, _, _ in rows
            ],
            next_due_us=last[6],
            more=last[7],
        )

    def undelivered(self, worker: WorkerId, *, executor: str) -> list[TaskRef]:
        """Return what this worker has dispatched and nobody has claimed."""
        return [TaskRef(*row) for row in self._database.run(UNDELIVERED, text(worker), text(executor))]

    def claim_dispatched(self, worker: WorkerId, refs: Sequence[TaskRef]) -> list[ClaimedTask]:
        """Claim named tasks at just that attempt, whoever has dispatched them."""
        if not refs:
            return []
        # Crash: a claim whose answer was lost is swept with its worker, or ended at its time; either costs an attempt.
        rows = self._database.run(CLAIM_DISPATCHED, text(worker), *_columns(refs))
        return [read_task(row, self._payloads) for row in rows]

    def finish_many(self, worker: WorkerId, outcomes: Sequence[TaskOutcome]) -> frozenset[TaskRef]:
        """End attempts and post their outcomes; return those that were accepted."""
        if not outcomes:
            return frozenset()
        kinds, payloads = zip(*map(letter_of, outcomes), strict=True)
        # Crash: before the answer they may be posted or not; handing them in again posts each at most once.
        rows = self._database.run(
            FINISH_MANY,
            text(worker),
            *_columns(outcomes),
            words(kinds),
            texts(self._payloads.wrap_all(payloads)),
        )
        return frozenset(TaskRef(*row) for row in rows)

    def defer(self, refs: Sequence[TaskRef], *, delay: timedelta) -> int:
        """Offer dispatched tasks again after a while; return how many."""
        return len(self._database.run(DEFER, *_columns(refs), microseconds(delay))) if refs else 0

    def abandon(self, worker: WorkerId, ref: TaskRef, *, failure: Failure) -> bool:
        """Offer the next attempt of a claimed task, or fail it."""
        stored = text(self._payloads.wrap(failure.encode()))
        timed_out = "true" if failure.kind in TIMEOUTS else "false"
        return bool(self._database.run(ABANDON, *claim_of(worker, ref), stored, timed_out))

    def hand_over(self, worker: WorkerId) -> int:
        """Leave what this worker has published behind."""
        return len(self._database.run(HAND_OVER, text(worker)))


def letter_of(outcome: TaskOutcome) -> tuple[str, str | None]:
    """Return the kind and the payload of the letter that tells of an outcome."""
    if outcome.failure is None:
        return EventType.ACTIVITY_COMPLETED, outcome.payload
    return EventType.ACTIVITY_FAILED, outcome.failure.encode()


def _columns(refs: Sequence[TaskRef | TaskOutcome]) -> tuple[str, str, str]:
    return (
        ids([ref.run_id for ref in refs]),
        integers([ref.command for ref in refs]),
        integers([ref.attempt for ref in refs]),
    )
