"""Here lives what statements about tasks share: the columns of a claim, its fence, its time, and how it is read.

# Invariant: whoever waits for task rows takes them one by one in order of their key, and everybody else takes them with
SKIP LOCKED; so no two of us wait for each other. Who waits does so because a row that was skipped would be a lost
outcome or a lost message; what it waits for are our own short statements.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from functools import lru_cache
from typing import Any, Final

from continuum.journal.postgres.literals import integer, text
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.protocol import ATTEMPT_GRACE
from continuum.model.ids import WorkerId
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import ClaimedTask, TaskRef

__all__ = [
    "ALIVE",
    "FREE",
    "MICROSECOND",
    "MINE",
    "NEXT_ATTEMPT",
    "REFS",
    "TASK",
    "THIS",
    "claim_of",
    "expiry",
    "letters",
    "policy_of",
    "read_task",
    "times_out_at",
    "with_error",
]

MICROSECOND: Final = "interval '1 microsecond'"
_KEPT_ERRORS: Final = 10  # the last ones; a task may be tried a thousand times

TASK: Final = """t.run_id, t.command, t.attempt, t.activity, t.arguments::text, t.policy::text,
                  t.idempotency_key, t.heartbeat::text"""
# Checked, not searched for: `is not distinct from` keeps the planner from walking all a worker has claimed.
MINE: Final = "t.claimed_by is not distinct from $1::uuid and t.state = 'leased'"
THIS: Final = f"t.run_id = $2::uuid and t.command = $3::int and t.attempt = $4::int and {MINE}"
# What a row is that nobody has, and one that waits for its next attempt: its dispatches are counted from the beginning.
FREE: Final = "state = 'available', claimed_by = null, claimed_at = null, lease_expires_at = null"
NEXT_ATTEMPT: Final = f"{FREE}, attempt = t.attempt + 1, dispatch_no = 0"
# The refs of a call, each of which finds its row by the key, in order of the key.
REFS: Final = """(select * from unnest({runs}::uuid[], {commands}::int[], {attempts}::int[])
                   d(run_id, command, attempt) order by run_id, command)"""
# Not locked: a worker that dies between this and the commit leaves what it took to the sweep, which goes by "the holder
# does not exist" and is repeated; the lock would only save a pass of it, and cost a write of the worker's row.
ALIVE: Final = "exists (select 1 from continuum_workers w where w.id = $1::uuid and w.expires_at > clock_timestamp())"

# A policy holds what differs from the defaults, as ISO 8601 durations. Seconds, because a day of an interval may have
# 23 hours; and the smaller of the two limits before it is made an interval, because only a timeout is bounded.
_TIMEOUT: Final = f"""extract(epoch from coalesce(t.policy ->> 'timeout',
                      '{ActivityPolicy().timeout.total_seconds():.0f} seconds')::interval)"""
_SILENCE: Final = f"""least({_TIMEOUT}, extract(epoch from (t.policy ->> 'heartbeat_timeout')::interval))"""
_SECOND: Final = "interval '1 second'"
_GRACE: Final = f"interval '{ATTEMPT_GRACE.total_seconds():.0f} seconds'"


def times_out_at(begun: str) -> str:
    """Return when the reaper ends an attempt whatever it says, by when it has begun."""
    return f"({begun} + {_TIMEOUT} * {_SECOND} + {_GRACE})"


def expiry(begun: str, heard: str) -> str:
    """Return when the reaper ends an attempt that is not heard of again."""
    return f"least({times_out_at(begun)}, {heard} + {_SILENCE} * {_SECOND} + {_GRACE})"


def letters(kind: str, payload: str) -> str:
    """Return what posts, to the runs of the task rows in ``gone``, how their attempts ended."""
    return f"""insert into continuum_inbox (chain_id, run_id, kind, command, payload)
    select r.chain_id, g.run_id, {kind}, g.command, {payload}
    from gone g cross join lateral (select r.chain_id from continuum_runs r where r.id = g.run_id offset 0) r"""


def with_error(failure: str) -> str:
    """Return the errors of a task with one more."""
    return f"""(select json_agg(e.value order by e.number) from (
            select value, number from json_array_elements(t.errors) with ordinality x(value, number)
            where number > json_array_length(t.errors) - {_KEPT_ERRORS - 1}
            union all select {failure}, {2**31}) e)"""


def claim_of(worker: WorkerId, task: ClaimedTask | TaskRef) -> tuple[str, str, str, str]:
    """Return the four parameters of ``THIS``."""
    return text(worker), text(task.run_id), integer(task.command), integer(task.attempt)


def read_task(row: tuple[Any, ...], payloads: Payloads) -> ClaimedTask:
    """Return a claim from the columns of ``TASK``."""
    run_id, command, attempt, activity, arguments, policy, key, heartbeat = row
    unwrap = payloads.read_or_mark
    return ClaimedTask(
        run_id, command, attempt, activity, str(unwrap(arguments)), policy_of(policy), key, unwrap(heartbeat)
    )


@lru_cache(maxsize=512)
def policy_of(stored: str) -> ActivityPolicy:
    """Return a stored policy. The texts are those of declarations: a handful of them, however many tasks there are."""
    return ActivityPolicy.parse(stored)
