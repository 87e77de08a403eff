"""Here lives the dispatcher process that the workloads use: the command a user would run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.child import ROOT, MeasurementError
from benchmarks.machine import process_seconds
from benchmarks.workloads.flows import ACTIVE_RUNS

__all__ = ["DispatcherProcess", "dispatcher"]

COMMAND = ("-c", "from continuum.cli.dispatcher import main; main()", "-A", "benchmarks.workloads.flows:continuum")
# A command to put before the interpreter, for profilers: CONTINUUM_BENCH_WRAP="py-spy record -o out.svg --".
WRAP = "CONTINUUM_BENCH_WRAP"
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
def dispatcher(url: str, *, active_runs: int | None = None) -> Iterator[DispatcherProcess]:
    """Run one dispatcher process for the block; drain it at the end."""
    env = {**os.environ, "CONTINUUM_DATABASE_URL": url}
    if active_runs is not None:
        env[ACTIVE_RUNS] = str(active_runs)
    command = [*os.environ.get(WRAP, "").split(), sys.executable, *COMMAND]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield DispatcherProcess(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise MeasurementError("the dispatcher did not drain") from None
