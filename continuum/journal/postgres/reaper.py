"""Here lives death: deleting expired workers, and the sweep of what the dead have held, and of tasks past their time.

Two things, on purpose. *Death* is a tiny DELETE of a worker's row. The *sweep* goes by a condition, "the holder does
not exist", so it can be repeated, interrupted and done by several at once: whatever a dead worker's last statement
still brought in is found by the next pass. It works in chunks and skips what is locked.

Tasks that only their own time frees (see `dispatches`) are swept in the same way, by the condition "past its time".
A dispatched one is offered again as it is: nobody has begun it, and whoever has its message may still claim it. A
claimed one has failed that attempt, whether its worker lives or not.

A worker that claims, finishes or shows a sign of life at that very moment either has the row first, and is skipped (a
row that changed before it could be locked is judged anew), or waits, and finds its claim gone.

# Invariant: a sweep raises the run's token, which fences a commit of the dead one that is still on its way.
# Invariant: a task is offered again with its old ``dispatch_no`` at the same attempt, whose next message needs a
name of its own; the next attempt counts from the beginning.
# Invariant: ``wake_at`` stays: a dead dispatcher's parked runs are free now, and move when they would have moved.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from continuum.journal.postgres.database import Database
from continuum.journal.postgres.literals import ids, integer, integers, texts
from continuum.journal.postgres.look import OVERDUE, orphaned
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.task_rows import FREE, NEXT_ATTEMPT, letters, policy_of, times_out_at, with_error
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.leases import Reaped
from continuum.model.tasks import TaskState
from continuum.telemetry.probes import probe

__all__ = [
    "ANY_OVERDUE",
    "BURY",
    "DEAD_CLAIMANTS",
    "DEAD_OWNERS",
    "EXHAUSTED",
    "REOFFER",
    "REQUEUE",
    "SWEEP_OVERDUE",
    "SWEEP_RUNS",
    "SWEEP_TASKS",
    "Sweeper",
]

BURY: Final = Statement("bury", "delete from continuum_workers where expires_at < clock_timestamp() returning id")
DEAD_OWNERS: Final = Statement("dead_owners", orphaned("continuum_runs", "lease_owner"))
DEAD_CLAIMANTS: Final = Statement("dead_claimants", orphaned("continuum_tasks", "claimed_by"))

SWEEP_RUNS: Final = Statement(
    "sweep_runs",
    """
    with victims as materialized (
        select v.id
        from (select * from unnest($1::uuid[]) d(holder)
              where not exists (select 1 from continuum_workers w where w.id = d.holder)) d
        cross join lateral (
            select r.id from continuum_runs r where r.lease_owner = d.holder limit $2::int
            for no key update skip locked
        ) v
        limit $2::int
    )
    update continuum_runs r set lease_owner = null, lease_token = r.lease_token + 1
    from victims v where r.id = v.id
    returning 1
    """,
)

_TASK: Final = f"""t.run_id, t.command, t.attempt, t.max_attempts, t.state, t.activity, t.policy::text as policy,
               t.lease_expires_at < {times_out_at("t.claimed_at")} as silent"""
SWEEP_TASKS: Final = Statement(
    "sweep_tasks",
    f"""
    select v.*
    from (select * from unnest($1::uuid[]) d(holder)
          where not exists (select 1 from continuum_workers w where w.id = d.holder)) d
    cross join lateral (
        select {_TASK} from continuum_tasks t where t.claimed_by = d.holder
        limit $2::int for update skip locked
    ) v
    limit $2::int
    """,
)
ANY_OVERDUE: Final = Statement("any_overdue", f"select 1 from continuum_tasks t where {OVERDUE} limit 1")
SWEEP_OVERDUE: Final = Statement(
    "sweep_overdue",
    f"""
    select {_TASK} from continuum_tasks t where {OVERDUE} order by t.lease_expires_at limit $1::int
    for update skip locked
    """,
)
REOFFER: Final = Statement(
    "reoffer",
    f"""
    update continuum_tasks t set {FREE}
    from unnest($1::uuid[], $2::int[]) d(run_id, command)
    where t.run_id = d.run_id and t.command = d.command
    """,
)
REQUEUE: Final = Statement(
    "requeue",
    f"""
    update continuum_tasks t set {NEXT_ATTEMPT}, available_at = clock_timestamp(),
        errors = {with_error("d.failure")}
    from unnest($1::uuid[], $2::int[], $3::json[]) d(run_id, command, failure)
    where t.run_id = d.run_id and t.command = d.command
    """,
)
EXHAUSTED: Final = Statement(
    "exhausted",
    f"""
    with gone as (
        delete from continuum_tasks t using unnest($1::uuid[], $2::int[], $3::json[]) d(run_id, command, payload)
        where t.run_id = d.run_id and t.command = d.command
        returning t.run_id, t.command, d.payload
    )
    {letters("'activity_failed'", "g.payload")}
    """,
)


class Sweeper:
    """One pass of the reaper at a time."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self._database = database
        self._payloads = payloads

    def reap(self, limit: int) -> Reaped:
        """Bury the expired; free at most ``limit`` runs and as many tasks."""
        expired = tuple(WorkerId(row[0]) for row in self._database.run(BURY))
        # Crash: what the buried held is found by the next pass, whoever makes it.
        probe("reap.buried")
        runs = self._sweep_runs(limit)
        swept = self._sweep_tasks(limit)
        left = limit - swept.total()
        if left > 0:
            swept += self._sweep_overdue(left)
        return Reaped(
            workers=expired,
            runs=runs,
            requeued=swept["requeued"],
            exhausted=swept["exhausted"],
            reoffered=swept["reoffered"],
            more=runs >= limit or swept.total() >= limit,
        )

    def _sweep_runs(self, limit: int) -> int:
        dead = [row[0] for row in self._database.run(DEAD_OWNERS)]
        return len(self._database.run(SWEEP_RUNS, ids(dead), integer(limit))) if dead else 0

    def _sweep_tasks(self, limit: int) -> Counter[str]:
        dead = [row[0] for row in self._database.run(DEAD_CLAIMANTS)]
        if not dead:
            return Counter()
        return self._settle(SWEEP_TASKS, (ids(dead), integer(limit)), _died)

    def _sweep_overdue(self, limit: int) -> Counter[str]:
        if not self._database.run(ANY_OVERDUE):
            return Counter()
        return self._settle(SWEEP_OVERDUE, (integer(limit),), _passed_its_time)

    def _settle(
        self, sweep: Statement, arguments: tuple[str, ...], verdict: Callable[["_Found"], Failure]
    ) -> Counter[str]:
        """Lock some tasks; offer those again that nobody has begun, and end the attempts of the others."""
        with self._database.transaction() as session:
            found = [_Found(*row) for row in session.run(sweep, *arguments)]
            offered = [task for task in found if task.state == TaskState.DISPATCHED]
            begun = [(task, verdict(task)) for task in found if task.state == TaskState.LEASED]
            again = [(task, failure) for task, failure in begun if task.goes_on(failure)]
            over = [(task, failure) for task, failure in begun if not task.goes_on(failure)]
            if offered:
                session.run(REOFFER, *_keys(offered))
            for statement, ended in ((REQUEUE, again), (EXHAUSTED, over)):
                if ended:
                    failures = self._payloads.wrap_all([failure.encode() for _, failure in ended])
                    session.run(statement, *_keys([task for task, _ in ended]), texts(failures))
            # Crash: until the commit nothing has happened, and the locks go with the connection.
            probe("reap.swept")
        return Counter(reoffered=len(offered), requeued=len(again), exhausted=len(over))


