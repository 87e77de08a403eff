"""Here live modules of workflow code that tests write and import."""

import importlib
import itertools
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.declaring import forgetting

Write = Callable[..., ModuleType]
_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    with forgetting():
        yield


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Yield what writes a module, imports it and returns it; its neighbours by name, imported under theirs."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written: list[str] = []

    def make(text: str, name: str | None = None) -> ModuleType:
        name = name or f"scanned_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        linecache.clearcache()
        written.append(name)
        return importlib.import_module(name)

    yield make
    for name in written:
        sys.modules.pop(name, None)
