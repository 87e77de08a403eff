"""Here lives what both sides of P8 share: a broker, a Redis for results, and a Celery worker of two processes."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.child import ROOT, MeasurementError
from benchmarks.machine import PROC, process_seconds
from examples.celery_shop.brokers import open_broker, process

__all__ = ["BROKER_VARIABLE", "RESULTS_VARIABLE", "WorkerProcess", "celery_worker", "open_brokers"]

BROKER_VARIABLE = "CONTINUUM_BENCH_BROKER_URL"
RESULTS_VARIABLE = "CONTINUUM_BENCH_RESULTS_URL"
PROCESSES = "2"


class WorkerProcess:
    """A running ``celery worker``, prefork."""

    def __init__(self, running: subprocess.Popen[bytes], log: Path) -> None:
        self._process = running
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu_seconds(self) -> tuple[float, float]:
        """Processor time so far: of the parent, and of its children together."""
        children = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit() and self._is_child(entry)]
        return process_seconds(self.pid), sum(process_seconds(pid) for pid in children)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop parent and children for the block."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    def check(self) -> None:
        """Raise if it has ended."""
        if self._process.poll() is not None:
            raise MeasurementError(f"the worker ended with {self._process.returncode}\n{self._log.read_text()[-2000:]}")

    def _is_child(self, entry: Path) -> bool:
        try:
            return int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]) == self.pid
        except OSError:
            return False


@contextmanager
def open_brokers(kind: str) -> Iterator[dict[str, str]]:
    """Start servers, set the variables that name them (here, for children too), and yield them."""
    with ExitStack() as stack:
        broker = stack.enter_context(open_broker(kind)).url
        results = stack.enter_context(open_broker("redis")).url if kind != "redis" else broker.removesuffix("0") + "1"
        names = {BROKER_VARIABLE: broker, RESULTS_VARIABLE: results}
        os.environ.update(names)
        yield names


@contextmanager
def celery_worker(app: str, *queues: str, settings: dict[str, str] | None = None) -> Iterator[WorkerProcess]:
    """Run a worker for the block, the command a user would run."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="continuum-bench-")))
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", "prefork", "-c", PROCESSES]
        command += ["-l", "WARNING", "-Q", ",".join(queues)]
        log = directory / "worker.log"
        running = stack.enter_context(process(command, log=log, cwd=ROOT, env=settings))
        yield WorkerProcess(running, log)
