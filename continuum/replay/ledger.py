"""Here lives the ledger of one execution: what its history says, and what this turn adds to it.

*Commands.* Each command that workflow code issues gets the next number. While the history has a command of that
number, the two are compared (kind, name, payload) and nothing is written; the first difference is drift. Beyond the
recorded ones a command is new and waits for the next decision.

*Completions.* A column of their own with a cursor: how they lie between the commands does not matter, only their own
order does. Code is at the *tip* once the cursor has passed the last recorded one.

# Invariant: a command beyond the recorded ones is new only at the tip. Before it, the history proves that the code,
as it was, asked for nothing there: that is drift too.
# Invariant: a fault (drift, spinning, an undecodable payload) is sticky. Workflow code may catch what it likes; from
then on it is refused everything, and the execution raises the fault as soon as the callback returns.
"""

import sys
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from continuum.errors import ReplayError, SpinError
from continuum.model.codec import check_size, same_payload
from continuum.model.decisions import LogLine
from continuum.model.events import Event, EventType
from continuum.model.tasks import TaskOrder
from continuum.replay.drift import describe, describe_event, drift
from continuum.replay.locations import caller

__all__ = ["Ledger", "RunEvicted"]

_COMMAND: Final = 1
_COMPLETION: Final = 2
_CANCELLATION: Final = 3
_TERMINAL: Final = 4
_COLUMN: Final[dict[str, int]] = {
    EventType.ACTIVITY_SCHEDULED.value: _COMMAND,
    EventType.TIMER_STARTED.value: _COMMAND,
    EventType.SIGNAL_AWAITED.value: _COMMAND,
    EventType.VALUE_RECORDED.value: _COMMAND,
    EventType.PATCH_MARKED.value: _COMMAND,
    EventType.RUN_BEGAN.value: _COMPLETION,
    EventType.ACTIVITY_COMPLETED.value: _COMPLETION,
    EventType.ACTIVITY_FAILED.value: _COMPLETION,
    EventType.TIMER_FIRED.value: _COMPLETION,
    EventType.SIGNAL_RECEIVED.value: _COMPLETION,
    EventType.CANCEL_REQUESTED.value: _COMPLETION,
    EventType.ACTIVITY_CANCELLED.value: _CANCELLATION,
    EventType.TIMER_CANCELLED.value: _CANCELLATION,
    EventType.RUN_COMPLETED.value: _TERMINAL,
    EventType.RUN_FAILED.value: _TERMINAL,
    EventType.RUN_CANCELLED.value: _TERMINAL,
    EventType.RUN_TERMINATED.value: _TERMINAL,
    EventType.RUN_CONTINUED.value: _TERMINAL,
}
_PATCH: Final = EventType.PATCH_MARKED

# A dead run may swallow what effects raise, and try again for ever. After this many refusals it gets no exception any
# more but something that never completes, so that its coroutine suspends and can be ended.
_MAX_REFUSALS: Final = 1_000


class RunEvicted(BaseException):
    """Raised in workflow code that is being taken out of memory. The run itself goes on, elsewhere or later."""


