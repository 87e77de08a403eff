"""Here lives a test's stage: the shop with its broker, its database, dispatchers and workers, and the final audit."""

import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from continuum import Continuum
from tests.celery.brokers import Broker
from tests.celery.nodes import Worker, WorkerProcess
from tests.celery.work import MAX_ATTEMPTS, SHOP_DIR
from tests.support.audit import audit, fetch
from tests.support.eventually import eventually
from tests.support.processes import Process, Processes

__all__ = ["ACTIVITIES_QUEUE", "Stage"]

ACTIVITIES_QUEUE = "continuum_activities"
APP = "tests.celery.shop"


class Stage:
    """What one test needs. Whatever it starts ends with the test."""

    def __init__(
        self, broker: Broker, *, url: str, directory: Path, processes: Processes, continuum: Continuum
    ) -> None:
        self.broker = broker
        self.url = url
        self.directory = directory
        self.processes = processes
        self.continuum = continuum
        self.workers: list[Worker] = []
        self.queue = broker.queue(ACTIVITIES_QUEUE)
        self.default_queue = broker.queue("celery")
        self._numbers = itertools.count(1)

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process of the shop."""
        return {
            "CONTINUUM_DATABASE_URL": self.url,
            SHOP_DIR: str(self.directory),
            "SHOP_BROKER": self.broker.url,
            "SHOP_QUEUE": self.queue,
            "SHOP_DEFAULT_QUEUE": self.default_queue,
        }

    # -------------------------------------------------------------- processes

    def dispatcher(self, *arguments: str, **env: str) -> Process:
        """Start a dispatcher; return it once it works, or has died on the way."""
        command = ("-m", "continuum.cli.dispatcher", "-A", APP, *arguments)
        started = self.processes.python(*command, env={**self.env, **env})
        eventually(lambda: not started.alive or "is ready" in started.output, 30)
        return started

    def worker(
        self,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] | None = None,
        extra: Sequence[str] = (),
        wait: bool = True,
        app: Any = None,
        **env: str,
    ) -> Worker:
        """Start a Celery worker; return it when it consumes."""
        number = next(self._numbers)
        names = queues if queues is not None else (self.queue, self.default_queue)
        process = WorkerProcess(
            app=APP,
            log=self.directory / f"worker-{number}.log",
            env={**self.env, **env},
            name=f"w{number}-{os.getpid()}",
            pool=pool,
            concurrency=concurrency,
            queues=[self.broker.queue(name.removeprefix(self.broker.prefix)) for name in names],
            extra=extra,
        )
        worker = Worker(process, app)
        self.workers.append(worker)
        if wait:
            worker.ready()
        return worker

    def logs(self) -> str:
        """Return what everybody said, and what the journal holds, for the report of a failed test."""
        said = [f"--- {worker.name()}\n{_tail(worker.log)}" for worker in self.workers]
        said += [f"--- {process}\n{_tail(process.output)}" for process in self.processes.started]
        said.append("--- ledger\n" + "\n".join(map(str, self.ledger())))
        query = "select run_id, command, attempt, state, dispatch_no, available_at, lease_expires_at, activity"
        said.append("--- tasks\n" + "\n".join(map(str, self.rows(f"{query} from continuum_tasks"))))
        return "\n".join(said)

    def close(self) -> None:
        """End the workers at once; dispatchers are ended by their fixture."""
        for worker in self.workers:
            worker.teardown()

    # -------------------------------------------------------------- gates and the ledger

    def open(self, gate: str) -> None:
        """Let the activities on that wait at a gate."""
        (self.directory / gate).touch()

    def ledger(self, what: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines of the ledger: those of one kind, with these values."""
        path = self.directory / "ledger"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        wanted = fields if what is None else {"what": what, **fields}
        return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]

    def begun(self, count: int, timeout: float = 20.0, **fields: Any) -> list[dict[str, Any]]:
        """Wait until this many attempts have begun, and return their lines."""
        eventually(lambda: len(self.ledger("begin", **fields)) >= count, timeout)
        return self.ledger("begin", **fields)

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Ask the journal's tables."""
        return fetch(self.url, query, *arguments)

    def states(self) -> Counter[str]:
        """Count the tasks by state."""
        return Counter(dict(self.rows("select state::text, count(*) from continuum_tasks group by 1")))

    # -------------------------------------------------------------- the audit

    def audit(self, *, at_least_once: bool = True) -> None:
        """Check that every run ended once and that each activity ran at least once, within its attempts."""
        audit(self.url, ledger=False)
        attempts: dict[tuple[str, int], list[int]] = defaultdict(list)
        for line in self.ledger("begin"):
            attempts[line["run"], line["command"]].append(line["attempt"])
        # What a shutdown put back begins again under the same number, and under no other circumstances.
        exits = Counter((line["run"], line["command"], line["attempt"]) for line in self.ledger("exit"))
        for call, numbers in attempts.items():
            begun = Counter(numbers)
            twice = [number for number, times in begun.items() if times > 1 + exits[*call, number]]
            assert not twice, f"{call}: attempts {twice} began more than once: {numbers}"
            assert max(numbers) <= MAX_ATTEMPTS, f"{call}: more attempts than its policy has: {numbers}"
        if at_least_once:
            query = "select run_id::text, command from continuum_events where type = 'activity_scheduled'"
            missing = [call for call in self.rows(query) if call not in attempts]
            assert not missing, f"never executed, and yet over: {missing}"
        twice = self.rows("select run_id::text, item, count(*) from bookings group by 1, 2 having count(*) > 1")
        assert not twice, f"committed twice: {twice}"


def _tail(text: str, lines: int = 60) -> str:
    return "\n".join(line[:300] for line in text.splitlines()[-lines:])
