"""Here lives which executors there are: the local one, and those that installed packages provide."""

from functools import lru_cache
from importlib.metadata import entry_points
from typing import Final

__all__ = ["LOCAL", "flaw_of_executor"]

LOCAL: Final = "local"
ENTRY_POINTS: Final = "continuum.executors"


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset({LOCAL, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def flaw_of_executor(name: object) -> str | None:
    """Return what to write instead of an executor that nobody provides, None if somebody does.

    Whatever were scheduled for it would never run, and nobody would say so.
    """
    if name in _known():
        return None
    only = " (this release brings no other)" if _known() == {LOCAL} else ""
    return f"executor={name!r} is not known: write {' or '.join(map(repr, sorted(_known())))}{only}."
