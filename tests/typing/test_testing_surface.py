"""A type checker knows what the harness returns, and what it takes."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_mypy_knows_what_tests_of_workflows_write(tmp_path: Path) -> None:
    """Every `assert_type` in `testing_surface.py` holds, and every mistake in it is noticed."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-version=3.11",
        f"--cache-dir={tmp_path}",
        "--config-file=",
        str(HERE / "testing_surface.py"),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    # Only what is said about the snippet counts here; the package itself is checked by `make lint`.
    said = [line for line in done.stdout.splitlines() if "testing_surface.py" in line]
    assert not said, done.stdout
    assert done.returncode in (0, 1), done.stdout + done.stderr