class _Found(NamedTuple):
    """A task that was locked to be swept."""

    run_id: str
    command: int
    attempt: int
    max_attempts: int
    state: str
    activity: str
    policy: str
    silent: bool | None

    def goes_on(self, failure: Failure) -> bool:
        """Whether another attempt follows this failure."""
        return self.attempt < self.max_attempts and not failure.permanent


def _died(task: _Found) -> Failure:
    return Failure(
        type_name="WorkerDied",
        message=f"the worker died during attempt {task.attempt} of {task.max_attempts}",
        kind=FailureKind.WORKER_DIED,
        attempts=task.attempt,
    )


def _passed_its_time(task: _Found) -> Failure:
    policy = policy_of(task.policy)
    name = "heartbeat_timeout" if task.silent else "timeout"
    return Failure(
        type_name="TimeoutError",
        message=f"attempt {task.attempt} of {task.activity} passed its {name} of {getattr(policy, name)}",
        kind=FailureKind.HEARTBEAT_TIMED_OUT if task.silent else FailureKind.TIMED_OUT,
        permanent=policy.retry.gives_up,
        attempts=task.attempt,
    )


def _keys(tasks: Sequence[_Found]) -> tuple[str, str]:
    return ids([task.run_id for task in tasks]), integers([task.command for task in tasks])
