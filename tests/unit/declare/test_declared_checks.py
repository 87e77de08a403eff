"""What happens when a workflow is declared whose code cannot be replayed, or is probably wrong."""

import importlib
import linecache
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from continuum import workflow
from continuum.declare.registry import REGISTRY, load_modules
from continuum.determinism import scanner, sources
from continuum.determinism.policy import configure_checks, postponed_checks
from continuum.determinism.report import DeterminismWarning
from continuum.errors import DeclarationError, DeterminismError
from tests.support.declaring import forgetting

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _own_checks() -> Iterator[None]:
    """Leave no half-read workflow to the tests that come after."""
    with forgetting():
        yield
    configure_checks()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    monkeypatch.syspath_prepend(str(tmp_path))
    written: list[str] = []

    def make(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        linecache.clearcache()
        written.append(name)

    yield make
    for name in written:
        sys.modules.pop(name, None)


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_an_error_refuses_the_declaration_and_says_everything() -> None:
    async def clock_flow() -> float:
        return time.time()

    with pytest.raises(DeterminismError) as caught:
        workflow(name="checked.clock")(clock_flow)
    error = caught.value
    assert isinstance(error, DeclarationError)
    [finding] = error.findings
    assert (finding.code, finding.workflow, finding.file) == ("CT101", "checked.clock", __file__)
    message = str(error)
    assert "Workflow checked.clock could not be replayed (1 error):" in message
    assert f"{__file__}:{finding.line}:{finding.column}: CT101 error: time.time()" in message
    assert "help: use continuum.now()" in message
    assert "# continuum: allow[CT101] reason" in message
    assert REGISTRY.find_workflow("checked.clock") is None


def test_a_warning_is_given_once_and_points_at_the_place(write: Write) -> None:
    write(
        "checked_warning",
        """
        from continuum import sleep, workflow

        async def patient():
            try:
                await sleep(1)
            except BaseException:
                pass

        @workflow(name="checked.warning")
        async def flow():
            await patient()

        @workflow(name="checked.warned")
        async def other():
            await patient()
        """,
    )
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        module = load("checked_warning")
    [warning] = given
    assert warning.category is DeterminismWarning
    assert (warning.filename, warning.lineno) == (module.__file__, 7)
    assert "CT301" in str(warning.message) and "checked.warning → patient" in str(warning.message)


def test_clean_code_is_declared_in_silence() -> None:
    @workflow(name="checked.clean")
    async def clean_flow(items: list[int]) -> int:
        return sum(items)

    assert clean_flow.check() == ()


LATE = """
    import time
    from continuum import workflow

    @workflow(name="{name}")
    async def flow():
        return below()

    def below():
        return time.time()
"""


def test_what_stands_below_is_read_at_the_first_use(write: Write) -> None:
    write("checked_late", LATE.format(name="checked.late"))
    flow = load("checked_late").flow
    for _ in range(2):  # as long as it is not mended
        with pytest.raises(DeterminismError, match=r"flow|below"):
            _ = flow.entry


def test_what_stands_below_is_read_when_the_modules_have_been_imported(write: Write) -> None:
    write("checked_below", LATE.format(name="checked.below"))
    write("checked_beside", LATE.format(name="checked.beside"))
    with pytest.raises(DeterminismError) as caught:
        load_modules(["checked_below", "checked_beside"])
    assert "checked.below" in str(caught.value) and "checked.beside" in str(caught.value)
    assert {finding.workflow for finding in caught.value.findings} == {"checked.below", "checked.beside"}


def test_a_name_that_never_means_anything_is_no_error(write: Write) -> None:
    write(
        "checked_never",
        """
        from continuum import workflow

        @workflow(name="checked.never")
        async def flow(n):
            return n or nowhere()
        """,
    )
    load_modules(["checked_never"])
    assert load("checked_never").flow.entry.name == "checked.never"


def test_modules_that_import_each_other_are_read_in_the_end(write: Write) -> None:
    write(
        "checked_one",
        """
        from continuum import workflow
        import checked_two

        @workflow(name="checked.circle")
        async def flow():
            return checked_two.below()
        """,
    )
    write("checked_two", "import checked_one\nimport time\n\ndef below():\n    return time.time()\n")
    importlib.import_module("checked_two")
    with pytest.raises(DeterminismError):
        load_modules(["checked_one"])


def test_severities_are_obeyed_at_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    async def first() -> float:
        return time.time()

    configure_checks(severities={"CT101": "off"})
    workflow(name="checked.off")(first)
    configure_checks()

    async def second() -> float:
        return time.time()

    monkeypatch.setenv("CONTINUUM_CHECKS", "warning")
    with pytest.warns(DeterminismWarning, match="CT101"):
        workflow(name="checked.capped")(second)


def test_postponed_checks_leave_everything_to_who_asked() -> None:
    async def clock_flow() -> float:
        return time.time()

    with postponed_checks():
        declared = workflow(name="checked.postponed")(clock_flow)
        assert declared.entry.name == "checked.postponed"
    assert [finding.code for finding in declared.check()] == ["CT101"]


def test_signals_are_checked_against_the_declaration() -> None:
    from continuum import wait_signal

    async def waiting() -> None:
        await wait_signal("approved")

    with pytest.raises(DeterminismError, match="'approved' and does not declare it"):
        workflow(name="checked.signals", signals=["rejected"])(waiting)
    workflow(name="checked.signals", signals=["approved"])(waiting)


def test_a_module_is_parsed_once_and_a_function_read_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    flows = "\n".join(
        f"@workflow(name='checked.many.{n}')\nasync def flow_{n}(x):\n    return helper(x)\n" for n in range(20)
    )
    write("checked_many", f"from continuum import workflow\n\ndef helper(x):\n    return x\n\n{flows}")
    parsed: list[str] = []
    read: list[str] = []
    real_module, real_reader = sources.Module, scanner.Reader

    class CountedModule(real_module):  # type: ignore[misc, valid-type]
        def __init__(self, filename: str, lines: list[str]) -> None:
            parsed.append(filename)
            super().__init__(filename, lines)

    class CountedReader(real_reader):  # type: ignore[misc, valid-type]
        def read(self) -> object:
            read.append(self.node.name)
            return super().read()

    monkeypatch.setattr(sources, "Module", CountedModule)
    monkeypatch.setattr(scanner, "Reader", CountedReader)
    module = load("checked_many")
    for number in range(20):
        _ = getattr(module, f"flow_{number}").entry
    assert parsed == [module.__file__]
    assert sorted(read) == sorted(["helper", *(f"flow_{n}" for n in range(20))])


def test_a_declaration_does_not_look_at_the_source_of_packages() -> None:
    code = (
        "import sys, continuum\n"
        "from continuum.determinism import sources\n"
        "import json, asyncio\n"
        "async def flow(x):\n"
        "    return json.dumps(await asyncio.gather(continuum.sleep(1)))\n"
        "continuum.workflow(flow)\n"
        "print([name for name in sources._modules if name != '<string>'])\n"  # which Python 3.13 has the text of
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
