"""Here lives what an outbox knows to be under way: a bounded window of unclaimed tasks for each queue.

The window is bounded because a broker keeps no useful order. What does not fit waits in Postgres, by priority and age.

A task enters when its row is marked as dispatched (a place is *reserved* while the commit that marks it flies). It
leaves when the journal no longer finds it undelivered, when its outcome has come, or when nobody waits for it. So the
window only ever holds too much, never too little: at worst tasks wait in Postgres for a moment longer.

Reservations and additions come from the turns thread, the rest from the outbox's own; a lock of a few instructions
keeps the counts.
"""

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet

from continuum.model.ids import RunId, WorkerId
from continuum.model.tasks import DispatchedTask, TaskRef

__all__ = ["Underway", "Window"]


class Underway:
    """One dispatched task.

    :ivar worker: the id it was marked under.
    :ivar published_at: when its message was surely taken, on the monotonic clock; None if that is not known.
    :ivar gone: whether it has left the window; it need not be published any more.
    :ivar unwanted: whether it left because nobody waits for it; its message may be withdrawn.
    """

    __slots__ = ("gone", "published_at", "task", "unwanted", "worker")

    def __init__(self, task: DispatchedTask, worker: WorkerId) -> None:
        self.task = task
        self.worker = worker
        self.published_at: float | None = None
        self.gone = False
        self.unwanted = False

    @property
    def queue(self) -> str:
        """The queue it was or will be published to."""
        return self.task.policy.queue_name


class Window:
    """At most ``size`` tasks of each queue.

    :ivar touched: whether a row may have been marked since somebody last compared with the journal.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.touched = False
        self._lock = threading.Lock()
        self._held: dict[tuple[RunId, int], Underway] = {}
        self._counts: Counter[str] = Counter()
        self._reserved: Counter[str] = Counter()
        self._behind: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._held)

    # ------------------------------------------------------------------ from the turns thread

    def reserve(self, queue: str) -> bool:
        """Whether one more task of this queue may be marked; if so, a place is kept for it.

        Where tasks wait in Postgres, new ones wait with them: else they would overtake what is more urgent.
        """
        with self._lock:
            if queue in self._behind:
                return False
            if self._counts[queue] + self._reserved[queue] >= self.size:
                self._behind |= {queue}
                return False
            self._reserved[queue] += 1
            self.touched = True
            return True

    def unreserve(self, queue: str) -> None:
        """Give back a place that was kept."""
        with self._lock:
            # Its commit may have landed all the same, unheard: the look-out will see.
            self.touched = True
            if self._reserved[queue] > 0:
                self._reserved[queue] -= 1

    def add(self, tasks: Sequence[DispatchedTask], worker: WorkerId, *, reserved: bool) -> list[Underway]:
        """Take in tasks whose rows are marked; ``reserved``: places were kept for them."""
        added = [Underway(task, worker) for task in tasks]
        with self._lock:
            self.touched = True
            for entry in added:
                key, queue = _key(entry), entry.queue
                before = self._held.get(key)
                if before is not None:  # an earlier attempt or dispatch, which has not been missed yet
                    self._remove(key, before)
                self._held[key] = entry
                self._counts[queue] += 1
                if reserved and self._reserved[queue] > 0:
                    self._reserved[queue] -= 1
        return added

    def settle(self, run_id: RunId, command: int) -> Underway | None:
        """This task's outcome has come, or nobody waits for it; return what was held."""
        key = run_id, command
        with self._lock:
            entry = self._held.get(key)
            if entry is not None:
                self._remove(key, entry)
            return entry

    # ------------------------------------------------------------------ from the outbox

    def held(self) -> list[Underway]:
        """Return all there is."""
        with self._lock:
            return list(self._held.values())

    def rooms(self) -> dict[str, int]:
        """Return how many more tasks may be marked, for each queue that has any."""
        with self._lock:
            busy = {*(+self._counts), *(+self._reserved)}
            return {queue: max(0, self.size - self._counts[queue] - self._reserved[queue]) for queue in busy}

    @property
    def crowded(self) -> bool:
        """Whether a queue is more than half full: a good time to look what has been claimed."""
        with self._lock:
            half = self.size / 2
            return bool(self._behind) or any(count > half for count in self._counts.values())

    @property
    def hungry(self) -> bool:
        """Whether tasks may wait in Postgres for room that there is again."""
        rooms = self.rooms()
        return any(rooms.get(queue, self.size) > 0 for queue in self._behind)

    def fallen_behind(self, *, more: bool) -> bool:
        """Free tasks were marked as far as there was room; ``more``: some were left. Return whether a queue is full."""
        rooms = self.rooms() if more else {}
        with self._lock:
            self._behind = frozenset(queue for queue, room in rooms.items() if room == 0)
            return bool(self._behind)

    def missed(self, before: Iterable[Underway], found: AbstractSet[TaskRef]) -> int:
        """Forget what was held ``before`` the journal was asked and not ``found`` undelivered; return how many."""
        return self.forget([entry for entry in before if entry.task.ref not in found])

    def forget(self, entries: Collection[Underway]) -> int:
        """Forget these; return how many were still here."""
        count = 0
        with self._lock:
            for entry in entries:
                key = _key(entry)
                if self._held.get(key) is entry:
                    self._remove(key, entry)
                    count += 1
                entry.gone = True
        return count

    def forget_work_of(self, worker: WorkerId) -> None:
        """Forget what was marked under this id."""
        self.forget([entry for entry in self.held() if entry.worker == worker])

    # ------------------------------------------------------------------ inner

    def _remove(self, key: tuple[RunId, int], entry: Underway) -> None:
        del self._held[key]
        self._counts[entry.queue] -= 1
        entry.gone = True


def _key(entry: Underway) -> tuple[RunId, int]:
    return entry.task.ref.run_id, entry.task.ref.command
