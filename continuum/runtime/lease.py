"""Here lives a worker's own view of its right to act.

The database decides when a worker is dead: its row expires, somebody deletes it. A worker must stop *before* that,
without asking. So the lease is reckoned from the moment a heartbeat was *sent*, on the monotonic clock, and ends a
margin earlier than the database would end it.

States and who moves them::

    LIVE ──(heartbeat says the row is gone, or the reckoning ran out)──► LOST        heartbeat, or any reader
    LOST ──(the turns thread has dropped every run it held)────────────► DROPPED     turns
    DROPPED ──(a new id is registered)─────────────────────────────────► LIVE        heartbeat

A worker id is never used again once lost: whatever was sent under it, and lands late, is refused by its tokens and
claims. ``# Invariant:`` nothing is sent to the journal on behalf of a run while the lease is not LIVE.
"""

import threading
import time
from datetime import timedelta
from enum import Enum

from continuum.model.ids import WorkerId, new_worker_id

__all__ = ["Lease", "LeaseState"]

# The part of a lease that is not used, for a host whose clock runs slower than the database's.
_MARGIN = 0.1


class LeaseState(Enum):
    """See the module's docstring."""

    LIVE = "live"
    LOST = "lost"
    DROPPED = "dropped"


class Lease:
    """The worker id in use and until when it may be used. Read from any thread."""

    def __init__(self, ttl: timedelta) -> None:
        self.ttl = ttl
        self._usable = ttl.total_seconds() * (1 - _MARGIN)
        self._lock = threading.Lock()
        self._worker = new_worker_id()
        self._state = LeaseState.DROPPED
        self._expires = 0.0

    @property
    def worker(self) -> WorkerId:
        """The id to sign with."""
        return self._worker

    @property
    def state(self) -> LeaseState:
        """The present state; a lease whose time ran out counts as lost."""
        if self._state is LeaseState.LIVE and time.monotonic() >= self._expires:
            self.lose()
        return self._state

    @property
    def live(self) -> bool:
        """Whether the worker may act."""
        return self._state is LeaseState.LIVE and time.monotonic() < self._expires

    def registered(self, worker: WorkerId, *, sent: float) -> None:
        """A new id is known to the database; ``sent`` is the monotonic time before it was asked."""
        with self._lock:
            self._worker = worker
            self._expires = sent + self._usable
            self._state = LeaseState.LIVE

    def prolonged(self, worker: WorkerId, *, sent: float) -> None:
        """A heartbeat was confirmed."""
        with self._lock:
            if self._state is LeaseState.LIVE and worker == self._worker and time.monotonic() < self._expires:
                self._expires = sent + self._usable

    def lose(self) -> None:
        """The worker is dead, or has to assume so."""
        with self._lock:
            if self._state is LeaseState.LIVE:
                self._state = LeaseState.LOST

    def dropped(self) -> None:
        """Nothing is held any more under the lost id; a new one may be registered."""
        with self._lock:
            if self._state is LeaseState.LOST:
                self._state = LeaseState.DROPPED
