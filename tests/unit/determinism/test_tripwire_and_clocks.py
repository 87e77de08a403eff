"""The tripwire beside libraries that exchange clocks; in processes of their own, since wrappers stay for good."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys, time
before = time.time
from tests.support.tripping import trip, untripped
assert trip(lambda: time.time()).call == "time.time"
assert time.time is not before
import _time_machine
assert time.time is before
assert untripped(lambda: time.time()) > 0
assert trip(lambda: time.sleep(1)).call == "time.sleep"
print("done")
"""


SCANNED = """
import random, time
from random import choice, shuffle
from time import time as clock
from continuum.determinism.scanner import scan
from tests.support.tripping import trip

def make():
    kept = random.choice
    async def kept_flow(cards):
        return kept(cards)
    return kept_flow

async def flow(cards):
    shuffle(cards)
    return choice(cards), clock(), time.time()

kept_flow = make()  # what a closure holds stays the function itself
trip(lambda: clock())
assert hasattr(clock, "__continuum_tap__")
print([finding.code for one in (flow, kept_flow) for finding in scan(one, workflow="flow")])
"""


def test_wrappers_of_clocks_make_room_for_a_library_that_writes_into_them(tmp_path):
    (tmp_path / "_time_machine.py").write_text("")
    paths = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", paths + SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "done\n", done.stderr


def test_the_scanner_knows_functions_whether_a_wrapper_stands_in_their_place_or_not(tmp_path):
    script = tmp_path / "scanned.py"
    script.write_text(SCANNED)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "['CT102', 'CT102', 'CT101', 'CT101', 'CT102']\n", done.stderr
