"""Here lives a local pool with everything around it: a memory journal with a claimed run, and what the pool hands out.

::

    bench = PoolBench(concurrency=2)
    [task] = bench.submit(charge, "o1")
    assert bench.outcome().payload == '"paid"'

The journal can be made unreachable (`bench.away`), and whoever calls which of its methods is counted (`bench.calls`).
"""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from continuum.declare.activities import Activity
from continuum.declare.registry import REGISTRY, Registry
from continuum.errors import JournalUnavailable
from continuum.journal.memory import MemoryJournal
from continuum.model.codec import encode_arguments
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun
from continuum.model.tasks import ClaimedTask, TaskOrder, TaskOutcome, TaskRecord
from continuum.runtime.local_pool import LocalPool, PoolSettings
from continuum.runtime.offers import Offers
from tests.support.eventually import eventually
from tests.support.journals import Desk

__all__ = ["Gate", "PoolBench", "order_of"]


class Gate:
    """Where a body waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered: deque[Any] = deque()
        self._open = threading.Event()

    def __call__(self, what: Any = None) -> None:
        self.entered.append(what)
        assert self._open.wait(30), "nobody opened the gate"

    def open(self) -> None:
        self._open.set()

    def expect(self, count: int) -> None:
        """Wait until so many bodies stand here."""
        eventually(lambda: len(self.entered) >= count)


def order_of(command: int, activity: Activity[..., Any], *args: Any, key: str | None = None) -> TaskOrder:
    policy = activity.policy
    return TaskOrder(command, activity.name, encode_arguments(args, {}), policy, policy.encode(), key)


class _Tasks:
    """The task store, counted and interruptible."""

    def __init__(self, inner: Any, bench: "PoolBench") -> None:
        self._inner = inner
        self._bench = bench

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._bench.calls[name] += 1
            away = self._bench.away
            if name in away or "everything" in away:
                raise JournalUnavailable("away for a test")
            return method(*args, **kwargs)

        return call


class PoolBench:
    """A pool under test. Close it."""

    def __init__(
        self,
        *,
        concurrency: int = 4,
        queues: dict[str, int] | None = None,
        registry: Registry = REGISTRY,
        started: bool = True,
        patience: float = 0.0,
        **settings: Any,
    ) -> None:
        self.journal = MemoryJournal()
        self.desk = Desk(self.journal, wing="memory", locked=self.journal.locked)
        self.calls: Counter[str] = Counter()
        self.away: set[str] = set()
        self.tasks = self.journal.tasks  # for the test itself, always reachable
        self.journal.tasks = _Tasks(self.tasks, self)
        self.worker = self.desk.make_worker()
        self.delivered: deque[TaskOutcome] = deque()
        self.mailed = 0
        self._runs = 0
        self.pool = LocalPool(
            registry=registry,
            journal=self.journal,
            worker=lambda: self.worker,
            concurrency=concurrency,
            queues=queues,
            deliver=self.delivered.append,
            mailed=self._mailed,
            settings=PoolSettings(**{"heartbeat_interval": timedelta(milliseconds=5), **settings}),
        )
        self.offers = Offers(journal=self.journal, pool=self.pool, worker=lambda: self.worker, patience=patience)
        if started:
            self.pool.start()

    def _mailed(self) -> None:
        self.mailed += 1

    def close(self) -> None:
        self.away.clear()
        self.pool.stop(5)
        self.desk.close()
        self.journal.close()

    # ---- work

    def run_with(self, *orders: TaskOrder, claimed: bool = True) -> ClaimedRun:
        """Park a run that waits for these orders; claimed for this worker, or free."""
        commands = [order.command for order in orders] if claimed else []
        return self.desk.parked(self.worker, orders=orders, claimed=commands)

    def claimed(self, activity: Activity[..., Any], *calls: Any, key: str | None = None) -> list[ClaimedTask]:
        """Return tasks of a new run, one for each call (an argument, or a tuple of them), claimed and not submitted."""
        orders = [
            order_of(number, activity, *(call if isinstance(call, tuple) else (call,)), key=key)
            for number, call in enumerate(calls or ((),), 1)
        ]
        run = self.run_with(*orders)
        held = self.tasks.held(self.worker)
        return sorted((task for task in held if task.run_id == run.run_id), key=lambda task: task.command)

    def submit(self, activity: Activity[..., Any], *calls: Any, key: str | None = None) -> list[ClaimedTask]:
        tasks = self.claimed(activity, *calls, key=key)
        self.pool.submit(tasks)
        return tasks

    # ---- what came of it

    def outcome(self) -> TaskOutcome:
        """Wait for the next outcome that was delivered in memory."""
        eventually(lambda: len(self.delivered) > 0)
        return self.delivered.popleft()

    def outcomes(self, count: int) -> list[TaskOutcome]:
        return [self.outcome() for _ in range(count)]

    def settle(self, *outcomes: TaskOutcome) -> None:
        self.pool.settle([(outcome.run_id, outcome.command, outcome.attempt) for outcome in outcomes])

    def row(self, task: ClaimedTask) -> TaskRecord | None:
        """Return the task's row."""
        rows = [row for row in self.tasks.of_run(task.run_id) if row.command == task.command]
        return rows[0] if rows else None

    def letters(self, run_id: RunId) -> list[tuple[str, str | None]]:
        """Return kind and payload of the run's unread mail."""
        return [
            (str(message.kind), message.payload)
            for message in self.desk.mail(self.worker).messages
            if message.run_id == run_id
        ]

    def nothing_held(self) -> None:
        eventually(lambda: not self.pool.holding())

    @contextmanager
    def journal_away(self, *methods: str) -> Iterator[None]:
        """Make these methods of the task store (or all of them) fail inside the block."""
        self.away = set(methods) or {"everything"}
        try:
            yield
        finally:
            self.away = set()
