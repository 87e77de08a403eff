"""The rules of the house that no other tool checks. What they protect is in CONTRIBUTING.md.

Import directions are checked by import-linter (`make lint`), style by ruff, types by mypy.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "continuum"
LONGEST_FILE = 400

# (file, imported module): why it cannot be at the top. `*` stands for every module.
IMPORTS_IN_FUNCTIONS = {
    ("continuum/journal/open.py", "*"): "opens one wing and must not load the other",
}

# Files with SQL of their own: why.
SQL_ELSEWHERE = {
    "continuum/cli/demo_app.py": "what a user's application looks like; it writes a table of its own",
}

# A room here may be missing its dependency, an extra, when tests run from a bare install.
OPTIONAL = {"celery", "kombu", "redis", "opentelemetry", "starlette", "jinja2", "uvicorn"}

SQL = re.compile(
    r"^\s*(select\b.+\bfrom\b|insert\s+into\b|update\s+\S+\s+(\w+\s+)?set\b|delete\s+from\b|with\s+\w+\s+as\s*(materialized\s*)?\(|"
    r"(create|alter|drop)\s+(table|index|schema|database|type|function)\b|truncate\s|listen\s+\w|notify\s+\w)",
    re.IGNORECASE | re.DOTALL,
)


def sources(*tops: str) -> list[Path]:
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


CODE = sources("continuum")
each_file = pytest.mark.parametrize("path", CODE, ids=name_of)


@pytest.mark.parametrize("path", sources("continuum", "migrations"), ids=name_of)
def test_no_file_is_longer_than_one_can_hold_in_mind(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{name_of(path)} has {lines} lines; a room that needs more space needs another room"


def test_each_module_says_what_lives_in_it() -> None:
    silent = [name_of(path) for path in CODE if tree_of(path).body and not ast.get_docstring(tree_of(path))]
    assert not silent, f"modules without a docstring: {silent}"


# -- __all__ -------------------------------------------------------------------------------------


def declared_names(path: Path) -> list[str] | None:
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                assert node.value is not None
                return list(ast.literal_eval(node.value))
    return None


@each_file
def test_all_names_only_what_exists_and_each_once(path: Path) -> None:
    names = declared_names(path)
    if names is None:
        return
    assert len(names) == len(set(names)), f"a name stands twice in __all__ of {name_of(path)}"
    try:
        module = importlib.import_module(module_of(path))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}, which is not installed")
    missing = [name for name in names if not hasattr(module, name)]
    assert not missing, f"__all__ of {name_of(path)} names what is not there: {missing}"


def test_whoever_imports_a_name_finds_it_in_all() -> None:
    """The names rooms take from each other are the ones they offer."""
    declared = {module_of(path): declared_names(path) for path in CODE}
    wrong = []
    for path in CODE:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ImportFrom) or node.module not in declared:
                continue
            offered = declared[node.module] or []
            wrong += [
                f"{name_of(path)}:{node.lineno} takes {alias.name} from {node.module}"
                for alias in node.names
                if alias.name not in offered and f"{node.module}.{alias.name}" not in declared
            ]
    assert not wrong, "not in __all__:\n" + "\n".join(wrong)


def test_the_public_package_offers_no_name_by_accident() -> None:
    package = importlib.import_module("continuum")
    offered = set(getattr(package, "__all__", []))
    modules = {path.stem for path in PACKAGE.iterdir()}
    accidents = {name for name in vars(package) if not name.startswith("_")} - offered - modules
    assert not accidents, f"`import continuum` shows names that are not in __all__: {sorted(accidents)}"


# -- imports, SQL, crashes -----------------------------------------------------------------------


def imports_in_functions(path: Path) -> Iterator[tuple[int, str]]:
    for function in ast.walk(tree_of(path)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.lineno, node.module or "."


def test_imports_stand_at_the_top() -> None:
    hidden = [
        f"{name_of(path)}:{line} imports {module}"
        for path in CODE
        for line, module in imports_in_functions(path)
        if not {(name_of(path), module), (name_of(path), "*")} & IMPORTS_IN_FUNCTIONS.keys()
    ]
    assert not hidden, (
        "imports inside functions (give the reason in IMPORTS_IN_FUNCTIONS, or move them):\n" + "\n".join(hidden)
    )


def docstrings(tree: ast.Module) -> set[int]:
    found = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            found.add(id(body[0].value))
    return found


def test_sql_is_written_in_one_room_only() -> None:
    strays = []
    for path in CODE:
        if (PACKAGE / "journal" / "postgres") in path.parents or name_of(path) in SQL_ELSEWHERE:
            continue
        prose = docstrings(tree_of(path))
        strays += [
            f"{name_of(path)}:{node.lineno} {node.value[:60]!r}"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in prose
            and SQL.match(node.value)
        ]
    assert not strays, "SQL outside journal/postgres:\n" + "\n".join(strays)


def probes() -> dict[str, str]:
    """Map each probe's name to the place that passes it."""
    found = {}
    for path in CODE:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                first = node.args[0] if node.args else None
                if called == "probe" and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found[first.value] = f"{name_of(path)}:{node.lineno}"
    return found


def test_something_dies_at_every_probe() -> None:
    """Each `probe("name")` is a place where a test kills the engine and looks at what is left."""
    rooms = [*sources("tests/crash"), *sources("tests/celery")]
    tests = "\n".join(path.read_text(encoding="utf-8") for path in rooms)
    named = set(re.findall(r"[a-z_]+(?:\.[a-z_]+)+|\b[a-z_]+\b", tests))
    unproven = [f"{name} ({place})" for name, place in sorted(probes().items()) if name not in named]
    assert not unproven, "no test under tests/crash or tests/celery names these probes:\n" + "\n".join(unproven)


def test_every_probe_has_its_crash_comment() -> None:
    """What the world looks like if the process dies here stands in the lines above, or beside."""
    silent = []
    for name, place in probes().items():
        file, _, line = place.partition(":")
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        near = lines[max(0, int(line) - 8) : int(line) + 1]
        if not any("# Crash:" in text for text in near):
            silent.append(f"{name} ({place})")
    assert not silent, "probes without a `# Crash:` comment near them:\n" + "\n".join(silent)
