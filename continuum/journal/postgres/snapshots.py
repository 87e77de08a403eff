"""Here live the snapshots of histories: one row of a run, of which the loading of a run (`claims`) makes use.

# Invariant: no statement here waits for, or locks, a row of a run or of its history.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Sequence
from typing import Final

from continuum.errors import HistoryError
from continuum.journal.folding import say_unreadable, unfold
from continuum.journal.postgres.database import Database
from continuum.journal.postgres.literals import ids, integer, text
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun
from continuum.model.runs import ENDED
from continuum.model.snapshots import Snapshot

__all__ = ["DISCARD_ENDED_SNAPSHOTS", "FIND_SNAPSHOT", "SAVE_SNAPSHOT", "PostgresSnapshots", "read_folded"]

_ENDED: Final = ", ".join(f"'{one}'" for one in sorted(ENDED))

FIND_SNAPSHOT: Final = Statement(
    "find_snapshot",
    "select s.through_seq, s.format, s.body from continuum_snapshots s where s.run_id = $1::uuid",
)
# One of the same length replaces another: the other may be unreadable.
SAVE_SNAPSHOT: Final = Statement(
    "save_snapshot",
    f"""
    insert into continuum_snapshots as s (run_id, through_seq, format, body)
    select r.id, $2::int, $3::int, $4::text from continuum_runs r
    where r.id = $1::uuid and r.state not in ({_ENDED}) and r.last_seq >= $2::int
    on conflict (run_id) do update
    set made_at = excluded.made_at, through_seq = excluded.through_seq, format = excluded.format, body = excluded.body
    where s.format <= excluded.format and s.through_seq <= excluded.through_seq
    returning 1
    """,
)
DISCARD_SNAPSHOTS: Final = Statement(
    "discard_snapshots", "delete from continuum_snapshots s where s.run_id = any($1::uuid[]) returning 1"
)
DISCARD_ENDED_SNAPSHOTS: Final = Statement(
    "discard_ended_snapshots",
    f"""
    with gone as materialized (
        select s.run_id from continuum_snapshots s
        left join lateral (select r.state from continuum_runs r where r.id = s.run_id offset 0) r on true
        where r.state is null or r.state in ({_ENDED})
        limit $1::int
    )
    delete from continuum_snapshots s using gone where s.run_id = gone.run_id returning 1
    """,
)


class PostgresSnapshots:
    """``Journal.snapshots``."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self._database = database
        self._payloads = payloads

    def find(self, run_id: RunId) -> Snapshot | None:
        """Return the run's snapshot."""
        rows = self._database.run(FIND_SNAPSHOT, text(run_id))
        if not rows:
            return None
        through_seq, number, stored = rows[0]
        body, reason = self._payloads.read(stored)
        if body is None:
            raise HistoryError(f"the snapshot of run {run_id}: {reason}")
        return Snapshot(through_seq, number, body)

    def save(self, run_id: RunId, snapshot: Snapshot) -> bool:
        """Store a snapshot, unless the run has ended or has a better one."""
        body = self._payloads.wrap(snapshot.body)
        numbers = integer(snapshot.through_seq), integer(snapshot.format)
        return bool(self._database.run(SAVE_SNAPSHOT, text(run_id), *numbers, text(body)))

    def discard(self, run_ids: Sequence[RunId]) -> int:
        """Delete snapshots."""
        return len(self._database.run(DISCARD_SNAPSHOTS, ids(run_ids))) if run_ids else 0

    def discard_ended(self, *, limit: int = 1000) -> int:
        """Delete snapshots of ended runs."""
        return len(self._database.run(DISCARD_ENDED_SNAPSHOTS, integer(limit)))


def read_folded(
    run: ClaimedRun, *, through_seq: int, number: int, stored: str, payloads: Payloads
) -> list[Event] | None:
    """Return the events of a run's stored snapshot; None if they cannot be had."""
    body, reason = payloads.read(stored)
    if body is None:
        say_unreadable(run.run_id, reason or "it is empty")
        return None
    return unfold(run.run_id, Snapshot(through_seq, number, body), last_seq=run.last_seq)
