"""Here lives which executors there are: the local one, and those that installed packages provide.

A provider is found by an entry point of the group ``continuum.executors``; nobody here imports it by name.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, cast

import msgspec

from continuum.errors import ConfigError

__all__ = ["LOCAL", "Adapted", "Provider", "flaw_of_executor", "load_provider"]

LOCAL: Final = "local"
ENTRY_POINTS: Final = "continuum.executors"


class Adapted(msgspec.Struct, frozen=True):
    """Somebody else's task, as the parts of an activity.

    :ivar function: runs the task; has its signature and hints.
    :ivar options: options of ``@activity`` that keep the task's own meaning (``retry``, ``timeout``).
    """

    name: str
    function: Callable[..., Any]
    options: dict[str, Any]


class Provider(Protocol):
    """What an entry point names; a module will do."""

    def check(self) -> None:
        """Raise ``ConfigError`` if what it needs is missing or too old."""

    def bind(self, instance: Any) -> Any:
        """Return the executor of an instance of :class:`~continuum.client.instance.Continuum`; connects to nothing."""

    def adapt(self, task: Any) -> Adapted:
        """Return a task of the executor's own kind as the parts of an activity. Raises ``DeclarationError``."""


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


@lru_cache(maxsize=8)
def load_provider(name: str) -> Provider:
    """Return the provider of an executor. Raises ``ConfigError`` that says what to install."""
    flaw = flaw_of_executor(name)
    if flaw is not None or name == LOCAL:
        raise ConfigError(flaw or "the local executor needs no provider")
    (point,) = (point for point in entry_points(group=ENTRY_POINTS) if point.name == name)
    try:
        provider = cast("Provider", point.load())
    except ModuleNotFoundError as error:
        message = (
            f"executor={name!r} needs the package {error.name!r}, which is not installed here:"
            f" pip install 'continuum-workflows[{name}]'"
        )
        raise ConfigError(message) from error
    provider.check()
    return provider
