"""Here lives the order in which jobs wait: by priority, then by arrival, and within the limits of their queues.

Two forms of one thing. `Backlog` knows no limits and costs a deque operation for jobs of ordinary priority.
`LimitedBacklog` looks, at each step, for the best job whose queue has room.
"""

import contextlib
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from continuum.runtime.job import Job

__all__ = ["Backlog", "LimitedBacklog", "QueueLimits", "Waiting"]

_Ranked = tuple[int, int, Job]


class Waiting(Protocol):
    """Jobs that wait to be begun. Any thread."""

    def push(self, jobs: Iterable[Job]) -> None:
        """Add jobs."""

    def pop(self) -> Job:
        """Take the next job that may begin. Raises ``IndexError`` if there is none."""

    def done(self, job: Job) -> bool:
        """A job that was taken is over; return whether that lets another one begin."""

    def startable(self) -> int:
        """Return how many could begin now if there were threads for them."""

    def depth(self, queue: str | None = None) -> int:
        """Return how many wait, in all or in one queue."""

    def trim(self, keep: int, queue: str | None = None) -> list[Job]:
        """Remove and return those that would be begun last, beyond ``keep`` (per queue where queues are limited)."""


class Backlog:
    """Jobs of any queue, without limits."""

    def __init__(self) -> None:
        self._plain: deque[Job] = deque()
        # Invariant: heap operations compare two integers that are never both equal, so they run no Python code and
        # are atomic; no lock is needed here.
        self._above: list[_Ranked] = []
        self._below: list[_Ranked] = []
        self._ticket = itertools.count()

    def push(self, jobs: Iterable[Job]) -> None:
        """Add jobs."""
        plain = []
        for job in jobs:
            priority = job.task.policy.priority
            if priority == 0:
                plain.append(job)
            else:
                heapq.heappush(self._above if priority > 0 else self._below, (-priority, next(self._ticket), job))
        self._plain.extend(plain)

    def pop(self) -> Job:
        """Take the next job."""
        if self._above:
            try:
                return heapq.heappop(self._above)[2]
            except IndexError:  # another thread was faster
                pass
        try:
            return self._plain.popleft()
        except IndexError:
            if self._below:
                return heapq.heappop(self._below)[2]
            raise

    def done(self, job: Job) -> bool:  # noqa: ARG002 - part of the seam
        """Nothing is counted here."""
        return False

    def startable(self) -> int:
        """Return how many wait."""
        return len(self._plain) + len(self._above) + len(self._below)

    def depth(self, queue: str | None = None) -> int:  # noqa: ARG002 - queues are not told apart here
        """Return how many wait, in all."""
        return self.startable()

    def trim(self, keep: int, queue: str | None = None) -> list[Job]:  # noqa: ARG002 - as above
        """Remove and return the last ones."""
        removed: list[Job] = []
        excess = self.startable() - keep
        while excess > 0 and (removed_one := self._pop_last()) is not None:
            removed.append(removed_one)
            excess -= 1
        return removed

    def _pop_last(self) -> Job | None:
        # The end of a heap is a leaf: not always the last of all, but never the first, and taking it is atomic.
        for line in (self._below, self._plain, self._above):
            with contextlib.suppress(IndexError):
                found = line.pop()
                return found if isinstance(found, Job) else found[2]
        return None


class QueueLimits:
    """How many jobs of each served queue run, in threads and on the loop together."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.lock = threading.Lock()
        self.limits = dict(limits)
        self.running = dict.fromkeys(limits, 0)

    def room(self, queue: str) -> int:
        """Return how many more of a queue may begin. Hold the lock."""
        return self.limits[queue] - self.running[queue]


class LimitedBacklog:
    """Jobs of some queues, each with a limit of its own."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._heaps: dict[str, list[_Ranked]] = {queue: [] for queue in limits.limits}
        self._ticket = itertools.count()

    def push(self, jobs: Iterable[Job]) -> None:
        """Add jobs; of a queue that is not limited here, as if its limit were 1."""
        with self._limits.lock:
            for job in jobs:
                policy = job.task.policy
                heap = self._heaps.get(policy.queue_name)
                if heap is None:  # claimed before the queues were configured anew, say
                    self._limits.limits.setdefault(policy.queue_name, 1)
                    self._limits.running.setdefault(policy.queue_name, 0)
                    heap = self._heaps[policy.queue_name] = []
                heapq.heappush(heap, (-policy.priority, next(self._ticket), job))

    def pop(self) -> Job:
        """Take the best job of all queues that have room."""
        limits = self._limits
        with limits.lock:
            best = min(
                ((heap[0], queue) for queue, heap in self._heaps.items() if heap and limits.room(queue) > 0),
                key=lambda found: found[0][:2],
                default=None,
            )
            if best is None:
                raise IndexError
            queue = best[1]
            limits.running[queue] += 1
            return heapq.heappop(self._heaps[queue])[2]

    def done(self, job: Job) -> bool:
        """Make room in the job's queue."""
        with self._limits.lock:
            self._limits.running[job.task.policy.queue_name] -= 1
        return True

    def startable(self) -> int:
        """Return how many wait in queues with room, as far as there is room."""
        limits = self._limits
        with limits.lock:
            return sum(min(len(heap), max(0, limits.room(queue))) for queue, heap in self._heaps.items())

    def depth(self, queue: str | None = None) -> int:
        """Return how many wait."""
        with self._limits.lock:
            if queue is not None:
                return len(self._heaps.get(queue, ()))
            return sum(map(len, self._heaps.values()))

    def trim(self, keep: int, queue: str | None = None) -> list[Job]:
        """Remove and return the last ones of one queue, or of each."""
        removed: list[Job] = []
        with self._limits.lock:
            for heap in self._heaps.values() if queue is None else [self._heaps.get(queue, [])]:
                if len(heap) > keep:
                    heap.sort()  # a sorted list is a heap
                    removed.extend(job for _, _, job in heap[keep:])
                    del heap[keep:]
        return removed
