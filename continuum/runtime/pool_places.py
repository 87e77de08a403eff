"""Here lives how much work may wait in a local pool, and what has waited for too long.

A claimed task that waits here cannot be begun by an idle dispatcher next door, so work is accepted only as far as it
will begin soon. Threads and loop are judged apart: neither kind of body can take the other's work.

::

    brisk = bodies at once − those that have been running for longer than _SOON   (of a limited queue: within its limit)
    bound = brisk * _SOON / recent duration, at least brisk

As much as ``bound`` may wait. Where nothing is brisk, nothing is accepted, and what waits already is put back.

Reservations belong to the turns thread; the rest may be called by any.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from continuum.declare.registry import Registry
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import ClaimedTask
from continuum.runtime.backlog import QueueLimits, Waiting
from continuum.runtime.job import Job

__all__ = ["Bodies", "Places"]

# Work for this long may wait here; more is left to other dispatchers.
_SOON: Final = 0.25
_LONGEST_BACKLOG: Final = 4096
# Counting long bodies costs a microsecond a dozen, and a reservation is made for every task.
_COUNT_EVERY: Final = 0.02
_THREADS: Final = 0
_LOOP: Final = 1


class Bodies(Protocol):
    """Threads or a loop, as far as their pace is concerned."""

    @property
    def pace(self) -> float | None:
        """Recent duration of a body in seconds; None as long as that would be a guess."""

    @property
    def capacity(self) -> int:
        """How many bodies can run at once, as things are."""

    @property
    def free(self) -> int:
        """How many more could begin at once."""

    def jobs(self) -> list[Job]:
        """Return the jobs that run now."""


class _Count:
    """Bodies of one kind at one moment: how many are brisk; how many of each limited queue are long."""

    def __init__(self, bodies: Bodies, others: Bodies, limits: QueueLimits | None) -> None:
        self.at = time.monotonic()
        long = self._long(bodies)
        self.brisk = max(0, bodies.capacity - len(long))
        # Of a limited queue, threads and loop together run only so many.
        self.long = Counter[str]()
        if limits is not None:
            self.long.update(job.task.policy.queue_name for job in (*long, *self._long(others)))

    def _long(self, bodies: Bodies) -> list[Job]:
        return [job for job in bodies.jobs() if (job.busy_since or self.at) < self.at - _SOON]


class Places:
    """Judges how many tasks may wait, by kind of body and by queue."""

    def __init__(
        self,
        *,
        registry: Registry,
        threads: tuple[Bodies, Waiting],
        loop: tuple[Bodies, Waiting],
        limits: QueueLimits | None,
    ) -> None:
        self._find = registry.find_activity
        self._kinds = (threads, loop)
        self._limits = limits
        self._counts: list[_Count | None] = [None, None]
        self._reserved: tuple[Counter[str | None], Counter[str | None]] = (Counter(), Counter())

    # ------------------------------------------------------------------ reservations

    def reserve(self, activity: str, policy: ActivityPolicy) -> bool:
        """Whether one more task may wait; if so, a place is kept for it."""
        kind = self._kind(activity)
        bodies, waiting = self._kinds[kind]
        count = self._counts[kind]
        if count is None or time.monotonic() - count.at > _COUNT_EVERY:
            count = self._counts[kind] = self._count(kind)
        queue, brisk = None, count.brisk
        if self._limits is not None:
            queue = policy.queue_name
            brisk = self._brisk(count, queue)
        reserved = self._reserved[kind]
        if reserved[queue] + waiting.depth(queue) >= _bound(brisk, bodies.pace):
            return False
        reserved[queue] += 1
        return True

    def unreserve(self, activity: str, policy: ActivityPolicy) -> None:
        """Give back a place that was kept."""
        queue = None if self._limits is None else policy.queue_name
        reserved = self._reserved[self._kind(activity)]
        if reserved[queue] > 0:
            reserved[queue] -= 1

    def take(self, tasks: Sequence[ClaimedTask]) -> None:
        """The tasks for which places were kept are here."""
        for task in tasks:
            self.unreserve(task.activity, task.policy)

    @property
    def reserved(self) -> int:
        """How many places are kept."""
        return sum(sum(kept.values()) for kept in self._reserved)

    # ------------------------------------------------------------------ what is there

    def room(self) -> dict[str | None, int]:
        """Return how many claimed tasks of either kind would begin soon, by queue; under None without limits.

        Nobody can say of which kind the tasks will be that a claim brings, so this is what the threads can take.
        """
        bodies, limits = self._kinds[_THREADS][0], self._limits
        free = max(bodies.free, 0)
        if limits is None:
            pace = bodies.pace
            quick = 0 if pace is None else _bound(self._count(_THREADS).brisk, pace)
            return {None: max(0, max(free, quick) - self.depth(None))}
        with limits.lock:
            found = {queue: min(limits.room(queue), free) for queue in limits.limits}
        return {queue: max(0, count - self.depth(queue)) for queue, count in found.items()}

    def depth(self, queue: str | None) -> int:
        """Return how many tasks of either kind wait."""
        return sum(waiting.depth(queue) for _, waiting in self._kinds)

    def excess(self) -> list[Job]:
        """Remove and return what would wait for long: bodies have turned out slower than they were."""
        removed: list[Job] = []
        limits = self._limits
        for kind, (bodies, waiting) in enumerate(self._kinds):
            if not waiting.depth():
                continue
            count, pace = self._count(kind), bodies.pace
            if limits is None:
                keep = _bound(count.brisk, pace)
                if waiting.depth() > 2 * keep:
                    removed += waiting.trim(keep)
                continue
            for queue in list(limits.limits):
                keep = _bound(self._brisk(count, queue), pace)
                if waiting.depth(queue) > 2 * keep:
                    removed += waiting.trim(keep, queue)
        return removed

    # ------------------------------------------------------------------ inner

    def _kind(self, name: str) -> int:
        activity = self._find(name)
        return _LOOP if activity is not None and activity.is_async else _THREADS

    def _count(self, kind: int) -> _Count:
        return _Count(self._kinds[kind][0], self._kinds[1 - kind][0], self._limits)

    def _brisk(self, count: _Count, queue: str) -> int:
        assert self._limits is not None
        limit = self._limits.limits.get(queue, 0)
        return max(0, min(limit - count.long[queue], count.brisk))


def _bound(brisk: int, pace: float | None) -> int:
    if pace is None:
        return brisk
    return max(brisk, min(_LONGEST_BACKLOG, int(brisk * _SOON / max(pace, 1e-6))))
