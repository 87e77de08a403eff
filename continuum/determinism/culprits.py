"""Here lives who made a call that workflow code must not make: the author of a workflow, or somebody else.

The stack is walked from the call outwards, up to the function of ours that steps workflow code. Each frame is known by
the file of its code:

========== =============================================================================== =========================
shield     the import system, source lines for tracebacks and warnings, time zones,        nothing inside is forbidden
           finalizers (``__del__``), debuggers; functions of ours that say so (`side_effect`,
           the text of a log line); ``@pure`` functions; trusted modules
engine     Continuum itself                                                                if it is the first that is
                                                                                           not Python's: its own work
Python     the standard library                                                            works for whoever called it
package    what is installed                                                               works for whoever called it
author     everything else                                                                 is meant
========== =============================================================================== =========================

Authors may install their own code as a package. So if no frame is outside of packages, the package of the outermost
frame, which is the workflow function's, is the author's.
"""

import os
from collections.abc import Callable, Collection
from enum import IntEnum
from pathlib import Path
from types import CodeType, FrameType
from typing import Final, NamedTuple

__all__ = ["Culprit", "find_culprit", "is_of_authors", "place_of"]


class _Kind(IntEnum):
    AUTHOR = 0
    PACKAGE = 1
    PYTHON = 2
    PLUMBING = 3
    ENGINE = 4
    SHIELD = 5


class Culprit(NamedTuple):
    """Who made a call.

    :ivar frame: of the author's code; None if only libraries are on the stack, such as a callback that is one.
    :ivar called: the library function the author called, as ``module.qualname``; None if it was the call itself.
    :ivar is_direct: whether nothing but the thinnest of Python lies between the author and the call.
    """

    frame: FrameType | None
    called: str | None
    is_direct: bool


_HERE: Final = f"{Path(__file__).parent.parent}{os.sep}"
_PYTHON: Final = tuple({f"{path.parent}{os.sep}" for path in (Path(os.__file__), Path(os.__file__).resolve())})
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_FROZEN: Final = "<frozen "
# What works for everybody, and touches files or clocks for reasons of its own. `importlib._bootstrap` is the import
# statement: the body of a module that a workflow imports runs once per process, as everywhere else.
_SHIELDS: Final = frozenset(
    {
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "zipimport",
        "linecache",
        "tokenize",
        "traceback",
        "warnings",
        "inspect",
        "zoneinfo",
        "encodings",
        "weakref",
        "pdb",
        "bdb",
    }
)
# Frames of these in between do not make a call any less the author's.
_PLUMBING: Final = frozenset({"os", "posixpath", "ntpath", "genericpath", "_collections_abc", "pathlib"})
# Debuggers and tracers run on top of the code they watch; some are not installed but brought by the editor.
_DEBUGGERS: Final = frozenset(
    {"debugpy", "pydev", "pydevd", "_pydevd_bundle", "_pydev_bundle", "_pydevd_frame_eval", "IPython", "ipdb"}
    | {"pdbpp", "pudb", "remote_pdb", "rpdb", "web_pdb"}
)
_TRACERS: Final = frozenset({"coverage", "viztracer", "pyinstrument"})

_kinds: Final[dict[str, _Kind]] = {}


def find_culprit(
    frame: FrameType | None,
    *,
    stops: Collection[CodeType],
    steppers: Collection[CodeType],
    shields: Collection[CodeType],
    is_trusted: Callable[[FrameType], bool],
) -> Culprit | None:
    """Return who made the call that the frame makes; None if it is none of workflow code's doing.

    :param stops: functions that step workflow code: what lies below is the host.
    :param steppers: those of Continuum that call what authors gave them, and are no stops.
    :param shields: functions within which nothing is forbidden.
    :param is_trusted: whether the code of a frame, and all it calls, is believed.
    """
    seen: list[tuple[FrameType, _Kind]] = []
    decided = False
    while frame is not None:
        code = frame.f_code
        if code in stops:
            break
        kind = _kind_of(code.co_filename)
        if kind is _Kind.SHIELD or code in shields or code.co_name == "__del__":
            return None
        if kind <= _Kind.PACKAGE and is_trusted(frame):
            return None
        if not decided and kind not in (_Kind.PYTHON, _Kind.PLUMBING):
            if kind is _Kind.ENGINE and code not in steppers:
                return None
            decided = True
        if code not in steppers:
            seen.append((frame, kind))
        frame = frame.f_back
    return _blame(seen)


def _blame(seen: list[tuple[FrameType, _Kind]]) -> Culprit:
    index = next((at for at, (_, kind) in enumerate(seen) if kind is _Kind.AUTHOR), None)
    if index is None:
        packages = [(at, _package_of(frame)) for at, (frame, kind) in enumerate(seen) if kind is _Kind.PACKAGE]
        if not packages:
            return Culprit(None, _name_of(seen[-1][0]) if seen else None, is_direct=False)
        own = packages[-1][1]
        index = next(at for at, package in packages if package == own)
    inner = seen[:index]
    return Culprit(
        seen[index][0],
        _name_of(inner[-1][0]) if inner else None,
        is_direct=all(kind is _Kind.PLUMBING for _, kind in inner),
    )


def place_of(frame: FrameType) -> str:
    """Return ``path:line`` of a frame, the path as its module is named: the same on every host."""
    module = frame.f_globals.get("__name__") or ""
    parts = frame.f_code.co_filename.replace("\\", "/").split("/")
    depth = 1 if module == "__main__" else module.count(".") + 1
    if parts[-1] == "__init__.py":
        depth += 1
    return f"{'/'.join(parts[-depth:])}:{frame.f_lineno}"


def is_of_authors(filename: str) -> bool:
    """Whether code of this file is neither Python's, nor installed, nor ours."""
    return _kind_of(filename) is _Kind.AUTHOR


def _package_of(frame: FrameType) -> str:
    return (frame.f_globals.get("__name__") or "").partition(".")[0]


def _name_of(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"


def _kind_of(filename: str) -> _Kind:
    kind = _kinds.get(filename)
    if kind is None:
        kind = _kinds[filename] = _classify(filename)
    return kind


def _classify(filename: str) -> _Kind:
    if filename.startswith(_FROZEN):
        return _python(filename[len(_FROZEN) : -1])
    if filename.startswith(_HERE):
        return _Kind.ENGINE
    folders = Path(filename).parts[:-1]
    if not _DEBUGGERS.isdisjoint(folders):
        return _Kind.SHIELD
    if not _INSTALLED.isdisjoint(folders):
        return _Kind.PACKAGE if _TRACERS.isdisjoint(folders) else _Kind.SHIELD
    for root in _PYTHON:
        if filename.startswith(root):
            return _python(filename[len(root) :].removesuffix(".py").replace(os.sep, "."))
    return _Kind.AUTHOR


def _python(module: str) -> _Kind:
    if module in _SHIELDS or module.partition(".")[0] in _SHIELDS:
        return _Kind.SHIELD
    return _Kind.PLUMBING if module.partition(".")[0] in _PLUMBING else _Kind.PYTHON
