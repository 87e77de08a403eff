"""Here live pytest-celery's components, with processes in the place of containers.

A :class:`Worker` is pytest-celery's ``CeleryTestWorker`` (``restart``, ``kill``, ``wait_for_log`` …) with what only a
process can do: its children can be listed and killed one by one.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import celery
import psutil
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestWorker

from tests.celery.brokers import Broker
from tests.support.eventually import eventually
from tests.support.processes import ROOT, Process

__all__ = ["BackendNode", "BrokerNode", "Worker", "WorkerProcess"]

READY = r" ready\.$"
READY_SECONDS = 30.0


class _BrokerAsContainer:
    """What pytest-celery's nodes ask of a container, answered by a broker of ours."""

    def __init__(self, broker: Broker, url: str | None = None) -> None:
        self.broker = broker
        self.name = self.id = broker.kind
        self.celeryconfig = {"url": url or broker.url, "host_url": url or broker.url, "hostname": "127.0.0.1"}

    @property
    def status(self) -> str:
        return "running" if self.broker.alive else "exited"

    def ready(self) -> bool:
        return self.broker.alive

    def logs(self) -> str:
        return ""

    def kill(self, signal: str | int = "SIGKILL") -> None:
        assert _number(signal) == _number("SIGKILL"), "a broker has one way to die here"
        self.broker.kill()

    def restart(self, timeout: float = 10) -> None:  # noqa: ARG002 - stopping has a bound of its own
        if self.broker.alive:
            self.broker.stop()
        self.broker.start()

    def reload(self) -> None: ...

    def teardown(self) -> None: ...  # it is the session's


class BrokerNode(CeleryTestBroker):
    """The session's broker as a node of ``celery_setup``."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(_BrokerAsContainer(broker))


class BackendNode(CeleryTestBackend):
    """A Redis, its second database, as the result backend of ``celery_setup``."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(_BrokerAsContainer(broker, broker.url.rsplit("/", 1)[0] + "/1"))


class WorkerProcess:
    """``celery worker`` in a session of its own, with what pytest-celery's nodes ask of a container."""

    def __init__(
        self,
        *,
        app: str,
        log: Path,
        env: Mapping[str, str],
        name: str,
        pool: str = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] = ("celery",),
        extra: Sequence[str] = (),
    ) -> None:
        self.name = self.id = name
        self.queues = tuple(queues)
        self._log = log
        self._env = env
        self._command = [
            *(sys.executable, "-m", "celery", "-A", app, "worker", "-l", "INFO", "-P", pool, "-c", str(concurrency)),
            *("-n", f"{name}@%h", "-Q", ",".join(queues), "--without-gossip", "--without-mingle", *extra),
        ]
        self._earlier = ""
        self.process = self._start()

    def _start(self) -> Process:
        return Process(self._command, log=self._log, env=self._env)

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    @property
    def status(self) -> str:
        return "running" if self.process.alive else "exited"

    def logs(self) -> str:
        return self._earlier + self.process.output

    def ready(self) -> bool:
        self.process.expect(READY, READY_SECONDS)
        return True

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = _number(signal)
        if number == _number("SIGKILL"):
            self.kill_group()  # a container dies as a whole
        else:
            self.process.signal(number)

    def kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def restart(self, timeout: float = 10) -> None:
        if self.process.alive:
            self.process.terminate(timeout)
        self.process.close()
        self._earlier = self.logs()
        self.process = self._start()
        self.ready()

    def reload(self) -> None: ...

    def teardown(self) -> None:
        self.process.close()

    def exec_run(self, command: str) -> tuple[int, bytes]:
        done = subprocess.run(command, shell=True, capture_output=True, cwd=ROOT, check=False)
        return done.returncode, done.stdout

    def version(self) -> str:
        return celery.__version__

    def log_level(self) -> str:
        return "INFO"

    def worker_name(self) -> str:
        return self.name

    def worker_queue(self) -> str:
        return self.queues[0]


class Worker(CeleryTestWorker):
    """A running ``celery worker``."""

    def __init__(self, process: WorkerProcess, app: Any = None) -> None:
        super().__init__(process, app)

    @property
    def process(self) -> Process:
        return self.container.process

    @property
    def pid(self) -> int:
        """Its main process's."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.alive

    @property
    def log(self) -> str:
        """Everything it has said."""
        return self.logs()

    def expect(self, pattern: str, timeout: float = 15.0) -> None:
        """Wait until its log has the pattern."""
        self.process.expect(pattern, timeout)

    def children(self) -> list[int]:
        """Return the pids of its pool's processes."""
        try:
            found = psutil.Process(self.pid).children()
            return [child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def kill_child(self, pid: int) -> None:
        """SIGKILL one of its children, and see it gone."""
        assert pid in self.children(), f"{pid} is not a child of {self.pid}: {self.children()}"
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in self.children())

    def kill_all(self) -> None:
        """SIGKILL it with its children."""
        self.container.kill_group()

    def kill_main(self) -> None:
        """SIGKILL its main process alone: the children find out by themselves."""
        self.process.kill()

    def term(self) -> None:
        """SIGTERM, a warm shutdown: what runs may finish. See :meth:`wait`."""
        self.process.signal(signal.SIGTERM)

    def quit(self) -> None:
        """SIGQUIT, a cold shutdown: what runs is ended."""
        self.process.signal(signal.SIGQUIT)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for its end, and return the exit code."""
        return self.process.wait(timeout)


def _number(name: str | int) -> signal.Signals:
    return signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
