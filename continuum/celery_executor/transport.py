"""Here lives the dispatcher's way to the broker."""

from collections.abc import Sequence
from typing import Final

from celery import Celery

from continuum.config import Settings
from continuum.declare.registry import Registry
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import DispatchedTask, TaskRef

__all__ = ["CeleryTransport"]


class CeleryTransport:
    """A connection of its own to an app's broker; see :class:`~continuum.runtime.transport.Transport`."""

    name: Final = "celery"

    def __init__(self, app: Celery, *, settings: Settings, registry: Registry) -> None:
        self._app = app
        self._settings = settings
        self._registry = registry

    def place(self, activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        """Return the policy with its queue."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise ``ConfigError`` on a configuration that can never work."""
        raise NotImplementedError

    def publish(self, tasks: Sequence[DispatchedTask], *, instance: str) -> None:
        """Publish a message for each, in order."""
        raise NotImplementedError

    def withdraw(self, tasks: Sequence[tuple[TaskRef, int]]) -> None:
        """Ask for messages not to be executed any more."""
        raise NotImplementedError

    def waiting(self, queue: str) -> int | None:
        """Return how many messages wait in a queue, None if that cannot be told."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection, at once."""
