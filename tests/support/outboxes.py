"""Here lives an outbox with everything around it: a memory journal, a transport of the test's, and a clock by hand."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from continuum.errors import JournalUnavailable
from continuum.journal.memory import MemoryJournal
from continuum.model.ids import WorkerId, new_worker_id
from continuum.model.leases import WorkerInfo
from continuum.model.tasks import DispatchedTask, TaskOrder, TaskRecord, TaskRef
from continuum.runtime.lease import Lease
from continuum.runtime.outbox import Outbox
from tests.support.journals import HOUR, Desk, order
from tests.support.transports import FakeTransport

__all__ = ["OutboxBench", "fake_order"]


def fake_order(command: int, **options: Any) -> TaskOrder:
    return order(command, **{"executor": "fake", "queue": "q", **options})


class _Tasks:
    """The task store, counted and interruptible."""

    def __init__(self, inner: Any, bench: "OutboxBench") -> None:
        self._inner = inner
        self._bench = bench

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._bench.calls[name] += 1
            if name in self._bench.away:
                raise JournalUnavailable("away for a test")
            answer = method(*args, **kwargs)
            if name in self._bench.mute:
                raise JournalUnavailable("the answer was lost for a test")
            self._bench.after(name)
            return answer

        return call


class OutboxBench:
    """An outbox under test. Its thread runs only if the test starts it: `run` passes it once.

    :ivar away: methods of the task store that fail. ``mute``: whose answers are lost.
    """

    def __init__(self, *, window: int = 10, poll: timedelta = timedelta(seconds=30)) -> None:
        self.journal = MemoryJournal()
        self.journal.check()
        self.desk = Desk(self.journal, wing="memory", locked=self.journal.locked)
        self.tasks = self.journal.tasks  # for the test itself, always reachable
        self.calls: Counter[str] = Counter()
        self.away: set[str] = set()
        self.mute: set[str] = set()
        self.after: Callable[[str], None] = lambda _name: None
        self.journal.tasks = _Tasks(self.tasks, self)  # type: ignore[assignment]
        self.lease = Lease(HOUR)
        self.register()
        self.transport = FakeTransport()
        self._offset = 0.0
        self._frozen: float | None = None
        self.outbox = Outbox(
            journal=self.journal,
            transport=self.transport,
            lease=self.lease,
            instance="shop",
            window=window,
            deadline=timedelta(seconds=60),
            poll=poll,
            now=self.now,
        )

    def now(self) -> float:
        return (time.monotonic() if self._frozen is None else self._frozen) + self._offset

    def freeze(self) -> None:
        """Let time pass for the outbox only when the test says so."""
        self._frozen = time.monotonic()

    def pass_time(self, seconds: float) -> None:
        """For the outbox; the journal's clock stays."""
        self._offset += seconds

    def close(self) -> None:
        self.away.clear()
        self.transport.hang.set()
        self.outbox.stop(5)
        self.desk.close()
        self.journal.close()

    def register(self) -> WorkerId:
        """Take a new worker id."""
        worker = new_worker_id()
        self.journal.workers.register(WorkerInfo(worker, "host", 4711, HOUR))
        self.lease.registered(worker, sent=time.monotonic())
        return worker

    def run(self) -> float:
        """Pass the loop once; return how long it would sleep."""
        return self.outbox.run_once()

    # ---- work

    def free(self, *orders: TaskOrder) -> list[TaskRef]:
        """Park a run that waits for these free tasks."""
        run = self.desk.parked(self.lease.worker, orders=orders)
        return [TaskRef(run.run_id, item.command, 1) for item in orders]

    def ordered(self, *orders: TaskOrder) -> list[DispatchedTask]:
        """Let a turn order these: reserve, commit, and return what is to be submitted. Those refused are free."""
        kept = [item for item in orders if self.outbox.reserve(item)]
        run = self.desk.parked(self.lease.worker, orders=orders, dispatched=frozenset(item.command for item in kept))
        deadline = self.desk.now_us() + 60_000_000
        return [
            DispatchedTask(TaskRef(run.run_id, item.command, 1), item.activity, item.policy, 1, deadline)
            for item in kept
        ]

    def submit(self, *orders: TaskOrder) -> list[TaskRef]:
        """Let a turn order these, and hand them to the outbox."""
        tasks = self.ordered(*orders)
        self.outbox.submit(tasks)
        return [task.ref for task in tasks]

    def claim(self, *refs: TaskRef) -> list[TaskRef]:
        """Let somebody claim them, as if their messages had come; return those that could be claimed."""
        worker = self.desk.make_worker()
        return [TaskRef(t.run_id, t.command, t.attempt) for t in self.tasks.claim_dispatched(worker, refs)]

    # ---- what came of it

    def row(self, ref: TaskRef) -> TaskRecord:
        [row] = [row for row in self.tasks.of_run(ref.run_id) if row.command == ref.command]
        return row

    def states(self, refs: Sequence[TaskRef]) -> list[str]:
        return [str(self.row(ref).state) for ref in refs]

    @property
    def status(self) -> tuple[object, object, object]:
        """Outstanding, to be published, how the broker is."""
        found = self.outbox.status()
        return found["outstanding"], found["to_publish"], found["broker"]
