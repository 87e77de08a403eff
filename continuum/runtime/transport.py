"""Here lives what a dispatcher expects of a transport: the way to the workers of an external executor.

A transport carries *that* there is work, never the work itself: (task, attempt), and a name to show. It may lose,
repeat, delay and reorder whatever it was given, and be away for an hour. The task row is the outbox; the
:class:`~continuum.runtime.outbox.Outbox` publishes what is marked there and trusts nothing it hears back.
"""

from collections.abc import Sequence
from typing import Protocol

from continuum.errors import ExecutorError
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import DispatchedTask, TaskRef

__all__ = ["PublishError", "Transport"]


class PublishError(ExecutorError):
    """The broker could not be reached, or did not confirm.

    ``sent`` is how many of the tasks given, from the first on, it has surely taken; of the others nobody knows.
    """

    sent: int

    def __init__(self, message: str, *, sent: int = 0) -> None:
        super().__init__(message, sent=sent)


class Transport(Protocol):
    """One connection to an executor's workers. Used by one thread, but for ``place``; connects when first needed."""

    @property
    def name(self) -> str:
        """The executor's name, as in ``executor="celery"``."""

    def place(self, activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        """Return the policy a call is stored under: with its queue. Pure, on the turns thread.

        The queue is the policy's, else what the executor's own rules say of this activity, else the instance's.
        """

    def check(self) -> None:
        """Raise ``ConfigError`` on a configuration that can never work. Asks no broker."""

    def publish(self, tasks: Sequence[DispatchedTask], *, instance: str) -> None:
        """Publish a message for each, in order. Raises :class:`PublishError`; stops at the first failure.

        Blocks for seconds at most, whatever the broker does.
        """

    def withdraw(self, tasks: Sequence[tuple[TaskRef, int]]) -> None:
        """Ask for messages (by task and dispatch number) not to be executed any more; a hint. Never raises."""

    def waiting(self, queue: str) -> int | None:
        """Return how many messages wait in a queue; None if that cannot be told. Never raises, never declares."""

    def close(self) -> None:
        """Close the connection, at once."""
