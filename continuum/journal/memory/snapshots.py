"""Here live the memory wing's snapshots: texts, as in a database, so that a load unfolds them here as well."""

from collections.abc import Sequence

from continuum.journal.folding import unfold
from continuum.journal.memory.rows import check_text
from continuum.journal.memory.store import Store
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.snapshots import Snapshot, is_readable

__all__ = ["MemorySnapshots", "load_history"]


class MemorySnapshots:
    """``Journal.snapshots``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, run_id: RunId) -> Snapshot | None:
        """Return the run's snapshot."""
        with self._store.lock:
            return self._store.snapshots.get(run_id)

    def save(self, run_id: RunId, snapshot: Snapshot) -> bool:
        """Store a snapshot, unless the run has ended or has a better one."""
        check_text("the snapshot", snapshot.body)
        with self._store.lock:
            run, known = self._store.runs.get(run_id), self._store.snapshots.get(run_id)
            if run is None or run.ended or run.last_seq < snapshot.through_seq:
                return False
            if known is not None and (known.format > snapshot.format or known.through_seq > snapshot.through_seq):
                return False
            self._store.snapshots[run_id] = snapshot
            return True

    def discard(self, run_ids: Sequence[RunId]) -> int:
        """Delete snapshots."""
        with self._store.lock:
            return sum(self._store.snapshots.pop(run_id, None) is not None for run_id in run_ids)

    def discard_ended(self, *, limit: int = 1000) -> int:
        """Delete snapshots of ended runs."""
        with self._store.lock:
            runs = self._store.runs
            gone = [run_id for run_id in self._store.snapshots if run_id not in runs or runs[run_id].ended]
            return self.discard(gone[:limit])


def load_history(store: Store, run_id: RunId) -> tuple[list[Event], int]:
    """Return the run's events, and how many of them its snapshot has given."""
    events = store.events[run_id]
    snapshot = store.snapshots.get(run_id)
    if snapshot is not None and is_readable(snapshot.format):
        folded = unfold(run_id, snapshot, last_seq=len(events))
        if folded is not None:
            return [*folded, *events[len(folded) :]], len(folded)
    return list(events), 0
