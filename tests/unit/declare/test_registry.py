"""Finding declarations again."""

import importlib
import sys
from pathlib import Path

import pytest

from continuum.declare.activities import activity
from continuum.declare.registry import REGISTRY, Registry, load_modules
from continuum.errors import ConfigError, DeclarationError


@activity(name="tests.registry.known")
def known() -> None: ...


def test_what_is_unknown_is_none_or_an_error_that_says_what_is_known() -> None:
    registry = Registry()
    assert registry.find_activity("nope") is None
    assert registry.find_workflow("nope") is None
    with pytest.raises(DeclarationError, match="Declared: none"):
        registry.get_activity("nope")
    registry.register_activity(known)
    with pytest.raises(DeclarationError, match=r"tests\.registry\.known"):
        registry.get_activity("nope")
    with pytest.raises(DeclarationError, match="no workflow 'nope'"):
        registry.get_workflow("nope")
    assert registry.activities() == [known]


def test_modules_are_loaded_by_name_and_reloading_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_flows.py").write_text(
        "from continuum.declare.workflows import workflow\n@workflow\nasync def shop_flow(): return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    load_modules(["shop_flows"])
    first = REGISTRY.get_workflow("shop_flow")
    importlib.reload(sys.modules["shop_flows"])
    assert REGISTRY.get_workflow("shop_flow") is not first
    with pytest.raises(DeclarationError, match="no version 9 here; declared: 1"):
        REGISTRY.get_workflow("shop_flow", 9)


def test_a_module_that_is_missing_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"no module 'shop_nowhere\.flows'"):
        load_modules(["shop_nowhere.flows"])


def test_what_a_module_misses_itself_comes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_broken.py").write_text("import shop_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="shop_not_installed"):
        load_modules(["shop_broken"])
