"""Here lives starting, freezing and killing real processes, by pid, with what they said kept.

::

    with Processes(tmp_path) as processes:
        worker = processes.python("-m", "tests.support.some_worker", url)
        worker.expect("ready")
        worker.kill()
 or the fixture `processes`, which does the same. Whatever still runs at the end is killed, also if it was
frozen, and also if pytest itself is killed. Each process leads a group of its own; `kill` ends it alone, the clean-up
ends its group."""

import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.eventually import eventually
from tests.support.guardian import guard, release

__all__ = ["Process", "Processes"]

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 10.0


class Process:
    """One process, its pid and its output."""

    def __init__(
        self,
        command: list[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        account: pwd.struct_passwd | None = None,
    ) -> None:
        self.command = command
        self.log = log
        as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                start_new_session=True,
                **as_user,
            )
        self.pid = self._popen.pid
        guard(self.pid)

    @property
    def output(self) -> str:
        """Everything it has written so far, stdout and stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def returncode(self) -> int | None:
        """How it ended (negative: by that signal); None while it runs."""
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        return self.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait(END_SECONDS)

    def freeze(self) -> None:
        """SIGSTOP: it holds its sockets and its locks, and does nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self, timeout: float = END_SECONDS) -> int:
        """SIGTERM, then the exit code."""
        self._popen.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = END_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            msg = f"{self} still runs after {timeout:g} s. Its output:\n{self.output}"
            raise AssertionError(msg) from None

    def expect(self, pattern: str, timeout: float = 15.0) -> re.Match[str]:
        """Wait until its output matches `pattern` and return the match; fail if it ends before that."""

        def found() -> re.Match[str] | bool:
            ended = not self.alive  # asked before the output, or its last words could be missed
            match = re.search(pattern, self.output, re.MULTILINE)
            return match or ended

        result = eventually(found, timeout)
        assert isinstance(result, re.Match), f"{self} ended with {self.returncode} before {pattern!r}:\n{self.output}"
        return result

    def close(self) -> None:
        """End whatever is left of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # KILL works on a frozen process too
        self._popen.wait(END_SECONDS)
        release(self.pid)

    def __repr__(self) -> str:
        return f"<process {self.pid}: {' '.join(self.command[:6])}>"


class Processes:
    """Starts processes and ends them all when the block is left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Process] = []

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a command in the root of the project."""
        log = self.directory / f"process-{len(self.started)}.log"
        process = Process(list(command), log=log, env=env)
        self.started.append(process)
        return process

    def python(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start this interpreter, ``python("-m", "module", …)`` or ``python("-c", "…")``."""
        return self.start(sys.executable, *arguments, env=env)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in reversed(self.started):
            process.close()
