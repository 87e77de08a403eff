"""Here lives a transport that a test owns: it keeps what it is given, and fails, hangs, loses and hides it on demand.

`FakeWorkers` are the other end: threads that claim by name whatever comes out, in the order and as often as a test
likes.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol, Self

import msgspec

from continuum.declare.registry import REGISTRY, Registry
from continuum.errors import ConfigError
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId, new_worker_id
from continuum.model.leases import WorkerInfo
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import ClaimedTask, DispatchedTask, TaskOutcome, TaskRef
from continuum.runtime.transport import PublishError
from tests.support.journals import HOUR

__all__ = ["FakeTransport", "FakeWorkers", "FileTransport"]

LONGEST_HANG = 20.0


class FakeTransport:
    """A broker and the way to it.

    :ivar down: whether publishing fails at once.
    :ivar fail_at: how many more tasks are taken before one publish fails; None: none fails.
    :ivar poison: activities that cannot be published for a reason of their own.
    :ivar hang: publishing waits here while the event is cleared, until `LONGEST_HANG`.
    :ivar messages: what workers have not received yet.
    """

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.published: list[DispatchedTask] = []
        self.messages: deque[DispatchedTask] = deque()
        self.instances: set[str] = set()
        self.batches: list[int] = []
        self.withdrawn: list[tuple[TaskRef, int]] = []
        self.tries = 0
        self.down = False
        self.flaw: str | None = None
        self.fail_at: int | None = None
        self.poison: set[str] = set()
        self.hang = threading.Event()
        self.hang.set()
        self.hanging = threading.Event()
        self.lose = False
        self.asked: Counter[str] = Counter()
        self.depths: dict[str, int | None] = {}
        self.placed: Counter[str] = Counter()
        self.closed = 0
        self.threads: set[str] = set()
        self.on_publish: Callable[[], None] = lambda: None

    def place(self, activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        self.placed[activity] += 1
        return msgspec.structs.replace(policy, queue=policy.queue or f"{self.name}-queue")

    def check(self) -> None:
        if self.flaw is not None:
            raise ConfigError(self.flaw)

    def publish(self, tasks: Sequence[DispatchedTask], *, instance: str) -> None:
        self.tries += 1
        self.threads.add(threading.current_thread().name)
        self.instances.add(instance)
        self.on_publish()
        if not self.hang.is_set():
            self.hanging.set()
            self.hang.wait(LONGEST_HANG)
        if self.down:
            raise PublishError("connection refused")
        sent = 0
        for task in tasks:
            if task.activity in self.poison:
                raise TypeError(f"cannot encode {task.activity}")
            if self.fail_at == 0:
                self.fail_at = None
                raise PublishError("connection reset", sent=sent)
            if self.fail_at is not None:
                self.fail_at -= 1
            self.published.append(task)
            if not self.lose:
                self.messages.append(task)
            sent += 1
        self.batches.append(sent)

    def withdraw(self, tasks: Sequence[tuple[TaskRef, int]]) -> None:
        self.withdrawn += tasks

    def waiting(self, queue: str) -> int | None:
        self.asked[queue] += 1
        return self.depths.get(queue, 0)

    def close(self) -> None:
        self.closed += 1

    # ---- the other end

    def take(self, random: Random | None = None) -> TaskRef | None:
        """Receive a message, the oldest or any."""
        try:
            if random is not None:
                self.messages.rotate(random.randrange(len(self.messages) + 1))
            return self.messages.popleft().ref
        except IndexError:
            return None

    # ---- for tests

    @property
    def refs(self) -> list[TaskRef]:
        """What was published, in order."""
        return [task.ref for task in self.published]

    @property
    def commands(self) -> list[int]:
        return [task.ref.command for task in self.published]


class FileTransport:
    """A broker that outlives the process: a file with one line for each message.

    Publishing processes append, one process receives.
    """

    name = "celery"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read = 0
        path.touch()

    def place(self, _activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        return msgspec.structs.replace(policy, queue=policy.queue or "file")

    def check(self) -> None:
        pass

    def publish(self, tasks: Sequence[DispatchedTask], *, instance: str) -> None:
        with self._path.open("ab") as file:
            for task in tasks:
                file.write(msgspec.json.encode((task.ref, task.dispatch_no, instance)) + b"\n")

    def withdraw(self, tasks: Sequence[tuple[TaskRef, int]]) -> None:
        pass

    def waiting(self, _queue: str) -> int | None:
        return None

    def close(self) -> None:
        pass

    def lines(self) -> list[tuple[TaskRef, int, str]]:
        """Return all messages that were ever published: ref, dispatch number, instance."""
        whole = self._path.read_bytes().rpartition(b"\n")[0]
        return [msgspec.json.decode(line, type=tuple[TaskRef, int, str]) for line in whole.split(b"\n") if line]

    def take(self, _random: Random | None = None) -> TaskRef | None:
        with self._lock:
            lines = self.lines()
            if self._read >= len(lines):
                return None
            self._read += 1
            return lines[self._read - 1][0]


class Source(Protocol):
    """Where workers get messages from."""

    def take(self, random: Random | None = None) -> TaskRef | None: ...


class FakeWorkers:
    """Threads that take messages and run what they can claim, with a lease of their own.

    :ivar ran: how often the body of each attempt was begun.
    :ivar shuffle: takes messages in any order.
    :ivar twice: hands every message to two claims.
    """

    def __init__(
        self,
        journal: Journal,
        transport: Source,
        *,
        registry: Registry = REGISTRY,
        threads: int = 2,
        seed: int | None = None,
        twice: bool = False,
    ) -> None:
        self.worker: WorkerId = new_worker_id()
        self.ran: Counter[TaskRef] = Counter()
        self.order: list[TaskRef] = []
        self.stale = 0
        self.failures: dict[str, int] = {}
        self._journal = journal
        self._transport = transport
        self._registry = registry
        self._random = None if seed is None else Random(seed)
        self._twice = twice
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"fake-worker-{n}") for n in range(threads)]
        journal.workers.register(WorkerInfo(self.worker, "host", 4711, HOUR))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            ref = self._transport.take(self._random)
            if ref is None:
                self._stopping.wait(0.002)
                continue
            for _ in range(2 if self._twice else 1):
                self.receive(ref)

    def receive(self, ref: TaskRef) -> None:
        """Do what a worker does with one message."""
        claimed = self._journal.tasks.claim_dispatched(self.worker, [ref])
        if not claimed:
            self.stale += 1
            return
        [task] = claimed
        self.ran[ref] += 1
        self.order.append(ref)
        if self.failures.get(task.activity, 0) >= task.attempt:
            failure = Failure("ValueError", "no", attempts=task.attempt)
            delay = task.policy.retry.delay(task.attempt, fraction=0.0)
            assert self._journal.tasks.retry(self.worker, task, failure=failure, delay=delay)
            self._journal.hint(Hint(HintKind.TASKS))
            return
        assert self._journal.tasks.finish_many(self.worker, [TaskOutcome(*_key(task), task.activity, self._call(task))])
        self._journal.hint(Hint(HintKind.MAIL))

    def _call(self, task: ClaimedTask) -> str:
        activity = self._registry.get_activity(task.activity)
        args, kwargs = activity.decode_arguments(task.arguments)
        value: Any = activity.function(*args, **kwargs)
        return activity.encode_result(value)


def _key(task: ClaimedTask) -> tuple[Any, int, int]:
    return task.run_id, task.command, task.attempt
