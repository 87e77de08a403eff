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

import msgspec

from continuum.errors import ReplayError, SpinError
from continuum.model.codec import check_size, same_payload
from continuum.model.decisions import Cascade, ChildOrder, Letter, LogLine
from continuum.model.events import Event, EventType
from continuum.model.runs import Started
from continuum.model.tasks import TaskOrder
from continuum.replay.columns import Columns
from continuum.replay.drift import Asked, command_drift, drift, excess_drift, missing_drift
from continuum.replay.lineage import Lineage
from continuum.replay.locations import caller

__all__ = ["Ledger", "RunEvicted"]

_PATCH: Final = EventType.PATCH_MARKED
_SEED_BYTES: Final = 16

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
    :ivar children: runs to be created with the next decision, by command.
    :ivar letters: to be sent with it.
    :ivar cascade: which children from before this turn hear of what happens to the run.
    :ivar attributes: by key, the encoded values that the next decision sets.
    :ivar place: the line of workflow code for which commands are issued that no such line issues itself.
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
        "attributes",
        "barred",
        "cancelled",
        "cascade",
        "children",
        "completions",
        "cursor",
        "due",
        "fault",
        "fresh",
        "inline_due",
        "letters",
        "lineage",
        "live",
        "logs",
        "max_payload",
        "next",
        "now",
        "orders",
        "place",
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
        self.place: str | None = None
        self.fault: BaseException | None = None
        self.barred: Callable[[], BaseException] | None = None
        self.fresh: list[Event] = []
        self.orders: dict[int, TaskOrder] = {}
        self.cancelled: list[int] = []
        self.logs: list[LogLine] = []
        self.children: dict[int, ChildOrder] = {}
        self.lineage = Lineage()
        self.letters: list[Letter] = []
        self.cascade: Cascade | None = None
        self.attributes: dict[str, msgspec.Raw] = {}

    def start(self, started: Started) -> None:
        """Take in what the run was started with. Everything random in it follows from its seed."""
        self._key = blake2b(started.seed.encode(), digest_size=32).digest()
        self.max_payload = started.max_payload
        lineage = self.lineage
        lineage.depth, lineage.max_depth = started.depth, started.max_depth
        lineage.inherited = started.family

    def load(self, events: Sequence[Event], *, inline: bool) -> None:
        """Take in a history, ``run_started`` included. Raises ``ReplayDriftError`` if it contradicts itself."""
        columns = Columns(events)
        self._recorded = columns.commands
        self.recorded_count = len(columns.commands)
        self._noted = columns.noted
        self.terminal = columns.terminal
        self.completions = columns.completions
        self.due = len(columns.completions)
        self.inline_due = self.due if inline else 0
        self.now = events[0].at
        self.seq = events[-1].seq

    def go_live(self) -> None:
        """Leave the history behind. Raises ``ReplayDriftError`` if it holds commands the code no longer asks for."""
        missing = self.find_missing()
        if missing is not None:
            raise missing
        if self.cursor < self.due:
            event = self.completions[self.cursor]
            raise drift(
                self.next,
                f"{event.type} at seq {event.seq} and {self.due - self.cursor - 1} more",
                "the end of the run",
                advice="The code ends where the run went on.",
            )
        self._recorded = self.completions = ()
        self.due = self.cursor = self.inline_due = 0
        self.live = True

    def find_missing(self) -> ReplayError | None:
        """Return the error of code that has come to its end, or to rest, without asking for all that is recorded."""
        self._skip_markers()
        return missing_drift(self.next, self._recorded) if self.next < self.recorded_count else None

    # -- chance ------------------------------------------------------------------------------------------------------

    def salt(self, size: int) -> int:
        """Return a number of this many bytes that is the run's own, and always the same."""
        return int.from_bytes(self._key[:size], "big")

    def derive_seed(self, whose: str) -> str:
        """Return the seed of a run that this one starts: the same whenever it is asked for."""
        return blake2b(whose.encode(), key=self._key, digest_size=_SEED_BYTES, person=b"seed").hexdigest()

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

    def upcoming(self) -> int:
        """Return the number that the next command gets, unless it is refused."""
        number = self.next
        if self.barred is None:
            while number < self.recorded_count and self._recorded[number].type == _PATCH:
                number += 1
        return number

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

    @property
    def answers(self) -> dict[str, bool]:
        """What `patched` has answered so far, by id."""
        return dict(self._answers or {})

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
        self.append(kind, number, name, payload, location=caller() or self.place)
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

    @property
    def writes(self) -> bool:
        """Whether what is appended now reaches the journal: not beyond the recorded end, nor after a fault."""
        return self.terminal is None and self.fault is None

    def note_cancelled(self, kind: EventType, command: int, name: str | None = None) -> bool:
        """Note that nobody waits for a command any more; return False if the history says so already."""
        if self._noted and command in self._noted:
            self._noted.discard(command)
            return False
        if self.writes:
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
        asked = Asked(kind, name, payload, caller() or self.place)
        if self.next < self.recorded_count:
            return self.fail(command_drift(self.next, self._recorded, asked))
        completion = self.completions[self.cursor] if self.cursor < self.due else None
        return self.fail(excess_drift(self.next, asked, terminal=self.terminal, completion=completion))


class _Eviction:
    """Makes a fresh exception each time: one instance would collect every frame it passes."""

    __slots__ = ()

    def __call__(self) -> BaseException:
        return RunEvicted("the run is being taken out of memory")
