"""Every example runs as it stands, and prints what its reader is told."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

EXPECTED = {
    "order.py": [
        r"^reviewed:  label of o1$",
        r"^impatient: label of o3$",
        r"^rejected:  __main__\.OrderRejected o2$",
        r"signal_received +fraud_review",
        r"run_completed",
    ],
    "fan_out.py": [r"^published 332833331$", r"^2005 events$"],
    "approval.py": [r"^holiday: approved$", r"^desk: +expired$", r"^boat: .*was cancelled$", r"boat was withdrawn"],
}


def output_of(name: str, *arguments: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CONTINUUM_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == EXPECTED.keys()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_prints_what_its_reader_is_told(name: str) -> None:
    output = output_of(name)
    for line in EXPECTED[name]:
        assert re.search(line, output, re.MULTILINE), f"{line!r} is not in the output of {name}:\n{output}"


def test_the_order_runs_on_a_postgres_of_its_own() -> None:
    assert "label of o1" in output_of("order.py", "--postgres")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 120
