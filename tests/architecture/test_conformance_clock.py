"""Whose clock decides: the database's, nowhere the host's (F-36, X-047).

A host whose clock is ten minutes off must keep every lease, retry, timer and timeout at its length. So nothing in the
package may read the wall clock of the host; durations come from the monotonic one, moments from the journal.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# In memory the journal is its own database, and this is its clock; a harness sets one, which begins at the present.
THE_DATABASE = {"continuum/journal/memory/store.py", "continuum/testing/clock.py"}

# Tells operators how far this host's clock is from the database's.
COMPARES = {"continuum/cli/instance_checks.py", "continuum/celery_executor/greeting.py"}

WALL_CLOCKS = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def wall_clocks(tree: ast.Module) -> Iterator[int]:
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in WALL_CLOCKS["time"]
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=attr) if attr in WALL_CLOCKS.get(owner, ()):
                yield node.lineno
            case ast.Attribute(value=ast.Attribute(attr=owner), attr=attr) if attr in WALL_CLOCKS.get(owner, ()):
                yield node.lineno
            case ast.Name(id=name) if name in imported:
                yield node.lineno


def test_nothing_reads_the_wall_clock_of_its_host() -> None:
    readers = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "continuum").rglob("*.py"))
        if path.relative_to(ROOT).as_posix() not in THE_DATABASE | COMPARES
        for line in wall_clocks(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not readers, "take the time from the journal's clock, or a duration from time.monotonic():\n" + "\n".join(
        readers
    )


def test_the_search_finds_the_spellings_it_looks_for() -> None:
    text = """
import datetime as dt, time
from time import time_ns as t
a = time.time(); b = t(); c = dt.datetime.now(); d = datetime.utcnow(); e = time.monotonic()
"""
    assert list(wall_clocks(ast.parse(text))) == [4] * 4
