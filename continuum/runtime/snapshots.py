"""Here lives the making of snapshots: histories that have grown long are folded, so that they load faster next time.

The turns thread says which runs have passed their threshold (`turns.growth`); what it says may be lost. What is done
here takes no lease, locks nothing and can be undone at any moment by deleting it, so nothing that fails here concerns a
run: it is logged, and the run is loaded from its events, as it would have been without.

A snapshot is not fenced. It copies committed events, which nobody changes; whoever writes it late, or twice, or after
the run has been taken over, writes the truth. The longer of two stays (`Snapshots.save`).
"""

import logging
from collections.abc import Sequence
from typing import Final

from continuum.errors import ContinuumError, HistoryError, JournalUnavailable
from continuum.journal.protocol import Journal
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.snapshots import decode_snapshot, encode_snapshot, is_readable
from continuum.runtime.service import Service
from continuum.runtime.turns.growth import Growth
from continuum.telemetry.probes import probe

__all__ = ["SnapshotMaker"]

logger = logging.getLogger("continuum.runtime")

# So few because a payload may have megabytes, and a run that was never loaded here may not fit into memory.
_PAGE: Final = 250
_MOST_REFUSED: Final = 1_000


class SnapshotMaker(Service):
    """Makes the snapshots of runs that have grown, and deletes those of runs that have ended."""

    name = "snapshots"

    def __init__(self, *, journal: Journal, growth: Growth, max_bytes: int) -> None:
        super().__init__()
        self._journal = journal
        self._growth = growth
        self._max_bytes = max_bytes
        self._too_large: set[RunId] = set()
        growth.heard = self.wake

    def run_once(self) -> None:
        """Do what was asked for. Raises ``JournalUnavailable``; the run it was busy with is then passed over."""
        while not self.stopping:
            ended = self._growth.take_ended()
            if ended:
                self._discard(ended)
            run_id = self._growth.take_grown()
            if run_id is None:
                return
            self._try(run_id)

    def fold(self, run_id: RunId) -> bool:
        """Make a snapshot of all that the run has journaled; return whether it was stored.

        It extends the last one. Raises ``JournalUnavailable``, ``JournalError``, ``CodecError``.
        """
        if run_id in self._too_large:
            return False
        base = self._find(run_id)
        events = None if base is None else self._extend(run_id, base)
        if not events or len(events) == len(base or ()):
            return False
        probe("snapshot.read")
        # Crash: nothing was written; the run is loaded from its last snapshot and its events, as before.
        snapshot = encode_snapshot(events)
        size = len(snapshot.body.encode())
        if size > self._max_bytes:
            self._refuse(run_id, f"its {len(events):,} events take {size:,} bytes")
            return False
        saved = self._journal.snapshots.save(run_id, snapshot)
        probe("snapshot.saved")
        # Crash: the snapshot is whole, and whoever loads the run takes it.
        if saved:
            logger.debug("snapshot of run %s: %d events in %d bytes", run_id, len(events), size)
        return saved

    # ------------------------------------------------------------------ inner

    def _try(self, run_id: RunId) -> None:
        try:
            self.fold(run_id)
        except JournalUnavailable:
            raise
        except ContinuumError as error:
            logger.warning("no snapshot of run %s was made: %s", run_id, error)
        except Exception:
            logger.exception("no snapshot of run %s was made", run_id)

    def _discard(self, run_ids: Sequence[RunId]) -> None:
        self._too_large.difference_update(run_ids)
        try:
            self._journal.snapshots.discard(run_ids)
        except JournalUnavailable:
            raise
        except ContinuumError as error:
            # Maintenance sweeps them.
            logger.warning("snapshots of runs that have ended were not deleted: %s", error)

    def _find(self, run_id: RunId) -> list[Event] | None:
        """Return the events of the run's last snapshot; None if a later release made it, and goes on with it."""
        try:
            last = self._journal.snapshots.find(run_id)
            if last is None:
                return []
            return decode_snapshot(last) if is_readable(last.format) else None
        except HistoryError:
            # Made anew: what stands there is of no use to anybody.
            return []

    def _extend(self, run_id: RunId, base: list[Event]) -> list[Event] | None:
        """Return the base with what came after it; None if a snapshot cannot hold that, or it is to stop."""
        events, size = list(base), 0
        while not self.stopping:
            page = self._journal.runs.history(run_id, after=len(events), limit=_PAGE)
            events += page
            size += sum(len(event.payload) for event in page if event.payload is not None)
            if size > self._max_bytes:
                # Before all of it is in memory.
                self._refuse(run_id, f"it holds more than {size:,} characters")
                return None
            if len(page) < _PAGE:
                return events
        return None

    def _refuse(self, run_id: RunId, why: str) -> None:
        if len(self._too_large) >= _MOST_REFUSED:
            self._too_large.clear()
        self._too_large.add(run_id)
        logger.info(
            "the history of run %s is too large for a snapshot (%s, and max_snapshot_bytes is %s): from where its last"
            " one ends it is loaded from its events",
            run_id,
            why,
            f"{self._max_bytes:,}",
        )
