"""Here lives importing what a command names: modules, packages with all below them, files, directories."""

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from continuum.declare.registry import is_missing
from continuum.errors import ConfigError, ContinuumError

__all__ = ["import_targets", "look_here"]

# Importing these runs a program.
_PROGRAMS: Final = frozenset({"__main__", "setup", "conftest", "manage"})
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})
_MENTION: Final = b"continuum"


def look_here() -> None:
    """Let what stands in the current directory be imported."""
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - entries of sys.path are texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109


def import_targets(targets: Iterable[str]) -> list[str]:
    """Import all that the targets name, and return the names of the modules.

    Files that do not mention continuum are passed over: they declare nothing. Raises ``ConfigError`` for what does not
    exist or fails while it is imported, with the error as cause.
    """
    look_here()
    names: dict[str, None] = {}
    for target in targets:
        found = _of_path(Path(target)) if _is_path(target) else _of_name(target)
        names.update(dict.fromkeys(found))
    return list(names)


def _is_path(target: str) -> bool:
    return target.endswith(".py") or "/" in target or os.sep in target or (Path(target).is_dir() and target == ".")


def _of_name(name: str) -> Iterator[str]:
    module = _import(name)
    yield name
    for info in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
        if info.name.rpartition(".")[2] not in _PROGRAMS:
            _import(info.name)
            yield info.name


def _of_path(path: Path) -> Iterator[str]:
    if path.is_dir():
        files = [
            file
            for file in sorted(path.rglob("*.py"))
            if not any(part in _SKIPPED or part.startswith(".") for part in file.relative_to(path).parts)
            and file.stem not in _PROGRAMS
        ]
    elif path.is_file():
        files = [path]
    else:
        raise ConfigError(f"There is no file {str(path)!r} here ({os.getcwd()}).")  # noqa: PTH109
    for file in files:
        if _MENTION in file.read_bytes():
            yield _import_file(file.resolve())


def _import_file(file: Path) -> str:
    known = _loaded_from(file)
    if known is not None:
        return known
    parts = [] if file.stem == "__init__" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    if not all(part.isidentifier() for part in parts) or (name in sys.modules and len(parts) == 1):
        return _import_alone(file)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module = _import(name)
    if Path(module.__file__ or "").resolve() != file:
        # Another of that name is found first: a script beside a package, an installed one.
        return _import_alone(file)
    return name


def _loaded_from(file: Path) -> str | None:
    for name, module in list(sys.modules.items()):
        if name != "__main__" and (getattr(module, "__file__", None) or "") == str(file):
            return name
    return None


def _import_alone(file: Path) -> str:
    """Import a file that has no name of its own, under one that nobody else has."""
    name = f"continuum_checked_{abs(hash(str(file)))}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is no Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _broken(str(file), error) from error
    return name


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if is_missing(name, error):
            raise ConfigError(
                f"There is no module {error.name!r} here. Start where it can be imported (now in {os.getcwd()}),"  # noqa: PTH109
                " or name a file."
            ) from None
        raise _broken(name, error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> ConfigError:
    if isinstance(error, ContinuumError):
        return ConfigError(f"Importing {name} failed: {error}")
    return ConfigError(f"Importing {name} failed: {type(error).__name__}: {error}")
