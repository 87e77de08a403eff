"""Here lives looking after what an outbox has dispatched: what was claimed, what was lost on the way.

The journal is asked what this worker has dispatched and nobody has claimed. What is not there any more leaves the
window. What is there and unknown here for a while was marked by a statement whose answer was lost; it is freed. What
was published long ago while the broker says that its queue is empty was lost by the broker; it is freed as well.
Freed tasks are marked and published anew.

If nothing has been marked since the last look, nothing is asked.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

from continuum.journal.protocol import Journal
from continuum.model.ids import WorkerId
from continuum.model.tasks import TaskRef
from continuum.runtime.belief import Belief
from continuum.runtime.transport import Transport
from continuum.runtime.window import Underway, Window

__all__ = ["Lookout"]

logger = logging.getLogger("continuum.runtime")

# Between two looks: while a queue is crowded, and otherwise.
_QUICK: Final = 0.05
_SLOW: Final = 3.0
# Many queues may be full for hours: the question takes at most this part of the time.
_SHARE: Final = 0.05
# A message nobody has claimed for this long, doubled with each dispatch, is worth a question to the broker.
_UNHEARD: Final = 10.0
_MOST_DOUBLINGS: Final = 10
# A dispatched row that is unknown here: for this long its commit may still be under way.
_PATIENCE: Final = 5.0
_NOW: Final = timedelta(0)


class Lookout:
    """Used by the outbox's thread."""

    def __init__(
        self,
        *,
        journal: Journal,
        transport: Transport,
        window: Window,
        belief: Belief,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._transport = transport
        self._executor = transport.name
        self._window = window
        self._belief = belief
        self._now = now
        self._looked_at: float | None = None
        self._quick = _QUICK
        self._sought_at = now()
        self._strange: dict[TaskRef, float] = {}

    def next_look(self) -> float | None:
        """Return the monotonic time of the next look; None if there is no reason for one."""
        if not self._window.touched:
            self._looked_at = None
            return None
        if self._looked_at is None:
            self._looked_at = self._now()
        return self._looked_at + (self._quick if self._window.crowded else _SLOW)

    def look(self, worker: WorkerId) -> bool:
        """Compare the window with the journal; return whether tasks were freed."""
        window = self._window
        self._looked_at = self._now()
        # Before the question: what is marked meanwhile is a reason for another one.
        window.touched = False
        before = window.held()
        try:
            found = frozenset(self._journal.tasks.undelivered(worker, executor=self._executor))
            self._quick = min(max(_QUICK, (self._now() - self._looked_at) / _SHARE), _SLOW)
            window.missed(before, found)
            freed = self._free_lost(found, {entry.task.ref for entry in (*before, *window.held())})
            freed |= self._free_unheard()
        except BaseException:
            window.touched = True
            raise
        if found or len(window):
            window.touched = True
        return freed

    def free(self, entries: Sequence[Underway], *, delay: timedelta) -> None:
        """Offer dispatched tasks again after a while."""
        self._journal.tasks.defer([entry.task.ref for entry in entries], delay=delay)
        self._window.forget(entries)

    def _free_lost(self, found: frozenset[TaskRef], known: Collection[TaskRef]) -> bool:
        now = self._now()
        self._strange = {ref: self._strange.get(ref, now) for ref in found.difference(known)}
        lost = [ref for ref, since in self._strange.items() if now - since >= _PATIENCE]
        if lost:
            logger.warning(
                "executor %r: the answer that %d tasks are dispatched was lost; they are offered again",
                self._executor,
                len(lost),
            )
            self._journal.tasks.defer(lost, delay=_NOW)
        return bool(lost)

    def _free_unheard(self) -> bool:
        now = self._now()
        if now < self._sought_at + _SLOW or not self._belief.up:
            return False
        self._sought_at = now
        late: dict[str, list[Underway]] = {}
        for entry in self._window.held():
            if entry.published_at is not None and now - entry.published_at >= _patience_for(entry):
                late.setdefault(entry.queue, []).append(entry)
        freed = False
        for queue, entries in late.items():
            if self._transport.waiting(queue) == 0:
                logger.warning(
                    "executor %r: queue %r is empty and %d of its tasks were never begun; they are published again",
                    self._executor,
                    queue,
                    len(entries),
                )
                self.free(entries, delay=_NOW)
                freed = True
        return freed


def _patience_for(entry: Underway) -> float:
    return _UNHEARD * 2.0 ** min(entry.task.dispatch_no - 1, _MOST_DOUBLINGS)
