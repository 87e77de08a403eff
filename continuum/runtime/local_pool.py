"""Here lives the local pool: activities executed in the dispatcher's own process.

::

    reserve ─► commit ─► submit ─┬─► backlog ─► threads (def)      ─┐   deliver, settle: in memory, by the run's owner
                adopt (offers) ──┤                                  ├─►
                                 └─► backlog ─► loop (async def)   ─┘   reporter: by message, or another attempt

*Held* is everything whose claim this process has and whose end the journal has not heard: queued, running, being
reported, delivered to the turns thread and not yet settled.

# Invariant: an attempt is begun at most once while its claim holds. `submit` and `adopt` skip what is held already, and
what has been delivered stays held until the commit with its outcome is acknowledged.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from continuum.declare.registry import Registry
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.ids import RunId, WorkerId
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import ClaimedTask, TaskOrder, TaskOutcome
from continuum.runtime.attempt_life import AttemptLife
from continuum.runtime.backlog import Backlog, LimitedBacklog, QueueLimits, Waiting
from continuum.runtime.job import Job, Key
from continuum.runtime.pool_loop import BodyLoop
from continuum.runtime.pool_places import Places
from continuum.runtime.pool_settings import PoolSettings
from continuum.runtime.pool_threads import BodyThreads
from continuum.runtime.pool_watch import Watch
from continuum.runtime.reporter import Reporter

__all__ = ["LocalPool", "PoolSettings"]

logger = logging.getLogger("continuum.runtime")

# At the end of a stop the journal gets at least this long to hear what is left to say.
_LAST_WORDS: Final = 1.0


class LocalPool:
    """Executes tasks claimed by this process. Any thread may call; nothing but ``stop`` blocks.

    :param worker: returns the id under which this process claims now.
    :param concurrency: threads for ``def`` activities.
    :param queues: queues served and how many of each at once; None serves all without limits.
    :param deliver: takes in the outcome of a task, on a pool thread; it stays held until ``settle``.
    :param mailed: called after an outcome was posted as a message.
    :ivar on_room: called, once per :meth:`ask_for_room`, when the pool has room for claimed tasks.
    :ivar on_due: called with the seconds until a task this pool has freed is due again.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        journal: Journal,
        worker: Callable[[], WorkerId],
        concurrency: int,
        queues: Mapping[str, int] | None,
        deliver: Callable[[TaskOutcome], None],
        mailed: Callable[[], None],
        settings: PoolSettings = PoolSettings(),  # noqa: B008 - frozen
    ) -> None:
        self.registry = registry
        self.concurrency = concurrency
        self.queues = None if queues is None else dict(queues)
        self.on_room: Callable[[], None] = _nothing
        self.on_due: Callable[[float], None] = lambda _seconds: None
        self._journal = journal
        self._worker = worker
        self._lock = threading.Lock()  # of _held
        self._held: dict[tuple[RunId, int], Job] = {}
        self._stopping = False
        self._hungry: frozenset[str | None] = frozenset()
        self._reporter = Reporter()
        self._life = AttemptLife(
            journal=journal,
            reporter=self._reporter,
            owner=self,
            deliver=deliver,
            mailed=mailed,
            max_result_bytes=settings.max_result_bytes,
        )
        limits = None if queues is None else QueueLimits(queues)
        self._for_threads: Waiting = Backlog() if limits is None else LimitedBacklog(limits)
        self._for_loop: Waiting = Backlog() if limits is None else LimitedBacklog(limits)
        self._threads = BodyThreads(
            concurrency=concurrency,
            waiting=self._for_threads,
            run=self._life.run,
            freed=self._freed,
            rested=self._rested,
        )
        self._loop = BodyLoop(
            concurrency=settings.async_concurrency,
            waiting=self._for_loop,
            life=self._life,
            reporter=self._reporter,
            freed=self._freed,
            rested=self._rested,
        )
        self._limits = limits
        self._places = Places(
            registry=registry,
            threads=(self._threads, self._for_threads),
            loop=(self._loop, self._for_loop),
            limits=limits,
        )
        self._watch = Watch(
            threads=self._threads,
            loop=self._loop,
            life=self._life,
            heartbeat_interval=settings.heartbeat_interval.total_seconds(),
            ticked=self._tick,
        )

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to watch; threads follow when there is work."""
        self._watch.start()

    def close(self) -> None:
        """Accept nothing more, and put back what has not begun."""
        self._stopping = True
        self._put_back([*self._for_threads.trim(0), *self._for_loop.trim(0)])

    def stop(self, timeout: float) -> bool:
        """Close, and wait for what runs; return whether all ended in time.

        What still runs after ``timeout`` seconds is told so and stays claimed, for the sweep. What has ended by then is
        delivered or reported (which may take a second more). Outcomes may be handed in even later; a second call waits
        for those.
        """
        deadline = time.monotonic() + timeout
        self.close()
        ended = self._threads.stop(timeout)
        ended &= self._loop.stop(max(0.0, deadline - time.monotonic()))
        for job in self._threads.jobs():
            job.cancel()
        self._watch.stop()
        reported = self._reporter.stop(max(_LAST_WORDS, deadline - time.monotonic()))
        if not reported:
            logger.warning("%d attempts could not be reported; their tasks will be swept", self._reporter.pending)
        return ended and reported

    # ------------------------------------------------------------------ seen from the turns thread

    def reserve(self, order: TaskOrder) -> bool:
        """Whether a task may be inserted as claimed for this pool; if so, a place is kept for it."""
        policy = order.policy
        if self._stopping:
            return False
        if self.queues is not None and policy.queue_name not in self.queues:
            return False
        return self._places.reserve(order.activity, policy)

    def unreserve(self, order: TaskOrder) -> None:
        """Give back a place: the task was not inserted."""
        self._places.unreserve(order.activity, order.policy)

    def submit(self, tasks: Sequence[ClaimedTask]) -> None:
        """Execute tasks whose places were reserved; their commit is acknowledged."""
        self._places.take(tasks)
        self.adopt(tasks)

    def cancel(self, run_id: RunId, command: int) -> None:
        """Nobody waits for this task any more: do not begin it, or tell its body; its outcome is thrown away."""
        with self._lock:
            job = self._held.get((run_id, command))
            if job is None or not job.end():
                return  # what has ended is settled or reported
            del self._held[run_id, command]
        self._tell(job)

    def holding(self) -> set[Key]:
        """Return (run, command, attempt) of all that is queued, running, reported or delivered and not yet settled."""
        return {job.key for job in list(self._held.values())}

    def settle(self, keys: Iterable[Key]) -> None:
        """The journal has these outcomes."""
        with self._lock:
            for run_id, command, attempt in keys:
                job = self._held.get((run_id, command))
                if job is not None and job.task.attempt == attempt:
                    del self._held[run_id, command]

    def hand_in(self, outcome: TaskOutcome) -> None:
        """Post an outcome as a message, in the background, however long the database is away."""
        with self._lock:
            job = self._held.get((outcome.run_id, outcome.command))
            if job is None or job.task.attempt != outcome.attempt:
                job = Job(_task_of(outcome), self._worker(), None)
                job.end()
                self._held[outcome.run_id, outcome.command] = job
        self._life.post(job, outcome)

    # ------------------------------------------------------------------ seen from the offers

    def adopt(self, tasks: Sequence[ClaimedTask]) -> None:
        """Execute tasks this process has claimed, those that are not held already."""
        worker, find, heard = self._worker(), self.registry.find_activity, self._watch.heard
        held = self._held
        for_threads: list[Job] = []
        for_loop: list[Job] = []
        with self._lock:
            for task in tasks:
                key = task.run_id, task.command
                known = held.get(key)
                if known is not None and known.task.attempt >= task.attempt:
                    continue
                activity = find(task.activity)
                held[key] = job = Job(task, worker, activity, heard)
                (for_loop if activity is not None and activity.is_async else for_threads).append(job)
        self._queue(for_threads, for_loop)

    def forget(self, keys: Iterable[Key]) -> None:
        """The claims of these are gone in the journal: stop what runs, wait for no settlement."""
        for run_id, command, attempt in keys:
            with self._lock:
                job = self._held.get((run_id, command))
                if job is None or job.task.attempt != attempt:
                    continue
                del self._held[run_id, command]
                ended = job.end()
            if ended:
                self._tell(job)

    def room(self) -> dict[str | None, int]:
        """Return how many claimed tasks would begin soon, by queue; under None if queues are not limited."""
        return {} if self._stopping else self._places.room()

    def ask_for_room(self, queues: AbstractSet[str | None]) -> bool:
        """Return whether one of these has room; if not, call ``on_room`` as soon as one has."""
        self._hungry = frozenset(queues)  # before looking: room that comes up in between must not be missed
        return self._feed()

    # ------------------------------------------------------------------ numbers for operators

    @property
    def running(self) -> int:
        """How many bodies run, without strays."""
        return len(self._threads.jobs()) + len(self._loop.jobs())

    @property
    def queued(self) -> int:
        """How many tasks wait here."""
        return self._places.depth(None)

    @property
    def strays(self) -> int:
        """How many bodies that were given up still run."""
        return self._threads.strays + self._loop.strays

    # ------------------------------------------------------------------ seen from an attempt's life

    def release(self, job: Job) -> None:
        """Hold a job no longer."""
        with self._lock:
            if self._held.get((job.task.run_id, job.task.command)) is job:
                del self._held[job.task.run_id, job.task.command]

    def run_again(self, job: Job) -> None:
        """Let the same attempt wait in line again."""
        task = job.task
        with self._lock:
            if self._held.get((task.run_id, task.command)) is not job:
                return  # cancelled meanwhile
            again = Job(task, job.worker, job.activity, self._watch.heard)
            self._held[task.run_id, task.command] = again
        is_async = again.activity is not None and again.activity.is_async
        self._queue([] if is_async else [again], [again] if is_async else [])

    def due_in(self, seconds: float) -> None:
        """A task this pool has freed will be due."""
        self.on_due(seconds)

    def began_close(self) -> None:
        """An attempt with a near limit has begun."""
        self._watch.scan_soon()

    # ------------------------------------------------------------------ inner

    def _queue(self, for_threads: list[Job], for_loop: list[Job]) -> None:
        if self._stopping:
            self._put_back([*for_threads, *for_loop])
            return
        if for_threads:
            self._for_threads.push(for_threads)
            if self._threads.notify(len(for_threads)):
                self._watch.look_soon()
        if for_loop:
            self._loop.submit(for_loop)

    def _tell(self, job: Job) -> None:
        job.cancel()
        if job.activity is not None and job.activity.is_async:
            self._loop.cancel(job)

    def _freed(self) -> None:
        waiting = self._for_threads.startable()
        if waiting:
            self._threads.notify(waiting)
            self._watch.look_soon()
        if self._for_loop.startable():
            self._loop.nudge()
        self._rested()

    def _rested(self) -> None:
        if self._hungry and self._feed():
            self.on_room()

    def _feed(self) -> bool:
        hungry = self._hungry
        if not any(count > 0 and queue in hungry for queue, count in self.room().items()):
            return False
        self._hungry = frozenset()
        return True

    def _tick(self) -> None:
        """Once a second: put back what would wait for long; try again what threads could not be started for."""
        self._put_back(self._places.excess())
        self._reporter.nudge()
        self._freed()

    def _put_back(self, jobs: Sequence[Job]) -> None:
        unstarted = [job for job in jobs if job.end()]
        if not unstarted:
            return

        def report() -> None:
            by_worker: dict[WorkerId, list[ClaimedTask]] = {}
            for job in unstarted:
                by_worker.setdefault(job.worker, []).append(job.task)
            for worker, tasks in by_worker.items():
                self._journal.tasks.put_back(worker, tasks)
            release()
            self._journal.hint(Hint(HintKind.TASKS))

        def release() -> None:
            for job in unstarted:
                self.release(job)

        self._reporter.put(report, give_up=release)


def _task_of(outcome: TaskOutcome) -> ClaimedTask:
    return ClaimedTask(
        outcome.run_id, outcome.command, outcome.attempt, outcome.activity, "[]", ActivityPolicy(), None, None
    )


def _nothing() -> None:
    pass
