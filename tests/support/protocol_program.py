"""Here lives a small deterministic program, sensitive to the order of everything that is delivered to it.

Whatever a journal loses, doubles or reorders, its commands come out differently: each carries a digest of all that was
delivered before. It stands in for workflow code, so that the protocol can be tested without the replay core.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from continuum.model.events import COMPLETIONS, Event, EventType
from continuum.model.ids import RunId, derive_run_id
from continuum.model.runs import ParentClose, Started
from tests.support.protocol_specs import ChildSpec, Spec, heir_of

__all__ = ["CHILD_ENDS", "Program", "Violation"]

CHILD_ENDS = frozenset({EventType.CHILD_COMPLETED, EventType.CHILD_FAILED, EventType.CHILD_CANCELLED})
ACTIVITY_ENDS = frozenset({EventType.ACTIVITY_COMPLETED, EventType.ACTIVITY_FAILED})


class Violation(AssertionError):
    """The protocol has been broken."""


class Program:
    """One execution: two activities, perhaps a timer and children at first, one more per completion, then the end.

    It ends when it has its signals and nothing is open; a spec may have it continue as new instead. Asked to cancel it
    forgets its activities and timers, and waits only for children; a stubborn one goes on.
    """

    def __init__(self, run_id: RunId, started: str) -> None:
        self.run_id = run_id
        self.started = Started.parse(started)
        [self.spec] = msgspec.json.decode(self.started.input, type=list[Spec])
        self.family = self.started.family
        self.began = self.ended = self.asked = self.dropped_all = False
        self.activities = self.commands = 0
        self.mailbox: list[msgspec.Raw] = [value for _, value in self.started.signals]
        self.open: dict[int, EventType] = {}
        self.forgotten: set[int] = set()
        self.fire_at: dict[int, int] = {}
        self.children: dict[int, tuple[RunId, ChildSpec]] = {}
        self.unstarted: list[ChildSpec] = []
        self.late: list[tuple[RunId, int]] = []
        self.attributes: dict[str, int] = {}
        self.successor: tuple[RunId, Started] | None = None
        self.trace: list[tuple[str, int | None, str | None]] = []
        self._issued: list[Event] = []

    @property
    def digest(self) -> int:
        """A number for all that has been delivered, in its order."""
        return zlib.crc32(repr(self.trace).encode())

    @property
    def wake_at(self) -> int | None:
        """When the earliest open timer fires."""
        return None if self.ended else min((self.fire_at[n] for n in self.open if n in self.fire_at), default=None)

    @property
    def wanted(self) -> int:
        """How many signals this run takes before it ends; a successor gets its part of them."""
        return self.spec.signals // (1 + self.spec.continues)

    @property
    def heir(self) -> Started:
        """What a successor is started with now."""
        rest = tuple(("s", value) for value in self.mailbox[self.wanted :])
        spec = msgspec.Raw(msgspec.json.encode([heir_of(self.spec, self.wanted)]))
        return Started(spec, "0", family=self.family, signals=rest)

    def expects(self, kind: EventType, command: int | None) -> bool:
        """Whether an outcome is to be delivered; one that nobody waits for any more is thrown away."""
        return command is None or command not in self.forgotten or (kind not in CHILD_ENDS | ACTIVITY_ENDS)

    def deliver(self, completion: Event) -> list[Event]:
        """Take in a completion; return it with the commands it caused, the end included."""
        if self.ended:
            raise Violation(f"{completion.type} was delivered after the end")
        self._issued = [completion]
        self.trace.append((str(completion.type), completion.command, completion.payload))
        self._step(completion)
        if self.began and not self.ended and all(kind == EventType.CHILD_STARTED for kind in self.open.values()):
            self._start_rest(completion)  # nothing of its own will happen any more
        if self._is_done():
            self._end(completion)
        return self._issued

    def _is_done(self) -> bool:
        if self.ended or not self.began or self.open:
            return False
        return self.dropped_all or len(self.mailbox) >= self.wanted

    def _start_rest(self, cause: Event) -> None:
        """Do what was put off."""
        while self.unstarted:
            self._start(cause, self.unstarted.pop())
        while self.late:
            self._send(cause, *self.late.pop())

    def terminate(self, at: int, why: str | None) -> list[Event]:
        """End without another step."""
        self.ended = True
        return [Event(0, EventType.RUN_TERMINATED, None, None, why, at)]

    def _end(self, cause: Event) -> None:
        self.ended = True
        if self.dropped_all:
            self._issue(cause, EventType.RUN_CANCELLED, payload=None)
        elif self.spec.continues:
            self.successor = derive_run_id(cause.at, self.run_id, "continued"), self.heir
            self._issue(cause, EventType.RUN_CONTINUED, payload=_text({"id": self.successor[0], "digest": self.digest}))
        else:
            self._issue(cause, EventType.RUN_COMPLETED)

    def _step(self, completion: Event) -> None:
        match completion.type:
            case EventType.RUN_BEGAN:
                if self.began:
                    raise Violation("the run began twice")
                self.began = True
                self._begin(completion)
                return
            case EventType.SIGNAL_RECEIVED:
                assert completion.payload is not None
                self.mailbox.append(msgspec.Raw(completion.payload.encode()))
            case EventType.CANCEL_REQUESTED:
                self._cancel(completion)
                return
            case EventType.TIMER_FIRED | EventType.ACTIVITY_COMPLETED | EventType.ACTIVITY_FAILED:
                self._close(completion)
            case EventType.CHILD_COMPLETED | EventType.CHILD_CANCELLED:
                if completion.command not in self.children:
                    raise Violation(f"{completion.type} of command {completion.command}, which is no child")
                self._close(completion)
            case _:
                raise Violation(f"{completion.type} is no completion of this program")
        if self.dropped_all or not self.began:
            return
        while self.late:
            self._send(completion, *self.late.pop())
        while self.unstarted:
            self._start(completion, self.unstarted.pop())
        self._set(completion, "last")
        if completion.type != EventType.TIMER_FIRED and self.activities < self.spec.activities:
            self._schedule(completion)

    def _close(self, completion: Event) -> None:
        if completion.command is None or completion.command not in self.open:
            raise Violation(f"{completion.type} of command {completion.command}, which is not open")
        del self.open[completion.command]

    def _begin(self, cause: Event) -> None:
        for _ in range(min(self.spec.activities, 2)):
            self._schedule(cause)
        if self.spec.timer_us is not None:
            self.fire_at[self.commands] = cause.at + self.spec.timer_us
            self._issue(cause, EventType.TIMER_STARTED, opens=True)
        if not self.spec.reaches_out:
            return
        self._set(cause, f"began {self.run_id}")
        for child in self.spec.generation:
            if child.later:
                self.unstarted.append(child)
            else:
                self._start(cause, child)

    def _start(self, cause: Event, spec: ChildSpec) -> None:
        command = self.commands
        run_id = derive_run_id(cause.at, self.run_id, str(command))
        self.family = True
        self.children[command] = run_id, spec
        payload = _text({"id": run_id, "digest": self.digest})
        self._issue(cause, EventType.CHILD_STARTED, opens=True, payload=payload)
        if not spec.awaited:
            del self.open[command]
            self.forgotten.add(command)
        for number in range(spec.early):
            self._send(cause, run_id, number)
        self.late += [(run_id, spec.early + number) for number in range(spec.late)]

    def _send(self, cause: Event, run_id: RunId, number: int) -> None:
        self._issue(cause, EventType.SIGNAL_SENT, opens=False, payload=_text({"to": run_id, "value": str(number)}))

    def _set(self, cause: Event, key: str) -> None:
        if self.spec.reaches_out:
            self.attributes[key] = self.digest
            self._issue(cause, EventType.ATTRIBUTES_SET, opens=False, payload=_text({key: self.digest}))

    def _cancel(self, cause: Event) -> None:
        first, self.asked = not self.asked, True
        self.unstarted.clear()  # they would never hear of it
        if not self.began:
            self.dropped_all = True
            self._end(cause)
        elif first and not self.spec.stubborn:
            self.dropped_all = True
            while self.late:
                self._send(cause, *self.late.pop())
            for command in [n for n in self.open if not self._is_asked(n)]:
                del self.open[command]
                self.forgotten.add(command)

    def _is_asked(self, command: int) -> bool:
        """Whether it is a child that is asked to cancel too, and so waited for."""
        known = self.children.get(command)
        return known is not None and known[1].close != ParentClose.ABANDON

    def _schedule(self, cause: Event) -> None:
        self.activities += 1
        self._issue(cause, EventType.ACTIVITY_SCHEDULED, opens=True)

    def _issue(self, cause: Event, kind: EventType, *, opens: bool | None = None, payload: str | None = "") -> None:
        command = None if opens is None else self.commands
        if command is not None:
            self.commands += 1
            if opens:
                self.open[command] = kind
        body = str(self.digest) if payload == "" else payload
        self._issued.append(Event(0, kind, command, None, body, cause.at))

    @classmethod
    def replay(cls, run_id: RunId, events: Sequence[Event]) -> "Program":
        """Return the program as the history leaves it. Raises :class:`Violation` where code and history part."""
        if [event.seq for event in events] != list(range(1, len(events) + 1)):
            raise Violation(f"sequence numbers are {[event.seq for event in events]}")
        started = events[0].payload
        assert started is not None
        program, expected = cls(run_id, started), list[Event]()
        for event in events[1:]:
            if event.type in COMPLETIONS:
                if expected:
                    raise Violation(f"drift: the history lacks {_told(expected[0])} before {_told(event)}")
                expected = program.deliver(event)[1:]
            elif event.type == EventType.RUN_TERMINATED and not expected and not program.ended:
                program.terminate(event.at, event.payload)
            elif event.type == EventType.MESSAGE_UNDELIVERABLE and not expected and program.ended:
                continue
            elif not expected or _told(expected[0]) != _told(event):
                raise Violation(f"drift: recorded {_told(event)}, code issues {[_told(e) for e in expected]}")
            else:
                expected.pop(0)
        if expected:
            raise Violation(f"drift: the history ends before {[_told(event) for event in expected]}")
        return program


def _told(event: Event) -> tuple[Any, ...]:
    return (str(event.type), event.command, event.payload)


def _text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
