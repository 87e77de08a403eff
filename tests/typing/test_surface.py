"""A type checker follows users' code through every decorator, and knows what the harness returns and takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("snippet", ["surface.py", "testing_surface.py"])
def test_mypy_knows_what_users_write(tmp_path: Path, snippet: str) -> None:
    """Every `assert_type` in it holds, and every mistake in it is noticed (an unused ignore is an error)."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-version=3.11",
        f"--cache-dir={tmp_path}",
        "--config-file=",
        str(HERE / snippet),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    # Only what is said about the snippet counts here; the package itself is checked by `make lint`.
    said = [line for line in done.stdout.splitlines() if snippet in line]
    assert not said, done.stdout
    assert done.returncode in (0, 1), done.stdout + done.stderr
