"""Here lives what a rollback tells about itself."""

from dataclasses import dataclass
from typing import Any

from continuum.errors import ActivityError

__all__ = ["Compensated", "Rollback"]


@dataclass(frozen=True, slots=True)
class Compensated:
    """How one compensation ended.

    :ivar activity: name of the activity that was to undo something.
    :ivar target: name of the activity or child workflow it undid; None if it was added by itself.
    :ivar command: number of the command it undid, or None.
    :ivar result: what it returned.
    :ivar error: why it failed; None if it did not.
    """

    activity: str
    target: str | None
    command: int | None
    result: Any = None
    error: ActivityError | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback did.

    :ivar steps: the compensations in the order they were scheduled, which is newest first.
    """

    steps: tuple[Compensated, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no compensation failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Compensated, ...]:
        """Those that failed."""
        return tuple(step for step in self.steps if step.error is not None)

    @property
    def undone(self) -> tuple[Compensated, ...]:
        """Those that succeeded."""
        return tuple(step for step in self.steps if step.error is None)
