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
    "approval.py": [
        r"^missing: 1$",
        r"^refused: .*'vote'",
        r"^waiting: holiday$",
        r"^holiday: approved$",
        r"^desk: +expired$",
        r"^boat: .*was cancelled$",
        r"boat was withdrawn",
    ],
    "saga.py": [
        r"^city: +have a nice trip, receipt 17$",
        r"^island: +no trip, there are no cars on the island; given back: 2$",
        r"^mountains: flight \d, hotel \d, car \d$",
        r"^mountains: cancelled$",
        r'compensation_scheduled .*"car".*\n.*compensation_scheduled .*"hotel".*\n.*compensation_scheduled .*"flight"',
        r"^booked: +flight to the city, hotel to the city, car to the city$",
    ],
    "batch_of_children.py": [
        r"^\d+ of 200$",
        r"^19000 words$",
        r"^not read: 130-139 \(.*document 137 is not text\)$",
        r"^failed children: 1$",
    ],
    "subscription.py": [
        r"^refused: .*'change_plan'",
        r"^found: +subscription large True$",
        r"^left: +Ada left in month \d+: too large$",
        r"^months: +1 continued, 2 continued, .*\d completed$",
        r"^charges: +Ada 5 for month 1, Ada 5 for month 2, .*Ada 9",
    ],
}
ON_POSTGRES = {
    "order.py": r"label of o1",
    "approval.py": r"^holiday: approved$",
    "saga.py": r"^mountains: cancelled$",
    "batch_of_children.py": r"^19000 words$",
    "subscription.py": r"too large$",
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


@pytest.mark.parametrize("name", sorted(ON_POSTGRES))
def test_an_example_runs_on_a_postgres_of_its_own(name: str) -> None:
    assert re.search(ON_POSTGRES[name], output_of(name, "--postgres"), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 120
