"""What makes two versions of a workflow's code the same, and what does not."""

import linecache
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum.declare.fingerprints import Fingerprint
from continuum.declare.workflows import workflow

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = Path(__file__).with_name("fingerprint_sample.txt")  # no .py: formatters would tidy it up
# Changes of the normal form make every run under way compare its history with the code once: not to be made lightly.
GOLDEN = "80e2fa722c01b1f3eae568ab424a8afc"

BASE = """
def helper(n):
    return deeper(n) + 1

def deeper(n):
    return n * 2

def unused(n):
    return n

class Cart:
    def total(self):
        return 3

async def flow(n):
    cart = Cart()
    return helper(n) + cart.total()
"""

Load = Callable[[str], Fingerprint]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a module's text as a file, and return the fingerprint of its `flow`."""
    count = 0

    def load(text: str, name: str = "flow") -> Fingerprint:
        nonlocal count
        count += 1
        path = tmp_path / f"module{count}.py"
        path.write_text(textwrap.dedent(text))
        scope: dict[str, Any] = {"__name__": "module"}
        exec(compile(path.read_text(), str(path), "exec"), scope)
        return Fingerprint(getattr(scope[name], "function", scope[name]))

    return load


@pytest.mark.parametrize(
    "same",
    [
        BASE.replace("    return deeper(n) + 1", "    # why\n    return (\n        deeper(n) +\n            1)  # so"),
        BASE.replace("async def flow(n):", 'async def flow(n):\n    """What it does."""'),
        BASE.replace("def helper(n):", "\n\n\ndef helper(n):\n    'doc'\n    pass"),
        BASE.replace("def unused(n):\n    return n", "def unused(n):\n    return n + 1"),
        BASE.replace("def unused(n):\n    return n\n", ""),
        BASE.replace("class Cart:", "class Cart:\n    'A cart.'"),
        "import os\nLIMIT = 3\n" + BASE,
        BASE.replace("n * 2", "(n) * 0x2"),
    ],
)
def test_what_has_no_meaning_makes_no_difference(load: Load, same: str) -> None:
    assert load(same).hash == load(BASE).hash


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("helper(n) + cart", "helper(n) - cart"),
        BASE.replace("n * 2", "n * 3"),
        BASE.replace("n * 2", "n * 2.0"),
        BASE.replace("return 3", "return 4"),
        BASE.replace("async def flow(n)", "async def flow(n=1)"),
        BASE.replace("async def flow(n)", "async def flow(n: int)"),
        BASE.replace("    cart = Cart()\n", "").replace("cart.total", "Cart().total"),
    ],
)
def test_every_change_of_meaning_makes_a_difference(load: Load, other: str) -> None:
    assert load(other).hash != load(BASE).hash


def test_neither_the_order_in_the_file_nor_the_name_of_the_workflow_counts(load: Load) -> None:
    blocks = BASE.strip().split("\n\n")
    assert load("\n\n".join(reversed(blocks))).hash == load(BASE).hash
    assert load(BASE.replace("async def flow", "async def flow_v1"), "flow_v1").hash == load(BASE).hash


DECLARED = """
from continuum.declare.activities import activity as step
from continuum.declare.workflows import workflow

@step
def charge(n):
    return n

@workflow(version=1)
async def other(n):
    return n

@workflow(version=1)
async def flow(n):
    return await charge(n), other
"""


def test_activities_and_other_workflows_are_not_followed(load: Load) -> None:
    first = load(DECLARED)
    assert load(DECLARED.replace("    return n\n", "    return n + 1\n")).hash == first.hash
    assert "def charge" not in first.source
    assert "def other" not in first.source


def test_the_workflow_line_itself_does_not_count(load: Load) -> None:
    changed = "from datetime import timedelta\n" + DECLARED.replace(
        "@workflow(version=1)\nasync def flow", "@workflow(version=1, retention=timedelta(days=1))\nasync def flow"
    )
    assert load(changed).hash == load(DECLARED).hash


def test_the_source_is_the_function_and_then_its_helpers(load: Load) -> None:
    source = load("# top\n" + BASE).source
    assert source.startswith("async def flow(n):")
    assert source.index("def helper") < source.index("def deeper") < source.index("class Cart")
    assert "unused" not in source
    assert "# top" not in source


def test_helpers_inside_a_function_are_followed_too() -> None:
    def helper(n: int) -> int:
        return n + 41

    @workflow
    async def nested(n: int) -> int:
        return helper(n)

    assert "n + 41" in nested.source
    assert nested.source.startswith("@workflow\nasync def nested")


def test_helpers_below_the_workflow_and_in_branches_are_found(load: Load) -> None:
    text = """
    async def flow(n):
        return helper(n)
    try:
        import no_such_module
    except ImportError:
        def helper(n):
            return n
    else:
        def helper(n):
            return -n
    """
    assert load(text).source.count("def helper") == 2
    assert load(text.replace("-n", "+n")).hash != load(text).hash


def test_code_without_a_file_has_a_fingerprint_of_its_names_and_constants() -> None:
    def load(text: str) -> Fingerprint:
        scope: dict[str, Any] = {"__name__": "typed_in"}
        exec(text, scope)
        return Fingerprint(scope["flow"])

    text = "async def flow(n):\n    return helper(n, 3, {'a', 'b'}, [x for x in n])\n"
    assert load(text).hash == load("\n\n" + text).hash
    assert load(text).hash != load(text.replace("3", "4")).hash
    assert load(text).hash != load(text.replace("helper", "other")).hash
    assert "no source text" in load(text).source


def test_a_file_edited_after_its_import_does_not_change_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text("async def flow(n):\n    return n\n")
    scope: dict[str, Any] = {"__name__": "edited"}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    fingerprint = Fingerprint(scope["flow"])
    path.write_text("async def flow(n):\n    return n + 1\n# longer now\n")
    linecache.checkcache(str(path))
    assert "n + 1" not in fingerprint.source


def _fingerprint_in(python: str) -> str:
    # The package itself needs msgspec, which other Pythons here may not have; these two modules need nothing.
    code = (
        "import importlib.machinery, importlib.util, sys, types\n"
        "for name in ('continuum', 'continuum.declare'):\n"
        "    package = sys.modules[name] = types.ModuleType(name)\n"
        "    package.__path__ = [sys.argv[1] + '/' + name.replace('.', '/')]\n"
        "from continuum.declare.fingerprints import Fingerprint\n"
        "loader = importlib.machinery.SourceFileLoader('sample', sys.argv[2])\n"
        "spec = importlib.util.spec_from_loader('sample', loader)\n"
        "module = sys.modules['sample'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(Fingerprint(module.flow).hash)\n"
    )
    command = [python, "-I", "-c", code, str(ROOT), str(SAMPLE)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def _pythons() -> list[Any]:
    found: list[Any] = [pytest.param(sys.executable, id="this")]
    for version in ("3.11", "3.12", "3.13"):
        places = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python")) + [
            Path(f"{top}/python{version}") for top in ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")
        ]
        real = next((str(place) for place in places if place.exists()), None)
        skip = pytest.mark.skipif(real is None, reason=f"no Python {version} on this machine")
        found.append(pytest.param(real, id=version, marks=skip))
    return found


@pytest.mark.parametrize("python", _pythons())
def test_the_fingerprint_is_the_same_in_every_supported_python(python: str) -> None:
    assert _fingerprint_in(python) == GOLDEN
