"""Here lives what every journal promises about snapshots, and how both wings unfold one while they load a run.

A snapshot is a copy (see `continuum.model.snapshots`). Whoever loads a run takes it for the rows it covers if it can be
read, and the rows if not: nothing about a snapshot can make a load fail.
"""

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from continuum.errors import HistoryError
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.snapshots import Snapshot, decode_snapshot

__all__ = ["Snapshots", "say_unreadable", "unfold"]

logger = logging.getLogger("continuum.journal")

_MOST_TOLD: Final = 1_000
_told: Final[set[str]] = set()


class Snapshots(Protocol):
    """Copies of what histories begin with: at most one of a run. Any may be missing, or go, at any moment."""

    def find(self, run_id: RunId) -> Snapshot | None:
        """Return the run's snapshot, whatever its format; None if it has none.

        Raises ``HistoryError`` if it is stored in a form that this process cannot unwrap.
        """

    def save(self, run_id: RunId, snapshot: Snapshot) -> bool:
        """Store a snapshot in the place of the run's last one.

        False, and nothing is written: the run has ended, is unknown or has not come so far, or it has a snapshot that
        reaches further or is of a later format.
        """

    def discard(self, run_ids: Sequence[RunId]) -> int:
        """Delete the snapshots of these runs; return how many there were."""

    def discard_ended(self, *, limit: int = 1000) -> int:
        """Delete up to ``limit`` snapshots of runs that have ended, or are gone; return how many."""


def unfold(run_id: str, snapshot: Snapshot, *, last_seq: int) -> list[Event] | None:
    """Return the events of a snapshot; None, and a line in the log, if they cannot be had.

    :param last_seq: how far the run has come. What goes on beyond that is of another history, and a run continued from
        there could commit nothing.
    """
    if snapshot.through_seq > last_seq:
        say_unreadable(run_id, f"it holds {snapshot.through_seq} events, and the run has {last_seq}")
        return None
    try:
        return decode_snapshot(snapshot)
    except HistoryError as error:
        say_unreadable(run_id, str(error))
        return None


def say_unreadable(run_id: str, reason: str) -> None:
    """Log, once for each run, that its snapshot is passed over."""
    if run_id not in _told:
        if len(_told) >= _MOST_TOLD:
            _told.clear()
        _told.add(run_id)
        logger.warning("the snapshot of run %s is passed over, and its events are loaded: %s", run_id, reason)
