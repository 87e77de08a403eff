"""What we ship and show raises no alarm: the examples, the code on the pages, the flows of the golden histories."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from continuum.cli.code_checks import look_at
from continuum.declare import activities, workflows
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.determinism.findings import Finding
from continuum.determinism.policy import Policy, postponed_checks
from continuum.determinism.report import report

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(
    r"^(?P<dent> *)```python(?P<info> [^\n`]*)?\n(?P<body>.*?)^(?P=dent)``` *$", re.MULTILINE | re.DOTALL
)
# Its workflow is not shown.
UNSEEN = {"docs/reference/determinism.md"}
PAGES = [
    page
    for page in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "README.zh-CN.md"])
    if "@workflow" in page.read_text(encoding="utf-8")
]
EXAMPLES = sorted(file for file in (ROOT / "examples").rglob("*.py") if "@workflow" in file.read_text(encoding="utf-8"))
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def findings_in(module: ModuleType) -> tuple[int, list[Finding]]:
    flows = [value for value in vars(module).values() if isinstance(value, Workflow)]
    return len(flows), [finding for flow in flows for finding in look_at(flow, Policy())]


def load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with postponed_checks():
        spec.loader.exec_module(module)
    return module


def declarations_of(source: str) -> str:
    """Return the source without what a page does with its declarations, line by line where it was."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        harmless = isinstance(node, KEPT) and not (isinstance(node, (ast.Assign, ast.AnnAssign)) and _starts(node))
        if not harmless:
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return "\n".join(lines) + "\n"


def _starts(node: ast.AST) -> bool:
    """Whether an assignment makes an instance or asks one, which the declarations do not need."""
    calls = [child.func for child in ast.walk(node) if isinstance(child, ast.Call)]
    names = [ast.unparse(function) for function in calls]
    return any(not name.startswith(("Signal", "Retry", "timedelta", "Celery", "activity")) for name in names)


def check(*targets: str, **env: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "continuum.cli", "check", "--json", *targets]
    env = {**os.environ, **env}
    # From where `continuum` is not the checkout's by accident.
    here = ROOT / "examples"
    result = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    document = json.loads(result.stdout)
    assert document["findings"] == []
    assert len(document["workflows"]) >= len(targets)


@pytest.mark.parametrize("folder", sorted({file.parent for file in EXAMPLES}), ids=name_of)
def test_the_examples_raise_no_alarm(folder: Path) -> None:
    # The shop of examples/celery_shop asks for addresses when it is imported, and for its neighbour.
    addresses = dict.fromkeys(("CELERY_BROKER_URL", "CONTINUUM_DATABASE_URL", "SHOP_RESULTS_URL"), "memory://shop")
    files = [str(file) for file in EXAMPLES if file.parent == folder]
    check(*files, PYTHONPATH=str(ROOT / "examples" / "celery_shop"), **addresses)


def test_nothing_of_an_installed_continuum_is_taken_for_an_authors_code(tmp_path: Path) -> None:
    # Not as a checkout that is installed in place, which is what all the other tests see.
    installed = tmp_path / "site-packages" / "continuum"
    shutil.copytree(ROOT / "continuum", installed, ignore=shutil.ignore_patterns("__pycache__"))
    files = [str(file) for file in EXAMPLES if file.parent == ROOT / "examples"]
    check("continuum.cli.demo_app", *files, PYTHONPATH=str(installed.parent))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_on_the_pages_raises_no_alarm(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_DATABASE_URL", "memory://pages")
    # Pages call their workflows alike.
    registry = Registry()
    monkeypatch.setattr(workflows, "REGISTRY", registry)
    monkeypatch.setattr(activities, "REGISTRY", registry)
    text = page.read_text(encoding="utf-8")
    scripts: dict[str, str] = {}
    for number, match in enumerate(BLOCK.finditer(text)):
        info = (match["info"] or "").strip()
        # The blocks of a page that run are one script; files and what is only shown stand alone.
        name = "run" if info == "run" else f"block{number}"
        scripts[name] = scripts.get(name, "") + textwrap.dedent(match["body"])
    seen = 0
    for name, source in scripts.items():
        if "@workflow" not in source:
            continue
        file = tmp_path / f"{name}.py"
        file.write_text(declarations_of(source), encoding="utf-8")
        try:
            module = load(f"page_{name}", file)
        except (ImportError, NameError):
            # A fragment, or a file that needs its neighbours: the tests of the pages run those.
            continue
        count, findings = findings_in(module)
        seen += count
        assert not findings, report(findings)
    assert seen or "python run" not in text or name_of(page) in UNSEEN


def test_the_flows_of_the_golden_histories_raise_no_alarm() -> None:
    module = importlib.import_module("tests.replay.golden.flows")
    count, findings = findings_in(module)
    assert count >= 5
    assert not findings, report(findings)


def test_the_flows_of_the_benchmarks_and_of_the_demo_raise_no_alarm() -> None:
    for name in ("benchmarks.workloads.flows", "continuum.cli.demo_app"):
        count, findings = findings_in(importlib.import_module(name))
        assert count
        assert not findings, report(findings)
