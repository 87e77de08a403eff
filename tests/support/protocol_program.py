"""Here lives a small deterministic program, sensitive to the order of everything that is delivered to it.

Whatever a journal loses, doubles or reorders, its commands come out differently: each carries a digest of all that was
delivered before. It stands in for workflow code, so that the protocol can be tested without the replay core.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from continuum.model.events import COMPLETIONS, Event, EventType
from continuum.model.runs import Started

__all__ = ["MAX_ACTIVITIES", "Program", "Violation"]

MAX_ACTIVITIES = 4


class Violation(AssertionError):
    """The protocol has been broken."""


class Program:
    """One execution: two activities and perhaps a timer at first, one more per completion, signals at any time."""

    def __init__(self, started: str) -> None:
        [spec] = msgspec.json.decode(Started.parse(started).input)
        self.wanted: int = spec["signals"]
        self.timer_us: int | None = spec["timer_us"]
        self.began = self.ended = False
        self.activities = self.signals = self.commands = 0
        self.open: dict[int, EventType] = {}
        self.fire_at: dict[int, int] = {}
        self.trace: list[tuple[str, int | None, str | None]] = []
        self._issued: list[Event] = []

    @property
    def digest(self) -> int:
        """A number for all that has been delivered, in its order."""
        return zlib.crc32(repr(self.trace).encode())

    @property
    def wake_at(self) -> int | None:
        """When the earliest open timer fires."""
        return min((self.fire_at[n] for n in self.open if n in self.fire_at), default=None)

    def deliver(self, completion: Event) -> list[Event]:
        """Take in a completion; return it with the commands it caused, the end included."""
        if self.ended:
            raise Violation(f"{completion.type} was delivered after the end")
        self._issued = [completion]
        self.trace.append((str(completion.type), completion.command, completion.payload))
        self._step(completion)
        if self.began and self.signals == self.wanted and not self.open:
            self.ended = True
            self._issue(completion, EventType.RUN_COMPLETED, command=None)
        return self._issued

    def _step(self, completion: Event) -> None:
        match completion.type:
            case EventType.RUN_BEGAN:
                if self.began:
                    raise Violation("the run began twice")
                self.began = True
                self._schedule(completion)
                self._schedule(completion)
                if self.timer_us is not None:
                    self.fire_at[self.commands] = completion.at + self.timer_us
                    self._issue(completion, EventType.TIMER_STARTED, command=self.commands)
                return
            case EventType.SIGNAL_RECEIVED:
                self.signals += 1
            case EventType.TIMER_FIRED | EventType.ACTIVITY_COMPLETED | EventType.ACTIVITY_FAILED:
                if completion.command is None or completion.command not in self.open:
                    raise Violation(f"{completion.type} of command {completion.command}, which is not open")
                del self.open[completion.command]
            case _:
                raise Violation(f"{completion.type} is no completion of this program")
        if completion.type != EventType.TIMER_FIRED and self.activities < MAX_ACTIVITIES:
            self._schedule(completion)

    def _schedule(self, cause: Event) -> None:
        self.activities += 1
        self._issue(cause, EventType.ACTIVITY_SCHEDULED, command=self.commands)

    def _issue(self, cause: Event, kind: EventType, *, command: int | None) -> None:
        if command is not None:
            self.open[command] = kind
            self.commands += 1
        self._issued.append(Event(0, kind, command, None, str(self.digest), cause.at))

    @classmethod
    def replay(cls, events: Sequence[Event]) -> "Program":
        """Return the program as the history leaves it. Raises :class:`Violation` where code and history part."""
        if [event.seq for event in events] != list(range(1, len(events) + 1)):
            raise Violation(f"sequence numbers are {[event.seq for event in events]}")
        started = events[0].payload
        assert started is not None
        program, expected = cls(started), list[Event]()
        for event in events[1:]:
            if event.type in COMPLETIONS:
                if expected:
                    raise Violation(f"drift: the history lacks {_told(expected[0])} before {_told(event)}")
                expected = program.deliver(event)[1:]
            elif not expected or _told(expected[0]) != _told(event):
                raise Violation(f"drift: recorded {_told(event)}, code issues {[_told(e) for e in expected]}")
            else:
                expected.pop(0)
        if expected:
            raise Violation(f"drift: the history ends before {[_told(event) for event in expected]}")
        return program


def _told(event: Event) -> tuple[Any, ...]:
    return (str(event.type), event.command, event.payload)
