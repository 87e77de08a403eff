"""The rules, seen on a corpus: what must be found is found where it is, and ordinary code is left alone.

``corpus/rules/ctNNN_*.py`` has functions ``bad_…``, in which (and in what they call) every line to be found says so
by ``# !CT101`` (or the line below by ``# !CT101 ^``), and ``good_…``, which are clean. ``corpus/ordinary`` is what
people write.
"""

import importlib
import inspect
import re
from collections import Counter
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from continuum.cli.code_checks import look_at as look_at_flow
from continuum.declare.registry import REGISTRY
from continuum.declare.workflows import Workflow
from continuum.determinism.findings import Finding, Severity
from continuum.determinism.policy import Policy, postponed_checks
from continuum.determinism.report import report
from continuum.determinism.rules import RULES
from continuum.determinism.scanner import scan

HERE = Path(__file__).parent / "corpus"
PACKAGE = "tests.unit.determinism.corpus"
RULE_FILES = sorted((HERE / "rules").glob("ct*.py"))
ORDINARY = sorted(file for file in (HERE / "ordinary").glob("*.py") if not file.stem.startswith("__"))
MARK = re.compile(r"# (?:!CT\d{3} ?)+(\^?)$")
# It needs a function without source: see test_scanner.
ELSEWHERE = {"CT001"}


def marks_of(file: Path) -> Counter[tuple[str, int, str]]:
    marks: Counter[tuple[str, int, str]] = Counter()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        found = MARK.search(line.rstrip())
        if found is None:
            continue
        for code in re.findall(r"!(CT\d{3})", found[0]):
            marks[file.name, number - bool(found[1]), code] += 1
    return marks


def load(file: Path) -> ModuleType:
    with postponed_checks():
        return importlib.import_module(f"{PACKAGE}.{file.parent.name}.{file.stem}")


def look_at(value: object, name: str, policy: Policy) -> tuple[Finding, ...]:
    if isinstance(value, Workflow):
        return look_at_flow(value, policy)
    assert isinstance(value, FunctionType)
    return tuple(scan(value, workflow=name, policy=policy))


def cases_of(module: ModuleType, kind: str) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name.startswith(f"{kind}_")}


def policy_for(code: str) -> Policy:
    """Return one that shows the rule, whatever its severity is."""
    return Policy().changed(severities={code: "warning"} if RULES[code].severity is Severity.OFF else {})


def place_of(finding: Finding) -> tuple[str, int, str]:
    return Path(finding.file).name, finding.line, finding.code


def test_every_rule_has_a_positive_and_a_negative() -> None:
    lacking = []
    for code in RULES.keys() - ELSEWHERE:
        files = [file for file in RULE_FILES if file.stem.startswith(f"{code.lower()}_")]
        marked = any(mark[2] == code for file in files for mark in marks_of(file))
        clean = any("async def good_" in file.read_text(encoding="utf-8") for file in files)
        if not (marked and clean):
            lacking.append(code)
    assert lacking == []


@pytest.mark.parametrize("file", RULE_FILES, ids=lambda file: file.stem)
def test_a_rule_finds_what_is_marked_and_nothing_else(file: Path) -> None:
    code = file.stem[:5].upper()
    module, policy = load(file), policy_for(code)
    found: list[Finding] = []
    for name, value in cases_of(module, "bad").items():
        findings = look_at(value, name, policy)
        assert findings, f"{name} is clean"
        found.extend(findings)
    helpers = HERE / "rules" / "helpers.py"
    expected = marks_of(file) + marks_of(helpers)
    seen = Counter({place_of(finding): 1 for finding in found})
    places = {place for place in expected if place[0] == file.name}
    here = {place for place in seen if place[0] == file.name}
    assert here == places, f"not found: {sorted(places - here)}; found besides: {sorted(here - places)}"
    assert {place for place in seen if place[0] != file.name} <= set(expected)
    for finding in found:
        assert finding.severity in {Severity.ERROR, Severity.WARNING}
        assert finding.hint
        assert finding.message
        assert finding.column >= 1


@pytest.mark.parametrize("file", RULE_FILES, ids=lambda file: file.stem)
def test_what_looks_like_it_and_is_right_is_left_alone(file: Path) -> None:
    module, policy = load(file), policy_for(file.stem[:5].upper())
    for name, value in cases_of(module, "good").items():
        findings = look_at(value, name, policy)
        assert not findings, report(findings)


@pytest.mark.parametrize("file", ORDINARY, ids=lambda file: file.stem)
def test_ordinary_workflow_code_raises_no_alarm(file: Path) -> None:
    # Not postponed: errors and warnings of the declaration itself would be raised here.
    module = importlib.import_module(f"{PACKAGE}.ordinary.{file.stem}")
    flows = [flow for flow in vars(module).values() if isinstance(flow, Workflow)]
    assert flows or file.stem == "support"
    for flow in flows:
        assert REGISTRY.get_workflow(flow.name) is flow
        findings = look_at_flow(flow, Policy())
        assert not findings, report(findings)


def test_the_corpus_of_ordinary_code_is_large() -> None:
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in ORDINARY)
    assert len(ORDINARY) >= 25
    assert lines > 1000
    assert inspect.getdoc(importlib.import_module(f"{PACKAGE}.ordinary.support"))
