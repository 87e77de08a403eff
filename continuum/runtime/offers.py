"""Here lives taking work that was offered to everybody, and making sure that no claimed work is forgotten.

Tasks are *free* when they were inserted so (the pool was full), when a retry is due, or when they were swept from a
dead worker or put back. This service claims them for the local pool as far as it has room.

Now and then it compares what the journal says this worker has claimed with what the pool holds:

- claimed and not held: an answer was lost. The pool starts it, at the same attempt.
- held and not claimed: the claim is gone (cancelled, terminated, swept). The pool lets go of it.

The two pictures are taken one after the other and things move meanwhile, so a difference counts only if it was there
before and after the question, and has been there for a while (`_PATIENCE`).
"""

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from continuum.journal.protocol import Journal
from continuum.model.ids import WorkerId
from continuum.runtime.job import Key
from continuum.runtime.local_pool import LocalPool
from continuum.runtime.service import Service
from continuum.telemetry.probes import probe

__all__ = ["Offers"]

# What one claim may take; more rounds follow if it was full.
_MOST_CLAIMED: Final = 500
# A commit whose answer is being digested explains a difference for this long; an answer that was lost does not.
_PATIENCE: Final = 5.0


class Offers(Service):
    """Claims free tasks for the pool; reconciles claims.

    :param poll: how often it looks for free tasks though no hint came.
    :param reconcile: how often it compares claims.
    """

    name = "offers"

    def __init__(
        self,
        *,
        journal: Journal,
        pool: LocalPool,
        worker: Callable[[], WorkerId],
        poll: timedelta = timedelta(seconds=2),
        reconcile: timedelta = timedelta(seconds=10),
        patience: float = _PATIENCE,
    ) -> None:
        super().__init__()
        self._journal = journal
        self._pool = pool
        self._worker = worker
        self._poll = poll.total_seconds()
        self._reconcile = reconcile.total_seconds()
        self._patience = patience
        self._lock = threading.Lock()
        self._due: list[float] = []
        self._claim_at = 0.0
        self._reconcile_at = time.monotonic() + self._reconcile
        self._unheld: dict[Key, float] = {}
        self._unclaimed: dict[Key, float] = {}
        pool.on_room = self.wake
        pool.on_due = self.wake_in

    def wake(self) -> None:
        """Free tasks may be waiting, or the pool has room: claim soon."""
        self._claim_at = 0.0
        super().wake()

    def wake_in(self, seconds: float) -> None:
        """A task will be due in so many seconds: claim then."""
        with self._lock:
            heapq.heappush(self._due, time.monotonic() + seconds)
        super().wake()

    def reconcile_soon(self) -> None:
        """An answer was lost: compare claims at the next pass."""
        self._reconcile_at = 0.0
        super().wake()

    def run_once(self) -> float:
        """Claim and compare as far as it is time to; return the pause until the next time."""
        now = time.monotonic()
        if now >= self._reconcile_at:
            self._reconcile_at = now + self._reconcile
            self.reconcile(now)
        if now >= min(self._claim_at, self._next_due(now)):
            self._claim_at = now + self._poll
            self._forget_due(now)
            if self.claim():
                self._claim_at = 0.0
                return 0.0
        return max(0.0, min(self._claim_at, self._reconcile_at, self._next_due(now)) - time.monotonic())

    def claim(self) -> bool:
        """Claim what the pool has room for; return whether there may be more to claim right now."""
        room = self._pool.room()
        asked = {queue: count for queue, count in room.items() if count > 0}
        # Where there is no room, or none will be left, more may wait than this claim brings.
        short = room.keys() - asked.keys()
        if asked:
            limit = min(_MOST_CLAIMED, sum(asked.values()))
            queues = None if None in asked else {queue: count for queue, count in asked.items() if queue is not None}
            tasks = self._journal.tasks.claim(self._worker(), queues=queues, limit=limit)
            if tasks:
                # Crash: claimed, not begun; the sweep frees them. (A lost answer of a living worker: `reconcile`.)
                probe("offers.claimed")
            self._pool.adopt(tasks)
            taken = Counter(None if queues is None else task.policy.queue_name for task in tasks)
            short |= {queue for queue, count in asked.items() if taken[queue] >= count or len(tasks) >= limit}
        return bool(short) and self._pool.ask_for_room(short)

    def reconcile(self, now: float) -> None:
        """Compare the claims of this worker with what the pool holds."""
        before = self._pool.holding()
        claimed = {(task.run_id, task.command, task.attempt): task for task in self._journal.tasks.held(self._worker())}
        after = self._pool.holding()
        self._unheld = self._still(self._unheld, claimed.keys() - before - after, now)
        self._unclaimed = self._still(self._unclaimed, (before & after) - claimed.keys(), now)
        self._pool.adopt([claimed[key] for key in self._lasting(self._unheld, now)])
        self._pool.forget(self._lasting(self._unclaimed, now))

    # ------------------------------------------------------------------ inner

    @staticmethod
    def _still(known: dict[Key, float], found: "set[Key]", now: float) -> dict[Key, float]:
        return {key: known.get(key, now) for key in found}

    def _lasting(self, since: dict[Key, float], now: float) -> list[Key]:
        return [key for key, first in since.items() if now - first >= self._patience and first < now]

    def _next_due(self, now: float) -> float:
        with self._lock:
            return self._due[0] if self._due else now + self._poll

    def _forget_due(self, now: float) -> None:
        with self._lock:
            while self._due and self._due[0] <= now:
                heapq.heappop(self._due)
