"""``continuum check MODULE``: what is looked at, what is told, and what the shell hears."""

import itertools
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from continuum import configure_checks
from continuum.cli import main
from continuum.cli.modules import import_targets
from continuum.declare.registry import REGISTRY
from continuum.determinism.policy import checks_are_postponed
from continuum.errors import ConfigError
from tests.support.declaring import forgetting

NUMBERS = itertools.count()

BAD = """
import time
from continuum import workflow
from {helpers} import stamp

@workflow(name="{name}.bad")
async def bad(order):
    before = time.time()
    try:
        return stamp()
    finally:
        return before

@workflow(name="{name}.fine")
async def fine(order):
    return order.method()
"""
HELPERS = """
import datetime

def stamp():
    return datetime.datetime.now()
"""
FINE = """
from continuum import now, workflow

@workflow(name="{name}.fine")
async def fine(order):
    return now(), order.method()
"""


class Project:
    """A directory of modules with names that no other test has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"checked_{next(NUMBERS)}"

    def write(self, source: str, name: str | None = None, path: str | None = None) -> str:
        name = name or self.name
        file = self.folder / (path or f"{name}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        text = source.replace("{name}", name).replace("{helpers}", f"{self.name}_helpers")
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONTINUUM_CHECKS", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with forgetting():
        yield Project(tmp_path)
    configure_checks()


@pytest.fixture
def bad(project: Project) -> str:
    project.write(HELPERS, f"{project.name}_helpers")
    return project.write(BAD)


def cli(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["check", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def codes(*arguments: str) -> tuple[list[str], int]:
    result = cli(*arguments, "--json")
    return [finding["code"] for finding in json.loads(result.stdout)["findings"]], result.exit_code


def test_findings_are_told_as_a_linter_does_and_errors_exit_with_one(bad: str) -> None:
    result = cli(bad)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{bad}.py:8:14: CT101 error: time.time()")
    assert lines[1].strip().startswith("help: use continuum.now()")
    assert f"{bad}_helpers.py:5:12: CT101 error: datetime.datetime.now()" in result.stdout
    assert f"    {bad}.bad → stamp ({bad}.py:10)" in result.stdout
    assert f"{bad}.py:12:9: CT306 warning: " in result.stdout
    assert lines[-1] == "2 workflows looked at: 2 errors, 1 warning."


def test_clean_code_exits_with_nought(project: Project) -> None:
    result = cli(project.write(FINE))
    assert result.exit_code == 0
    assert result.stdout == "1 workflow looked at: nothing found.\n"


def test_json_has_every_finding_with_its_chain(bad: str) -> None:
    result = cli(bad, "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["ok"] is False
    assert document["workflows"] == [f"{bad}.bad", f"{bad}.fine"]
    assert [finding["code"] for finding in document["findings"]] == ["CT101", "CT306", "CT101"]
    deep = document["findings"][2]
    assert deep["severity"] == "error"
    assert [link["function"] for link in deep["chain"]] == ["stamp"]
    assert deep["workflow"] == f"{bad}.bad"
    assert "checks" not in document


def test_rules_are_selected_and_ignored_by_code_and_by_beginning(bad: str) -> None:
    assert codes(bad, "--select", "CT3") == (["CT306"], 0)
    assert codes(bad, "--ignore", "CT1") == (["CT306"], 0)
    assert codes(bad, "--ignore", "CT101,CT306") == ([], 0)
    assert codes(bad, "--select", "CT1", "--select", "CT306", "--ignore", "CT306") == (["CT101", "CT101"], 1)


def test_selecting_a_rule_that_is_off_turns_it_on_as_a_warning(bad: str) -> None:
    found, code = codes(bad, "--select", "CT402")
    assert set(found) == {"CT402"}
    assert code == 0


def test_strict_distrusts_and_fails_on_warnings(project: Project) -> None:
    fine = project.write(FINE)
    assert codes(fine) == ([], 0)
    assert codes(fine, "--strict") == (["CT402"], 1)
    assert codes(fine, "--strict", "--ignore", "CT402") == ([], 0)


def test_what_the_code_configures_while_it_is_imported_counts(project: Project) -> None:
    project.write(HELPERS, f"{project.name}_helpers")
    name = project.write(
        "from continuum import configure_checks\nconfigure_checks(severities={'CT101': 'warning', 'CT306': 'off'})\n"
        + BAD
    )
    assert codes(name) == (["CT101", "CT101"], 0)
    assert codes(name, "--strict", "--select", "CT1") == (["CT101", "CT101"], 1)


def test_the_environment_caps_the_severity(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_CHECKS", "warning")
    assert codes(bad) == (["CT101", "CT306", "CT101"], 0)


def test_a_file_is_checked_under_its_own_name(bad: str, project: Project) -> None:
    result = cli(f"{bad}.py")
    assert result.exit_code == 1
    assert "2 workflows looked at" in result.stdout
    assert REGISTRY.get_workflow(f"{bad}.bad").place == f"{bad}:bad"
    # What a pre-commit hook does: every changed file, helpers too.
    again = cli(f"{bad}_helpers.py", str(project.folder / f"{bad}.py"))
    assert again.stdout.count("CT101") == result.stdout.count("CT101")


def test_a_file_in_a_package_is_imported_as_part_of_it(project: Project) -> None:
    package = project.name
    project.write("", path=f"src/{package}/__init__.py")
    project.write("RATE = 3\n", path=f"src/{package}/rates.py")
    project.write(
        "from continuum import workflow\nfrom .rates import RATE\n"
        "@workflow(name='{name}.flow')\nasync def flow():\n    return RATE\n",
        path=f"src/{package}/flows.py",
    )
    result = cli(f"src/{package}/flows.py")
    assert result.stdout == "1 workflow looked at: nothing found.\n"
    assert f"{package}.flows" in sys.modules


def test_a_package_and_a_directory_are_checked_with_all_in_them(project: Project) -> None:
    package = project.name
    project.write("", path=f"{package}/__init__.py")
    project.write("raise SystemExit('a program')\n# continuum", path=f"{package}/__main__.py")
    project.write(FINE, path=f"{package}/inner/flows.py")
    project.write("", path=f"{package}/inner/__init__.py")
    project.write("raise RuntimeError('mentions nothing of ours')\n", path="elsewhere/loud.py")
    assert cli(package).stdout == "1 workflow looked at: nothing found.\n"
    assert cli(f"./{package}").stdout == "1 workflow looked at: nothing found.\n"
    assert cli("./elsewhere").stdout == "No workflow is declared there: nothing found.\n"


def test_two_scripts_of_one_name_are_both_checked(project: Project) -> None:
    project.write(FINE.replace("{name}", f"{project.name}.a"), path="a/flows.py")
    project.write(FINE.replace("{name}", f"{project.name}.b"), path="b/flows.py")
    assert cli("a/flows.py", "b/flows.py").stdout == "2 workflows looked at: nothing found.\n"


def test_files_that_do_not_mention_continuum_are_not_imported(project: Project) -> None:
    project.write("raise RuntimeError\n", "loud")
    assert cli("loud.py").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no_such_module",), "There is no module 'no_such_module' here. Start where it can be imported"),
        (("no_such_file.py",), "There is no file 'no_such_file.py' here"),
        (("--select", "CT1"), "--select, --ignore and --strict are for workflow code: name its MODULE."),
        (("json", "--select", "E501"), "There is no rule 'E501'"),
        (("json", "--select", ","), "names no rule: write codes such as CT001"),
    ],
)
def test_what_cannot_be_checked_is_wrong_usage(project: Project, arguments: tuple[str, ...], message: str) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_module_that_cannot_be_imported_is_told_with_its_traceback(project: Project) -> None:
    name = project.write("import continuum\n1 / 0\n")
    for target in (name, f"{name}.py"):
        result = cli(target)
        assert result.exit_code == 2
        assert "ZeroDivisionError: division by zero" in result.stderr
        assert "Importing" in result.stderr
    project.write("import no_such_dependency_of_mine\n", "lacking")
    assert "no_such_dependency_of_mine" in cli("lacking").stderr


def test_a_program_that_ends_while_it_is_imported_does_not_end_the_check(project: Project) -> None:
    name = project.write("import continuum\nraise SystemExit(0)\n")
    result = cli(f"{name}.py")
    assert result.exit_code == 2
    assert "SystemExit" in result.stderr


def test_an_instance_and_code_are_checked_together(bad: str) -> None:
    result = cli(bad, "-A", "tests.unit.cli.shop", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["findings"]
    assert {check["subject"] for check in document["checks"]} >= {"database", "declared"}
    text = cli(bad, "-A", "tests.unit.cli.shop").stdout
    assert "database" in text
    assert "CT101" in text


def test_nothing_stays_postponed_when_an_import_fails(project: Project) -> None:
    assert cli("no_such_module").exit_code == 2
    assert not checks_are_postponed()
    with pytest.raises(ConfigError, match="There is no module"):
        import_targets(["no_such_module"])


def test_the_hook_for_pre_commit_names_this_command() -> None:
    hooks = (Path(__file__).resolve().parents[3] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    fields = dict(line.strip("- ").split(": ", 1) for line in hooks.splitlines() if ": " in line and "#" not in line)
    assert fields["id"] == "continuum-check"
    assert fields["entry"].split() == ["continuum", "check"]
    assert main.get_command(None, fields["entry"].split()[1]) is not None  # type: ignore[arg-type]
    # It imports what it reads, so it has to run where that can be imported.
    assert fields["language"] == "system"
