"""Here lives how one measurement runs in a process of its own and says what it found.

The parent calls :func:`measure`; the module it names ends with ``serve({...})``.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "MeasurementError", "measure", "serve"]

ROOT = Path(__file__).resolve().parents[1]
MARK = "RESULT "
# What a measurement that is given up gets to end its servers.
END_SECONDS = 20.0


class MeasurementError(Exception):
    """A measuring process failed; the message holds what it said last."""


def measure(module: str, name: str, options: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
    """Run ``name`` of ``module`` in a new process and return its result."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, name, json.dumps(options)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as error:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=END_SECONDS)
        # Its own processes are in the group as well.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise MeasurementError(f"{module} {name} took longer than {timeout:.0f} s\n{_tail(out, err)}") from None
        raise
    if process.returncode == 0:
        for line in reversed(out.splitlines()):
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
    raise MeasurementError(f"{module} {name} ended with {process.returncode}\n{_tail(out, err)}")


def serve(measurements: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Be the measuring process: run the measurement named on the command line and print its result."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    # Brokers are in sessions of their own: a measurement that is given up has to end them itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result = measurements[name](options)
    sys.stderr.flush()
    print(MARK + json.dumps(result), flush=True)
    # Peers leave threads behind that would delay the end; everything of ours is closed by now.
    os._exit(0)


def _tail(out: str, err: str) -> str:
    return (out[-1500:] + err[-3500:]).strip()