class Ledger:
    """What an execution knows of its history, and what it wants appended to it.

    :ivar next: number of the next command.
    :ivar max_payload: largest payload the code may ask to store, in bytes of UTF-8.
    :ivar recorded_count: how many commands the history has; those numbered from here on are new.
    :ivar now: loop time in microseconds: that of the completion being delivered.
    :ivar seq: sequence number of the newest event, journaled or waiting in ``fresh``.
    :ivar live: whether the whole history has been replayed.
    :ivar fault: what stopped the execution for good, or None.
    """

    __slots__ = (
        "_answers",
        "_draws",
        "_key",
        "_noted",
        "_recorded",
        "_refusals",
        "_room",
        "barred",
        "cancelled",
        "completions",
        "cursor",
        "due",
        "fault",
        "fresh",
        "inline_due",
        "live",
        "logs",
        "max_payload",
        "next",
        "now",
        "orders",
        "recorded_count",
        "seq",
        "spin_limit",
        "terminal",
    )

    def __init__(self, *, spin_limit: int) -> None:
        self.spin_limit = spin_limit
        self.max_payload = sys.maxsize
        self._recorded: Sequence[Event] = ()
        self.recorded_count = 0
        self._noted: set[int] | None = None
        self._answers: dict[str, bool] | None = None
        self._refusals = 0
        self._key = b""
        self._draws = 0
        self._room = spin_limit
        self.completions: Sequence[Event] = ()
        self.due = 0
        self.inline_due = 0
        self.cursor = 0
        self.terminal: Event | None = None
        self.next = 0
        self.now = 0
        self.seq = 0
        self.live = False
        self.fault: BaseException | None = None
        self.barred: Callable[[], BaseException] | None = None
        self.fresh: list[Event] = []
        self.orders: dict[int, TaskOrder] = {}
        self.cancelled: list[int] = []
        self.logs: list[LogLine] = []

    def load(self, events: Sequence[Event], *, inline: bool) -> None:
        """Take in a history, ``run_started`` included. Raises ``ReplayDriftError`` if it contradicts itself."""
        commands: list[Event] = []
        completions: list[Event] = []
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
                self._noted = self._noted or set()
                self._noted.add(event.command)
            elif column == _TERMINAL:
                self.terminal = event
        self._recorded = commands
        self.recorded_count = len(commands)
        self.completions = completions
        self.due = len(completions)
        self.inline_due = self.due if inline else 0
        self.now = events[0].at
        self.seq = events[-1].seq

    def go_live(self) -> None:
        """Leave the history behind. Raises ``ReplayDriftError`` if it holds commands the code no longer asks for."""
        if self.cursor < self.due:
            event = self.completions[self.cursor]
            raise drift(
                self.next,
                f"{event.type} at seq {event.seq} and {self.due - self.cursor - 1} more",
                "the end of the run",
            )
        self._skip_markers()
        if self.next < self.recorded_count:
            raise drift(
                self.next, describe_event(self._recorded[self.next]), "nothing: the code no longer asks for this"
            )
        self._recorded = self.completions = ()
        self.due = self.cursor = self.inline_due = 0
        self.live = True

    # -- chance ------------------------------------------------------------------------------------------------------

    def seed(self, text: str) -> None:
        """Let everything random in the run follow from this text."""
        self._key = blake2b(text.encode(), digest_size=32).digest()

    def salt(self, size: int) -> int:
        """Return a number of this many bytes that is the run's own, and always the same."""
        return int.from_bytes(self._key[:size], "big")

    def draw(self, size: int) -> bytes:
        """Return the run's next random bytes: keyed BLAKE2b (RFC 7693) of a counter. Raises as `issue` does."""
        if self.barred is not None:
            raise self.barred()
        self._draws += 1
        return blake2b(self._draws.to_bytes(8, "big"), key=self._key, digest_size=size).digest()

    # -- commands ------------------------------------------------------------------------------------------------------

    def issue(self, kind: EventType, name: str | None, payload: str | None) -> int:
        """Number a command, compare it with the recorded one or write it down, and return the number.

        Raises ``ReplayDriftError``, and whatever bars the code from effects (a fault, eviction, a side effect).
        """
        number = self.next
        if number < self.recorded_count and self.barred is None:
            recorded = self._recorded[number]
            if recorded.payload == payload and recorded.name == name and recorded.type == kind:
                self.next = number + 1
                return number
        return self._issue(kind, name, payload)

    def find_recorded(self, number: int) -> Event | None:
        """Return the recorded command of this number; None if there is none, or all have been replayed."""
        return self._recorded[number] if number < len(self._recorded) else None

    def recorded_value(self, name: str) -> str | None:
        """Return the recorded payload of the next command if it is a value of this name; None if it is new.

        Raises as `issue` does.
        """
        if self.barred is not None:
            raise self.barred()
        self._skip_markers()
        number = self.next
        if number >= self.recorded_count:
            return None
        recorded = self._recorded[number]
        if recorded.type != EventType.VALUE_RECORDED or recorded.name != name:
            raise self._drifted(EventType.VALUE_RECORDED, name, None)
        self.next = number + 1
        return recorded.payload if recorded.payload is not None else "null"

    def patched(self, patch: str) -> bool:
        """Return whether this run takes the code behind a patch; the first answer holds for the whole run."""
        if self.barred is not None:
            raise self.barred()
        if self._answers is None:
            self._answers = {}
        answer = self._answers.get(patch)
        if answer is None:
            answer = self._answers[patch] = self._answer(patch)
        return answer

    def _answer(self, patch: str) -> bool:
        number = self.next
        if number >= self.recorded_count:
            if self.terminal is not None or self.cursor < self.due:
                # The history went on from here without the marker, or ended: the code that wrote it had no patch.
                return False
            self._write(_PATCH, patch, None)
            return True
        # Markers in a row were recorded between the same two commands: a neighbour may be asked for later, or (its
        # patched() was deleted) never.
        for index in range(number, self.recorded_count):
            recorded = self._recorded[index]
            if recorded.type != _PATCH:
                break
            if recorded.name == patch:
                if index == number:
                    self.next = number + 1
                return True
        return False

    def _skip_markers(self) -> None:
        while self.next < self.recorded_count and self._recorded[self.next].type == _PATCH:
            self.next += 1

    def _issue(self, kind: EventType, name: str | None, payload: str | None) -> int:
        if self.barred is not None:
            if isinstance(self.barred, _Eviction) and self._refusals >= _MAX_REFUSALS:
                return -1
            self._refusals += 1
            raise self.barred()
        if payload is not None:
            # Before the number is taken: code that catches this goes on as if it had not asked. The limit is the
            # run's own, so a replay refuses the same.
            check_size(payload, self.max_payload, f"arguments of {name}")
        self._skip_markers()
        number = self.next
        if number >= self.recorded_count:
            return self._write(kind, name, payload)
        recorded = self._recorded[number]
        if (
            recorded.type != kind
            or recorded.name != name
            or (recorded.payload is None) != (payload is None)
            or not same_payload(recorded.payload or "null", payload or "null")
        ):
            raise self._drifted(kind, name, payload)
        self.next = number + 1
        return number

    def _write(self, kind: EventType, name: str | None, payload: str | None) -> int:
        number = self.next
        if self.terminal is not None or self.cursor < self.due:
            raise self._drifted(kind, name, payload)
        self._room -= 1
        if self._room < 0:
            raise self.fail(
                SpinError(
                    f"the workflow issued more than {self.spin_limit} commands without waiting for anything; the last"
                    f" one at {caller()}. Await in the loop, or split the work into several runs."
                )
            )
        self.next = number + 1
        self.append(kind, number, name, payload, location=caller())
        return number

    def write_value(self, name: str, payload: str) -> None:
        """Write down the value of a side effect that `recorded_value` called new."""
        self._write(EventType.VALUE_RECORDED, name, payload)

    def append(
        self,
        kind: EventType,
        command: int | None = None,
        name: str | None = None,
        payload: str | None = None,
        *,
        location: str | None = None,
    ) -> None:
        """Append an event to what the next decision holds."""
        self.seq = seq = self.seq + 1
        self.fresh.append(Event(seq, kind, command, name, payload, self.now, location))

    def note_cancelled(self, kind: EventType, command: int, name: str | None = None) -> bool:
        """Note that nobody waits for a command any more; return False if the history says so already."""
        if self._noted and command in self._noted:
            self._noted.discard(command)
            return False
        if self.terminal is None and self.fault is None:
            self.append(kind, command, name)
        return True

    def advance(self, at: int) -> int:
        """Move loop time to a completion's stamp, never back, and return it."""
        if at > self.now:  # noqa: PLR1730 - max() takes three times as long
            self.now = at
        return self.now

    def refill(self) -> None:
        """Allow a full measure of new commands again."""
        self._room = self.spin_limit

    # -- faults --------------------------------------------------------------------------------------------------------

    def fail(self, fault: BaseException) -> BaseException:
        """Make a fault stick, and return the one to raise: the first."""
        if self.fault is None:
            self.fault = fault
            self.barred = lambda: fault
        return self.fault

    def bar(self, where: str) -> None:
        """Refuse every effect until ``barred`` is reset: what runs now is not run again on replay."""
        self.barred = lambda: ReplayError(
            f"an effect was used inside {where}, which is not run again on replay. Use the effect before it, and pass"
            " the value in."
        )

    def evict(self) -> None:
        """Refuse every effect from now on with ``RunEvicted``."""
        self.barred = _Eviction()
        self._recorded = self.completions = ()
        self.due = self.cursor = self.inline_due = 0

    def _drifted(self, kind: EventType, name: str | None, payload: str | None) -> BaseException:
        number = self.next
        requested = describe(kind, name, payload)
        if number < self.recorded_count:
            recorded = describe_event(self._recorded[number])
        elif self.terminal is not None:
            recorded = f"the end of the run ({self.terminal.type})"
        else:
            event = self.completions[self.cursor]
            recorded = f"no further command, but {event.type} at seq {event.seq}"
        return self.fail(drift(number, recorded, requested, caller()))


class _Eviction:
    """Makes a fresh exception each time: one instance would collect every frame it passes."""

    __slots__ = ()

    def __call__(self) -> BaseException:
        return RunEvicted("the run is being taken out of memory")
