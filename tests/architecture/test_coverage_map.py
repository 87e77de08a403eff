"""The map from cases to tests says the truth: every case stands in it once, and every test it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
MAP = (TESTS / "coverage_map.md").read_text(encoding="utf-8")
CASES = (TESTS / "support" / "case_ids.txt").read_text(encoding="utf-8").split()

ROW = re.compile(r"^\| ([A-Z0-9]+-\d+) \| (.*?) \| (.*) \|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
MOST_WORDS = 14  # what a case is about fits on a line


@cache
def named_in(path: str) -> frozenset[str]:
    file = TESTS / path
    if not file.exists():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def test_every_case_stands_in_the_map_once() -> None:
    listed = [row[0] for row in ROW.findall(MAP)]
    assert len(CASES) == len(set(CASES))
    twice = sorted({case for case in listed if listed.count(case) > 1})
    assert not twice, f"in more than one row: {twice}"
    assert sorted(set(CASES) - set(listed)) == [], "in no row"
    assert sorted(set(listed) - set(CASES)) == [], "not in tests/support/case_ids.txt"


def test_every_test_named_in_the_map_exists() -> None:
    named = NAMED.findall(MAP)
    assert len(named) > 300
    missing = sorted({f"{path}::{name}" for path, name in named if name not in named_in(path)})
    assert not missing, "renamed or removed? Change tests/coverage_map.md:\n" + "\n".join(missing)


def test_every_row_names_a_test_a_rule_or_a_later_issue() -> None:
    silent = [
        case
        for case, _, shown in ROW.findall(MAP)
        if not (NAMED.search(shown) or "design: " in shown or re.fullmatch(r"issue \d|later", shown))
    ]
    assert not silent


def test_every_row_says_what_the_case_is_about() -> None:
    wrong = [case for case, what, _ in ROW.findall(MAP) if not 1 <= len(what.split()) <= MOST_WORDS]
    assert not wrong


def test_the_counts_at_the_top_are_those_of_the_rows() -> None:
    rows = ROW.findall(MAP)
    by_tests = sum(bool(NAMED.search(shown)) for _, _, shown in rows)
    later = sum(bool(re.fullmatch(r"issue \d|later", shown)) for _, _, shown in rows)
    for told, counted in (
        ("shown by tests", by_tests),
        ("replaced by a rule of the design alone", len(rows) - by_tests - later),
        ("of later issues", later),
    ):
        assert f"| {told} | {counted} |" in MAP
