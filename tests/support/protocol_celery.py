"""Here lives an external executor reduced to its protocol: a broker that may do anything, and two workers behind it.

The broker loses, repeats and reorders messages. A worker claims by name what a message names, and ends it, tries it
again, puts it back, loses the process that runs it, is taken for dead and goes on all the same, or has not the code.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRef
from tests.support.protocol_held import key_of

if TYPE_CHECKING:
    from tests.support.protocol_world import World

__all__ = ["CELERY", "DEADLINE", "PAST_ANY_DEADLINE", "Celery"]

CELERY = "celery"
DEADLINE = timedelta(minutes=1)
PAST_ANY_DEADLINE = timedelta(minutes=11)
PAST_ANY_LIMIT = timedelta(hours=3)
MOST_JOBS = 2

Action = tuple[str, Callable[[], object], int]
FAILURE = Failure("E", "e")
DIED = Failure("WorkerLostError", "signal 9", kind=FailureKind.WORKER_DIED)


class Consumer:
    """A worker of the executor, and its successors after each death."""

    def __init__(self, world: "World") -> None:
        self.worker: WorkerId = world.register()
        self.jobs: list[ClaimedTask] = []


class Celery:
    """The broker and who consumes from it."""

    def __init__(self, world: "World") -> None:
        self.world, self.random = world, world.random
        self.messages: list[TaskRef] = []
        self.consumers = [Consumer(world), Consumer(world)]
        self.zombies: list[tuple[WorkerId, ClaimedTask]] = []
        self.abandoned: list[tuple[WorkerId, TaskRef]] = []
        self.losses, self.waits, self.deaths = 2, 2, 2

    # ---------------------------------------------------------------- what may happen next

    def actions(self) -> list[Action]:
        """Return what may happen to messages and workers now, with weights."""
        found: list[Action] = []
        if self.messages:
            found.append(("a message is repeated", self._repeat, 6))
            found.append(("a worker without the code gets a message", self._defer, 5))
            if self.losses:
                found.append(("a message is LOST", self._lose, 2))
        for number, one in enumerate(self.consumers):
            name = f"celery {number}"
            found.append((f"{name}: beats", lambda one=one: self.beat(one), 2))
            if self.messages and len(one.jobs) < MOST_JOBS:
                found.append((f"{name}: gets a message", lambda one=one: self.consume(one), 24))
            if one.jobs:
                found += [
                    (f"{name}: hands in", lambda one=one: self.hand_in(one), 6),
                    (f"{name}: tries again", lambda one=one: self._retry(one), 6),
                    (f"{name}: puts back", lambda one=one: self._put_back(one), 2),
                ]
                if self.deaths:
                    found.append((f"{name}: LOSES A CHILD", lambda one=one: self._lose_child(one), 2))
        if self.zombies:
            found.append(("a lost attempt ends late", self.end_late, 4))
        if self.abandoned:
            found.append(("a child's death is told again", lambda: self._abandon(*self.abandoned.pop()), 2))
        if self.waits:
            found.append(("no message is heard of for long", lambda: self._wait(PAST_ANY_DEADLINE), 1))
            found.append(("everybody is silent for hours", lambda: self._wait(PAST_ANY_LIMIT), 1))
        return found

    # ---------------------------------------------------------------- the broker

    def publish(self, ref: TaskRef) -> None:
        self.messages.append(ref)

    def _take(self) -> TaskRef:
        return self.messages.pop(self.random.randrange(len(self.messages)))

    def _repeat(self) -> None:
        self.messages.append(self.random.choice(self.messages))

    def _lose(self) -> None:
        self.losses -= 1
        self._take()

    def _wait(self, span: timedelta) -> None:
        self.waits -= 1
        self.world.wing.age_tasks(span)

    def _defer(self) -> None:
        self.world.journal.tasks.defer([self._take()], delay=timedelta(0))

    # ---------------------------------------------------------------- its workers

    def beat(self, one: Consumer) -> None:
        """Prolong the lease, or learn of the death: bodies that run go on, and end late."""
        if not self.world.beat(one.worker):
            self.zombies += [(one.worker, task) for task in one.jobs]
            one.worker, one.jobs = self.world.register(), []

    def consume(self, one: Consumer) -> None:
        """Claim what a message names."""
        ref = self._take()
        tasks = self.world.journal.tasks.claim_dispatched(one.worker, [ref, ref])
        for task in tasks:
            if self.world.watched:
                self.world.judge.named(one.worker, ref, task)
            self.world.execute_attempt(task)
        one.jobs += tasks

    def hand_in(self, one: Consumer) -> None:
        """Hand in some of what has ended, together."""
        jobs = self.random.sample(one.jobs, self.random.randint(1, len(one.jobs)))
        one.jobs = [task for task in one.jobs if task not in jobs]
        self.finish(one.worker, jobs)

    def finish(self, worker: WorkerId, tasks: list[ClaimedTask]) -> None:
        """Hand in outcomes, watched."""
        outcomes = [self._outcome(task) for task in tasks]
        rows = self.world.judge.rows(outcomes) if self.world.watched else {}
        accepted = self.world.journal.tasks.finish_many(worker, outcomes)
        if self.world.watched:
            self.world.judge.outcomes(worker, outcomes, rows, accepted)

    def _outcome(self, task: ClaimedTask) -> TaskOutcome:
        failure = FAILURE if self.random.random() < 0.2 else None
        payload = None if failure else f'"{task.command}/{task.attempt}"'
        return TaskOutcome(task.run_id, task.command, task.attempt, task.activity, payload, failure)

    def end_late(self) -> None:
        """Hand in an outcome of a worker that was taken for dead."""
        worker, task = self.zombies.pop(self.random.randrange(len(self.zombies)))
        self.finish(worker, [task])

    def _retry(self, one: Consumer) -> None:
        task = one.jobs.pop()
        if task.attempt < self.world.attempts:
            self.world.journal.tasks.retry(one.worker, task, failure=FAILURE, delay=timedelta(0))
            # Its acknowledgement was lost on the way, or the body went on: the outcome comes all the same.
            self.zombies.append((one.worker, task))
        else:
            self.finish(one.worker, [task])

    def _put_back(self, one: Consumer) -> None:
        task = one.jobs.pop()
        if self.world.journal.tasks.put_back(one.worker, [task]):
            self.world.judge.unbegun(key_of(task))

    def _lose_child(self, one: Consumer) -> None:
        self.deaths -= 1
        task = one.jobs.pop()
        ref = TaskRef(task.run_id, task.command, task.attempt)
        self._abandon(one.worker, ref)
        self.abandoned.append((one.worker, ref))

    def _abandon(self, worker: WorkerId, ref: TaskRef) -> None:
        self.world.journal.tasks.abandon(worker, ref, failure=DIED)

    # ---------------------------------------------------------------- the end

    def settle(self) -> None:
        """Let every message arrive and every attempt end; what was lost is overdue afterwards."""
        for one in self.consumers:
            self.beat(one)
            while self.messages:
                self.consume(one)
            while one.jobs:
                self.hand_in(one)
        while self.zombies:
            self.end_late()
        self.world.wing.age_tasks(PAST_ANY_DEADLINE)
