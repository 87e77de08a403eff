"""Here lives the dispatcher process that the workloads use: the command a user would run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.child import ROOT, MeasurementError
from benchmarks.machine import process_seconds
from benchmarks.workloads.flows import ACTIVE_RUNS

__all__ = ["DispatcherProcess", "dispatcher"]

COMMAND = ("-c", "from continuum.cli.dispatcher import main; main()", "-A")
FLOWS = "benchmarks.workloads.flows:continuum"
# A directory: each dispatcher is sampled by py-spy, which leaves a flame graph there.
PROFILE = "CONTINUUM_BENCH_PROFILE"
SAMPLES_PER_SECOND = "200"
END_SECONDS = 40.0


class DispatcherProcess:
    """A running ``continuum-dispatcher``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """Processor time it has used so far."""
        return process_seconds(self.pid)

    def check(self) -> None:
        """Raise if it has ended."""
        if self._process.poll() is not None:
            raise MeasurementError(f"the dispatcher ended with {self._process.returncode}")


@contextmanager
def dispatcher(
    url: str, *, active_runs: int | None = None, app: str = FLOWS, settings: Mapping[str, str] | None = None
) -> Iterator[DispatcherProcess]:
    """Run one dispatcher process for the block; drain it at the end."""
    env = {**os.environ, "CONTINUUM_DATABASE_URL": url, **(settings or {})}
    if active_runs is not None:
        env[ACTIVE_RUNS] = str(active_runs)
    command = [sys.executable, *COMMAND, app]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        with _sampled(process.pid):
            yield DispatcherProcess(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise MeasurementError("the dispatcher did not drain") from None


@contextmanager
def _sampled(pid: int) -> Iterator[None]:
    directory = os.environ.get(PROFILE)
    if not directory:
        yield
        return
    Path(directory).mkdir(parents=True, exist_ok=True)
    target = Path(directory) / f"dispatcher-{pid}.svg"
    command = ["py-spy", "record", "-F", "-t", "-r", SAMPLES_PER_SECOND, "-o", target, "-p", str(pid)]
    spy = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield
    finally:
        spy.send_signal(signal.SIGINT)
        spy.wait(END_SECONDS)
