"""Here lives how a run is ended from outside, without its code.

One transaction of two statements: the lock on the tip of the chain, and, on a snapshot that holds whatever the lock has
waited for, everything else: the run's end, its tasks out, the report to its parent, the word to its children.

# Invariant: it locks one run, the tip, and then that run's tasks in order of their key. The parent and the children are
read and written to, never locked. So two terminations of one family wait for nobody but who holds the very row they
want, and who holds a run's row and wants more of it takes its tasks (see `task_rows`); commits skip what is locked.
# Invariant: no child escapes. A commit that starts one holds the row this waits for, and is seen by the second
statement; a later commit is fenced by the risen token.
# Crash: before the commit nothing is written, and the locks go with the connection. Afterwards all is: the end, and the
letters, which their readers find by hint or poll.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from typing import Any, Final

from continuum.errors import RunNotFound, RunTerminal
from continuum.journal.postgres.database import Database
from continuum.journal.postgres.literals import text
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.relatives import ENDED_STATES, children, parent
from continuum.journal.postgres.sessions import Session
from continuum.model.failures import closed_with, terminated
from continuum.model.ids import RunId
from continuum.telemetry.probes import probe

__all__ = ["KNOWN", "LOCK_TIP", "TERMINATE", "not_found", "run_ended", "terminate_run"]

LOCK_TIP: Final = Statement(
    "lock_tip",
    f"""
    select t.id, t.state, t.state in ({ENDED_STATES})
    from continuum_runs r join continuum_runs t on t.chain_id = r.chain_id and t.is_tip
    where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)
    for no key update of t
    """,
)
KNOWN: Final = Statement(
    "known",
    "select 1 from continuum_runs r where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)",
)
# It waits for task rows, and so takes them in order of their key: see the invariant of `task_rows`.
TERMINATE: Final = Statement(
    "terminate",
    f"""
    with ended as (
        update continuum_runs r set state = 'terminated', last_seq = r.last_seq + 1, completed_at = clock_timestamp(),
            lease_owner = null, lease_token = r.lease_token + 1, wake_at = null, stuck_reason = null,
            stuck_since = null, retention_until = clock_timestamp() + interval '1 microsecond' * (
                select v.retention_us from continuum_workflow_versions v
                where v.name = r.workflow and v.hash = r.version_hash)
        where r.id = $1::uuid
        returning r.id, r.chain_id, r.last_seq, r.parent_id, r.parent_command
    ), said as (
        insert into continuum_events (run_id, seq, type, payload, at_us)
        select id, last_seq, 'run_terminated', $2::json, (extract(epoch from clock_timestamp()) * 1000000)::bigint
        from ended
    ), told as (
        insert into continuum_inbox (chain_id, run_id, kind, command, payload)
        select t.* from ended e cross join lateral (
            select p.chain_id, p.run_id, 'child_cancelled', e.parent_command, $2::json
            from ({parent(run_id="e.parent_id")}) p
            union all
            select c.chain_id, null, c.kind, null, case when c.ends then $3::json end
            from ({children(chain_id="e.chain_id")}) c
        ) t
    ), tasks as materialized (
        select t.command from continuum_tasks t where t.run_id = $1::uuid order by t.command for update
    )
    delete from continuum_tasks t using tasks x where t.run_id = $1::uuid and t.command = x.command
    """,
)


def terminate_run(
    database: Database, payloads: Payloads, run_id: RunId, *, namespace: str | None, reason: str
) -> RunId:
    """End the tip of the run's chain without its code, and return its id."""
    why = text(payloads.wrap(terminated(reason).encode()))
    with database.transaction() as session:
        tip, state, ended = _lock_tip(session, run_id, namespace)
        if ended:
            raise run_ended(tip, state)
        # Crash: nothing has been written yet; the lock goes with the connection.
        probe("terminate.locked")
        close = text(payloads.wrap(closed_with(tip).encode()))
        session.run(TERMINATE, text(tip), why, close)
    return tip


def _lock_tip(session: Session, run_id: RunId, namespace: str | None) -> tuple[RunId, str, bool]:
    """Lock the tip: wait for a commit that is under way; the owner's next one is fenced by the risen token."""
    arguments = text(run_id), text(namespace)
    # The commit that was waited for may have handed the tip on, which a row that was found before it does not show:
    # the next look sees the successor. Each round waits for another continuation, so it ends with the last of them.
    while not (found := session.run(LOCK_TIP, *arguments)):
        if not session.run(KNOWN, *arguments):
            raise not_found(run_id, namespace)
    [(tip, state, ended)] = found
    return RunId(tip), state, ended


def not_found(run_id: RunId, namespace: str | None) -> RunNotFound:
    """Return the error of who asks for a run that is not there."""
    place = "" if namespace is None else f" in namespace {namespace!r}"
    return RunNotFound(f"there is no run {run_id}{place}", run_id=run_id)


def run_ended(run_id: Any, state: str) -> RunTerminal:
    """Return the error of who comes too late."""
    return RunTerminal(
        f"run {run_id} has ended ({state}); nothing can be sent to it any more", run_id=run_id, state=state
    )
