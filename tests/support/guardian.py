"""Here lives the end of what a test session started, if the session itself is killed.

A small process of its own holds the other end of a pipe: when that closes, because pytest ended in whatever way, it
kills the groups of the processes it was told of and removes their directories.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["guard", "guard_directory", "release"]

_lock = threading.Lock()
_guardian: subprocess.Popen[bytes] | None = None
_owner = 0


def guard(pid: int) -> None:
    """End the group of this process, which leads it, when this process is no more."""
    _tell(f"+{pid}")


def release(pid: int) -> None:
    """Forget a process: it has ended, and its number may be somebody else's soon."""
    _tell(f"-{pid}")


def guard_directory(path: Path) -> None:
    """Remove a directory when this process is no more."""
    _tell(f"/{path}")


def _tell(line: str) -> None:
    global _guardian, _owner  # noqa: PLW0603 - one per process
    with _lock:
        if _guardian is None or _owner != os.getpid():
            _owner = os.getpid()
            _guardian = subprocess.Popen(
                [sys.executable, "-ISs", __file__], stdin=subprocess.PIPE, start_new_session=True
            )
            atexit.register(_dismiss, _guardian, _owner)
        assert _guardian.stdin is not None
        _guardian.stdin.write(f"{line}\n".encode())
        _guardian.stdin.flush()


def _dismiss(guardian: "subprocess.Popen[bytes]", owner: int) -> None:
    if os.getpid() == owner and guardian.stdin is not None:
        guardian.stdin.close()
        guardian.wait(10)


def _keep_watch() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pids: dict[int, None] = {}
    directories = []
    for raw in sys.stdin:
        line = raw.rstrip("\n")
        if line.startswith("+"):
            pids[int(line[1:])] = None
        elif line.startswith("-"):
            pids.pop(int(line[1:]), None)
        else:
            directories.append(line[1:])
    for pid in reversed(pids):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _keep_watch()
