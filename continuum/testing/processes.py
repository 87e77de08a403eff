"""Here live dispatchers in processes of their own, for tests that freeze and kill them.

# Invariant: whatever still runs at the end of the test is killed; and a dispatcher whose test process was killed drains
by itself (``CONTINUUM_SUPERVISOR``).
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from continuum.client.instance import Continuum
from continuum.config import DATABASE_URL
from continuum.model.ids import WorkerId

__all__ = ["WorkerProcess", "WorkerProcesses"]

_READY: Final = re.compile(r"worker (\S+) is ready")
_SUPERVISOR: Final = "CONTINUUM_SUPERVISOR"
_LOOK_SECONDS: Final = 0.02
_END_SECONDS: Final = 10.0


class WorkerProcess:
    """One ``continuum-dispatcher``, ready to work.

    :ivar pid: of the process.
    :ivar log: the file with all it has said.
    """

    def __init__(
        self,
        command: list[str],
        *,
        log: Path,
        env: Mapping[str, str],
        timeout: float,
        bury: Callable[[WorkerId], None],
    ) -> None:
        self.log = log
        self._bury = bury
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        try:
            self.worker = WorkerId(self.expect(_READY.pattern, timeout=timeout)[1])
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<continuum-dispatcher {self.pid}>"

    @property
    def output(self) -> str:
        """Everything it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """How it ended (negative: by that signal); None while it runs."""
        return self._popen.poll()

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone.

        What it held is free for others at once: nobody has to wait until its lease expires, as they would have to
        without somebody who knows that it is dead.
        """
        self._popen.kill()
        self._popen.wait(_END_SECONDS)
        self._bury(self.worker)

    def freeze(self) -> None:
        """Stop it where it is (``SIGSTOP``): it holds its connections and its lease, and does nothing."""
        self._popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._popen.send_signal(signal.SIGCONT)

    def stop(self, timeout: float = 30.0) -> int:
        """Let it drain (``SIGTERM``), and return its exit code. Raises ``AssertionError`` if it takes too long."""
        self._popen.terminate()
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} still runs after {timeout:g} s. Its output:\n{self.output}") from None

    def expect(self, pattern: str, *, timeout: float = 15.0) -> re.Match[str]:
        """Wait until its output matches, and return the match. Raises ``AssertionError`` with the output if not."""
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.alive  # asked before the output, or its last words could be missed
            found = re.search(pattern, self.output, re.MULTILINE)
            if found:
                return found
            if ended or time.monotonic() > deadline:
                why = f"ended with {self.returncode}" if ended else f"has not said {pattern!r} within {timeout:g} s"
                raise AssertionError(f"{self} {why}. Its output:\n{self.output}")
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Kill whatever is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(_END_SECONDS)


class WorkerProcesses:
    """Starts dispatchers on the database of an instance; what a test gets as ``continuum_worker``."""

    def __init__(self, instance: Continuum, directory: Path) -> None:
        self._instance = instance
        self._directory = directory
        self.started: list[WorkerProcess] = []

    def __call__(
        self, app: str, *options: str, env: Mapping[str, str] | None = None, timeout: float = 30.0
    ) -> WorkerProcess:
        """Start ``continuum-dispatcher -A app``, and wait until it is ready.

        :param app: as for ``-A``; its instance must take the database from ``CONTINUUM_DATABASE_URL``.
        :param options: further options, such as ``"--concurrency", "2"``.

        Raises ``AssertionError`` with its output if it does not become ready.
        """
        name = f"dispatcher-{len(self.started) + 1}.log"
        path = os.pathsep.join(part for part in ("", *sys.path) if part)
        process = WorkerProcess(
            [sys.executable, "-m", "continuum.cli.dispatcher", "-A", app, *options],
            log=self._directory / name,
            env={
                **os.environ,
                # It finds the modules that the test finds.
                "PYTHONPATH": path,
                "PYTHONUNBUFFERED": "1",
                DATABASE_URL: self._instance.url,
                _SUPERVISOR: str(os.getpid()),
                **(env or {}),
            },
            timeout=timeout,
            bury=self._bury,
        )
        self.started.append(process)
        return process

    def _bury(self, worker: WorkerId) -> None:
        self._instance.journal.workers.deregister(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self.started):
            process.close()
