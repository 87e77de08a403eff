"""Here lives the search for the line of workflow code that asked for something.

Only done while a run is live, and to explain drift: walking frames costs more than replaying a command.
"""

import sys
from types import CodeType
from typing import Final

__all__ = ["caller", "short_path", "stop_at"]

# Frames of these packages are plumbing: the reader wants the line that called them.
_PLUMBING: Final = frozenset({"asyncio", "anyio", "contextlib", "continuum"})
_stops: Final[set[CodeType]] = set()
# By code object, which a look-up finds faster than anything that has to be computed: its file, and the path to show,
# or "" for plumbing. The file, since equal functions at the same line of two files are equal code objects.
_places: Final[dict[CodeType, tuple[str, str]]] = {}


def stop_at(code: CodeType) -> None:
    """Name a function of ours that steps workflow code: what lies below its frame is the host, not the workflow."""
    _stops.add(code)


def caller() -> str | None:
    """Return ``path:line`` of the innermost frame of workflow code; None if there is none."""
    frame = sys._getframe(1)  # noqa: SLF001 - there is no public way to look at frames this cheaply
    while frame is not None:
        code = frame.f_code
        known = _places.get(code)
        if known is None or known[0] != code.co_filename:
            if code in _stops:
                return None
            place = _place(code.co_filename, frame.f_globals.get("__name__") or "")
            known = _places[code] = (code.co_filename, place)
        if known[1]:
            return f"{known[1]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _place(filename: str, module: str) -> str:
    return "" if module.partition(".")[0] in _PLUMBING else short_path(filename, module)


def short_path(filename: str, module: str) -> str:
    """Return the path under which histories know the file of a module."""
    # `/srv/app/myapp/flows.py` of module `myapp.flows` is `myapp/flows.py` on every host.
    depth = 1 if module == "__main__" else module.count(".") + 1
    parts = filename.replace("\\", "/").split("/")
    if parts[-1] == "__init__.py":
        depth += 1
    return "/".join(parts[-depth:])
