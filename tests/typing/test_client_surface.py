"""A type checker knows what a started run returns, in both twins, and what a workflow may be started with."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_mypy_follows_a_run_from_start_to_result(tmp_path: Path) -> None:
    """Each `assert_type` holds, and each mistake is noticed (an ignore that ignores nothing is an error)."""
    surface = HERE / "client_surface.py"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", "--config-file=", str(surface)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    # What is said about the package itself is for `make lint`.
    said = [line for line in done.stdout.splitlines() if surface.name in line]
    assert not said, "\n".join(said)
    assert done.returncode in (0, 1), done.stdout + done.stderr
