"""Here lives what is known about the machine: what it is, and who uses its processors while we measure.

Processor time is read from ``/proc`` (Linux). Elsewhere it is unknown: nothing waits for a quiet machine there, and
the report says so.
"""

import os
import platform
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "Meter", "describe_machine", "wait_until_quiet"]

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
# Cores in use by anybody below which the machine counts as quiet.
QUIET = 0.10


@dataclass(frozen=True, slots=True)
class Load:
    """Processors used during one measurement, in cores on average; None where it cannot be known.

    :ivar own: the measuring processes. :ivar postgres: the server. :ivar foreign: everybody else.
    """

    seconds: float
    own: float
    postgres: float | None
    foreign: float | None


def busy_seconds() -> float | None:
    """Return the processor seconds used by anybody since boot, stolen ones included."""
    try:
        line = (PROC / "stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    # user nice system idle iowait irq softirq steal
    ticks = [int(word) for word in line.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / TICKS


def process_seconds(pid: int) -> float:
    """Return the processor seconds of one process; 0 if it is gone or cannot be seen."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def server_seconds(postmaster: int | None) -> float | None:
    """Return the processor seconds of a Postgres server: its postmaster, and its children dead or alive."""
    if postmaster is None:
        return None
    ticks = 0
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if not fields:
                continue
            if int(entry.name) == postmaster:
                ticks += sum(int(field) for field in fields[11:15])
            elif int(fields[1]) == postmaster:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def parent_of(pid: int) -> int | None:
    """Return a process's parent, if the process is on this machine and can be seen."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def command_of(pid: int) -> str:
    """Return the name of a process's program, empty if it cannot be seen."""
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def wait_until_quiet(longest: float) -> float | None:
    """Wait, at most ``longest`` seconds, until nobody uses the machine; return the cores in use at the end."""
    deadline = time.monotonic() + longest
    while True:
        before, since = busy_seconds(), time.monotonic()
        if before is None:
            return None
        time.sleep(0.5 if longest else 0.1)
        used = ((busy_seconds() or before) - before) / (time.monotonic() - since)
        if used <= QUIET or time.monotonic() >= deadline:
            return round(used, 2)


class Meter:
    """Tells who used the processors since it was made. Our own part counts once a process has ended."""

    def __init__(self, postmaster: int | None) -> None:
        self._postmaster = postmaster
        self._since = time.monotonic()
        self._busy = busy_seconds()
        self._own = _own_seconds()
        self._server = server_seconds(postmaster)

    def read(self) -> Load:
        seconds = time.monotonic() - self._since
        own = _own_seconds() - self._own
        busy, server = busy_seconds(), server_seconds(self._postmaster)
        used = None if busy is None or self._busy is None else busy - self._busy
        postgres = None if server is None or self._server is None else server - self._server
        foreign = None if used is None or postgres is None else max(0.0, used - own - postgres)
        return Load(
            round(seconds, 2),
            round(own / seconds, 2),
            None if postgres is None else round(postgres / seconds, 2),
            None if foreign is None else round(foreign / seconds, 2),
        )


def _own_seconds() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def describe_machine() -> dict[str, object]:
    """Return what identifies the machine: two reports are compared in absolute figures only if this is equal."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        for line in (PROC / "cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor() or "unknown"
