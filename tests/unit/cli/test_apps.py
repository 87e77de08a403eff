"""`-A` finds the instance as Celery finds an app."""

from pathlib import Path
from typing import Any

import pytest

from continuum import ConfigError
from continuum.cli.apps import find_instance

INSTANCE = "from continuum import Continuum\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: Any, request: Any) -> Any:
    """Return a writer of modules in an importable directory; their names begin with the test's number."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    prefix = f"app_{abs(hash(request.node.nodeid)) % 10**9}"

    def write(path: str, text: str) -> str:
        file = tmp_path / prefix / path
        file.parent.mkdir(parents=True, exist_ok=True)
        init = tmp_path / prefix / "__init__.py"
        if not init.exists():
            init.write_text("")
        file.write_text(text)
        return prefix

    return write


def test_an_attribute_can_be_named(place: Any) -> None:
    name = place("__init__.py", INSTANCE + "class box:\n    inner = Continuum(name='inner')\n")
    assert find_instance(f"{name}:box.inner").settings.name == "inner"


def test_a_module_s_only_instance_is_found_whatever_it_is_called(place: Any) -> None:
    name = place("__init__.py", INSTANCE + "engine = Continuum(name='x')\nsame = engine\n")
    assert find_instance(name).settings.name == "x"


def test_one_called_continuum_is_preferred(place: Any) -> None:
    name = place("__init__.py", INSTANCE + "other = Continuum(name='o')\ncontinuum = Continuum(name='c')\n")
    assert find_instance(name).settings.name == "c"


def test_the_package_itself_called_continuum_is_no_instance(place: Any) -> None:
    name = place("__init__.py", "import continuum\ninstance = continuum.Continuum(name='x')\n")
    assert find_instance(name).settings.name == "x"


@pytest.mark.parametrize("submodule", ["continuum", "celery", "app", "flows", "workflows"])
def test_a_package_s_usual_places_are_searched(place: Any, submodule: str) -> None:
    name = place(f"{submodule}.py", INSTANCE + "mine = Continuum(name='sub')\n")
    assert find_instance(name).settings.name == "sub"
    assert find_instance(f"{name}.{submodule}").settings.name == "sub"


def test_several_instances_are_listed(place: Any) -> None:
    name = place("__init__.py", INSTANCE + "a = Continuum()\nb = Continuum()\n")
    with pytest.raises(ConfigError, match=f"-A {name}:a, -A {name}:b"):
        find_instance(name)


def test_no_instance_says_what_to_write(place: Any) -> None:
    name = place("__init__.py", "x = 1\n")
    with pytest.raises(ConfigError, match=r"continuum = Continuum\(\.\.\.\)"):
        find_instance(name)


def test_a_wrong_attribute_is_named(place: Any) -> None:
    name = place("__init__.py", "x = 1\n")
    with pytest.raises(ConfigError, match="has no 'y'"):
        find_instance(f"{name}:y")
    with pytest.raises(ConfigError, match="'x' is a int, not a Continuum"):
        find_instance(f"{name}:x")


def test_a_missing_module_says_where_was_looked(place: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no module 'nowhere_to_be_found'") as missing:
        find_instance("nowhere_to_be_found.sub")
    assert str(tmp_path) in str(missing.value)


@pytest.mark.parametrize(
    ("code", "kind"), [("import no_such_dependency\n", "ModuleNotFoundError"), ("1 / 0\n", "ZeroDivisionError")]
)
def test_an_error_in_the_app_is_shown_as_the_app_s(place: Any, code: str, kind: str) -> None:
    name = place("__init__.py", code)
    with pytest.raises(ConfigError, match=f"importing {name} failed: {kind}") as broken:
        find_instance(name)
    assert type(broken.value.__cause__).__name__ == kind


def test_a_database_given_beside_the_app_replaces_its_own(place: Any) -> None:
    name = place("__init__.py", INSTANCE + "c = Continuum('memory://a', namespace='eu', concurrency=3)\n")
    found = find_instance(name, database_url="memory://b")
    assert (found.url, found.settings.namespace, found.settings.concurrency) == ("memory://b", "eu", 3)


def test_without_an_app_there_is_the_database() -> None:
    assert find_instance(None, database_url="memory://only").url == "memory://only"
