"""Here lives the sorting of a history into what replay compares, what it delivers, and what it only has to know."""

from collections.abc import Sequence
from typing import Final

from continuum.errors import ReplayDriftError
from continuum.model.events import COMMANDS, COMPLETIONS, NOTES, TERMINAL, Event, EventType
from continuum.replay.drift import drift

__all__ = ["Columns"]

_COMMAND: Final = 1
_COMPLETION: Final = 2
_CANCELLATION: Final = 3
_TERMINAL: Final = 4
_NOTE: Final = 5
_COLUMN: Final[dict[str, int]] = {
    **{kind.value: _COMMAND for kind in COMMANDS},
    **{kind.value: _COMPLETION for kind in COMPLETIONS},
    **{kind.value: _TERMINAL for kind in TERMINAL},
    **{kind.value: _NOTE for kind in NOTES},
    EventType.RUN_STARTED.value: _NOTE,
    EventType.ACTIVITY_CANCELLED.value: _CANCELLATION,
    EventType.TIMER_CANCELLED.value: _CANCELLATION,
    EventType.CHILD_CANCEL_REQUESTED.value: _CANCELLATION,
}


class Columns:
    """A history, sorted.

    :ivar commands: by number.
    :ivar completions: in the order they were delivered.
    :ivar noted: commands that the history notes as withdrawn or asked to stop; None for none.
    :ivar terminal: how the run ended.
    """

    __slots__ = ("commands", "completions", "noted", "terminal")

    def __init__(self, events: Sequence[Event]) -> None:
        """Sort the events. Raises ``ReplayDriftError`` if the history contradicts itself."""
        self.commands: list[Event] = []
        self.completions: list[Event] = []
        self.noted: set[int] | None = None
        self.terminal: Event | None = None
        commands, completions = self.commands, self.completions
        column_of = _COLUMN.get
        for event in events:
            column = column_of(event.type)
            if column == _COMMAND:
                if event.command != len(commands):
                    raise drift(
                        len(commands), f"a command numbered {event.command} at seq {event.seq}", "numbers without gaps"
                    )
                commands.append(event)
            elif column == _COMPLETION:
                completions.append(event)
            elif column == _CANCELLATION and event.command is not None:
                self.noted = self.noted or set()
                self.noted.add(event.command)
            elif column == _TERMINAL:
                self.terminal = event
            elif column is None:
                message = (
                    f"the history was recorded by a newer release (this one does not know {event.type!r}, seq"
                    f" {event.seq}): upgrade this dispatcher."
                )
                raise ReplayDriftError(message, command=len(commands), recorded="", requested="", location="")
