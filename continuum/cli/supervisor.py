"""Here lives ``--processes N``: a parent that keeps N dispatcher processes running.

Each child is the same command for one process, started afresh (no fork of a process with threads and connections). One
that dies is started again, later and later while it keeps dying soon. Signals to the parent are passed on; a child
whose parent has vanished drains by itself (it compares its parent's pid with the one in ``CONTINUUM_SUPERVISOR``).
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from continuum.cli.http import StatusServer
from continuum.cli.shell import ExitCode

__all__ = ["SUPERVISOR", "Supervisor"]

logger = logging.getLogger("continuum.supervisor")

SUPERVISOR: Final = "CONTINUUM_SUPERVISOR"
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
# A child that has lived this long was healthy: its next death starts from the first pause again.
HEALTHY_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.1
# Drained, or told to stop before it had begun.
_GOOD_ENDS: Final = frozenset({0, -signal.SIGTERM, -signal.SIGINT})


@dataclass(slots=True)
class _Child:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = 0.0  # before its last start
    told: int = 0  # signals passed on to the present process


class Supervisor:
    """Keeps ``processes`` dispatchers running until it is told to stop."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        processes: int,
        where: tuple[str, int] | None = None,
        module: str = "continuum.cli.dispatcher",
    ) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._children = [_Child(number) for number in range(1, processes + 1)]
        self._where = where
        self._asked: list[int] = []  # the signals this process was sent

    @property
    def _stopping(self) -> bool:
        return bool(self._asked)

    def run(self) -> ExitCode:
        """Start the children and keep them running; return once a signal has ended them all."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        server = None
        if self._where is not None:
            server = StatusServer(self._where, ready=self._ready, live=lambda: not self._stopping, status=self._status)
            server.start()
        try:
            while not self._stopping or self._alive():
                for child in self._children:
                    self._look_after(child)
                time.sleep(LOOK_SECONDS)
        finally:
            for child in self._alive():
                assert child.process is not None
                child.process.kill()
            if server is not None:
                server.close()
        codes = [child.process.wait() for child in self._children if child.process is not None]
        return ExitCode.DONE if set(codes) <= _GOOD_ENDS else ExitCode.ERROR

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.poll() is None:
            # Here and not in the handler, which may interrupt the start of a child it does not know yet.
            for number in self._asked[child.told :]:
                child.process.send_signal(number)
                child.told += 1
            return
        if self._stopping:
            return
        if child.process is not None:
            healthy = now - child.started_at >= HEALTHY_SECONDS
            child.pause = FIRST_PAUSE if healthy else min(max(child.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
            child.start_at = now + child.pause
            logger.warning(
                "process %d (pid %d) ended with %s; starting it again in %.1f s",
                child.number,
                child.process.pid,
                child.process.returncode,
                child.pause,
            )
            child.process = None
        if now >= child.start_at:
            child.started_at = now
            # Its own session: Ctrl-C reaches the parent only, which passes it on once.
            child.process = subprocess.Popen(
                self._command, env={**os.environ, SUPERVISOR: str(os.getpid())}, start_new_session=True
            )
            logger.info("process %d has pid %d", child.number, child.process.pid)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self._asked.append(number)

    def _alive(self) -> list[_Child]:
        return [child for child in self._children if child.process is not None and child.process.poll() is None]

    def _ready(self) -> bool:
        return not self._stopping and len(self._alive()) == len(self._children)

    def _status(self) -> dict[str, Any]:
        alive = {child.number for child in self._alive()}
        processes = [
            {
                "number": child.number,
                "pid": child.process.pid if child.process else None,
                "alive": child.number in alive,
            }
            for child in self._children
        ]
        return {"stopping": self._stopping, "processes": processes}
