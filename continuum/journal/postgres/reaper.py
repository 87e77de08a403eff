"""Here lives death: deleting expired workers, and the sweep of what the dead have held.

Two things, on purpose. *Death* is a tiny DELETE of a worker's row. The *sweep* goes by a condition, "the holder does
not exist", so it can be repeated, interrupted and done by several at once: whatever a dead worker's last statement
still brought in is found by the next pass. It works in chunks and skips what is locked.

# Invariant: a sweep raises the run's token, which fences a commit of the dead one that is still on its way.
# Invariant: ``wake_at`` stays: a dead dispatcher's parked runs are free now, and move when they would have moved.
"""

from typing import Final

from continuum.journal.postgres.database import Database, Session
from continuum.journal.postgres.literals import ids, integer, integers, texts
from continuum.journal.postgres.look import orphaned
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.leases import Reaped
from continuum.telemetry.probes import probe

__all__ = ["BURY", "DEAD_CLAIMANTS", "DEAD_OWNERS", "EXHAUSTED", "REQUEUE", "SWEEP_RUNS", "SWEEP_TASKS", "Sweeper"]

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

SWEEP_TASKS: Final = Statement(
    "sweep_tasks",
    """
    select v.run_id, v.command, v.attempt, v.max_attempts
    from (select * from unnest($1::uuid[]) d(holder)
          where not exists (select 1 from continuum_workers w where w.id = d.holder)) d
    cross join lateral (
        select t.run_id, t.command, t.attempt, t.max_attempts from continuum_tasks t where t.claimed_by = d.holder
        limit $2::int for update skip locked
    ) v
    limit $2::int
    """,
)
REQUEUE: Final = Statement(
    "requeue",
    """
    update continuum_tasks t set state = 'available', attempt = t.attempt + 1, claimed_by = null, claimed_at = null,
        lease_expires_at = null, available_at = clock_timestamp()
    from unnest($1::uuid[], $2::int[]) d(run_id, command)
    where t.run_id = d.run_id and t.command = d.command
    """,
)
EXHAUSTED: Final = Statement(
    "exhausted",
    """
    with gone as (
        delete from continuum_tasks t using unnest($1::uuid[], $2::int[], $3::json[]) d(run_id, command, payload)
        where t.run_id = d.run_id and t.command = d.command
        returning t.run_id, t.command, d.payload
    )
    insert into continuum_inbox (chain_id, run_id, kind, command, payload)
    select r.chain_id, g.run_id, 'activity_failed', g.command, g.payload
    from gone g cross join lateral (select r.chain_id from continuum_runs r where r.id = g.run_id offset 0) r
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
        requeued, exhausted = self._sweep_tasks(limit)
        more = runs >= limit or requeued + exhausted >= limit
        return Reaped(workers=expired, runs=runs, requeued=requeued, exhausted=exhausted, more=more)

    def _sweep_runs(self, limit: int) -> int:
        dead = [row[0] for row in self._database.run(DEAD_OWNERS)]
        return len(self._database.run(SWEEP_RUNS, ids(dead), integer(limit))) if dead else 0

    def _sweep_tasks(self, limit: int) -> tuple[int, int]:
        dead = [row[0] for row in self._database.run(DEAD_CLAIMANTS)]
        if not dead:
            return 0, 0
        with self._database.transaction() as session:
            found = session.run(SWEEP_TASKS, ids(dead), integer(limit))
            again = [row for row in found if row[2] < row[3]]
            if again:
                session.run(REQUEUE, ids([row[0] for row in again]), integers([row[1] for row in again]))
            self._fail(session, [row for row in found if row[2] >= row[3]])
            # Crash: until the commit nothing has happened, and the locks go with the connection.
            probe("reap.swept")
        return len(again), len(found) - len(again)

    def _fail(self, session: Session, rows: list[tuple[str, int, int, int]]) -> None:
        if not rows:
            return
        failures = [
            Failure(
                type_name="WorkerDied",
                message=f"the worker died during attempt {attempt} of {most}",
                kind=FailureKind.WORKER_DIED,
                attempts=attempt,
            ).encode()
            for _, _, attempt, most in rows
        ]
        session.run(
            EXHAUSTED,
            ids([row[0] for row in rows]),
            integers([row[1] for row in rows]),
            texts(self._payloads.wrap_all(failures)),
        )
