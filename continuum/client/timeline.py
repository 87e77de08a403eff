"""Here lives the reading of a history as a timeline: what the run asked for, when, from which line, and what came.

Pure: events and task rows in, values out. Nothing here knows the workflow's code, nor more of a child than its parent
has heard.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from continuum.model.events import COMMANDS, Event, EventType
from continuum.model.failures import Failure
from continuum.model.questions import read_question
from continuum.model.runs import Started
from continuum.model.tasks import TaskRecord, TaskState

__all__ = ["Ending", "Step", "StepKind", "StepState", "ending_of", "is_open", "moment", "timeline"]


class StepKind(StrEnum):
    """What a command asked for."""

    ACTIVITY = "activity"
    TIMER = "timer"
    SIGNAL = "signal"
    VALUE = "value"
    PATCH = "patch"
    COMPENSATION = "compensation"
    CHILD = "child"
    SENT = "sent signal"
    ATTRIBUTES = "attributes"
    PUBLISHED = "published"
    ANSWERED = "answered"


class StepState(StrEnum):
    """What became of it."""

    WAITING = "waiting"
    RETRYING = "retrying"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELLING = "cancelling"  # a child that was asked to, and has not said yet that it did
    CANCELLED = "cancelled"
    LEFT = "left open"  # the run ended and waits no more; what was asked for may end by itself


OPEN: Final = frozenset({StepState.WAITING, StepState.RETRYING, StepState.RUNNING, StepState.CANCELLING})

_KINDS: Final = {
    EventType.ACTIVITY_SCHEDULED: StepKind.ACTIVITY,
    EventType.TIMER_STARTED: StepKind.TIMER,
    EventType.SIGNAL_AWAITED: StepKind.SIGNAL,
    EventType.VALUE_RECORDED: StepKind.VALUE,
    EventType.PATCH_MARKED: StepKind.PATCH,
    EventType.COMPENSATION_SCHEDULED: StepKind.COMPENSATION,
    EventType.CHILD_STARTED: StepKind.CHILD,
    EventType.SIGNAL_SENT: StepKind.SENT,
    EventType.ATTRIBUTES_SET: StepKind.ATTRIBUTES,
    EventType.VALUE_PUBLISHED: StepKind.PUBLISHED,
    EventType.SIGNAL_ANSWERED: StepKind.ANSWERED,
}
_INSTANT: Final = frozenset(
    {
        StepKind.VALUE,
        StepKind.PATCH,
        StepKind.SENT,
        StepKind.ATTRIBUTES,
        StepKind.PUBLISHED,
        StepKind.ANSWERED,
    }
)
_WITH_TASK: Final = frozenset({StepKind.ACTIVITY, StepKind.COMPENSATION})
_ENDS: Final = {
    EventType.ACTIVITY_COMPLETED: StepState.DONE,
    EventType.ACTIVITY_FAILED: StepState.FAILED,
    EventType.ACTIVITY_CANCELLED: StepState.CANCELLED,
    EventType.TIMER_FIRED: StepState.DONE,
    EventType.TIMER_CANCELLED: StepState.CANCELLED,
    EventType.CHILD_COMPLETED: StepState.DONE,
    EventType.CHILD_FAILED: StepState.FAILED,
    EventType.CHILD_CANCELLED: StepState.CANCELLED,
}


class _Asked(msgspec.Struct, frozen=True):
    """What the payloads of those commands say that concern another run, or another command."""

    id: str | None = None
    key: str | None = None
    to: str | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")
    undoes: int | None = None


_TELLING: Final = frozenset({StepKind.COMPENSATION, StepKind.CHILD, StepKind.SENT, StepKind.ANSWERED})
_read_asked: Final = msgspec.json.Decoder(_Asked).decode


_WITH_FAILURE: Final = frozenset({EventType.ACTIVITY_FAILED, EventType.CHILD_FAILED, EventType.CHILD_CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a run and what is known of its outcome.

    :ivar requested_at: when workflow code asked.
    :ivar ended_at: when the outcome was delivered, or the run ended without it; None while it is open.
    :ivar due_at: of a timer, when it fires.
    :ivar limit: of a wait for a signal, the command number of the timer that bounds it.
    :ivar location: ``file:line`` of the workflow code that asked.
    :ivar payload: arguments, value or duration, as JSON text.
    :ivar outcome: what came, as JSON text.
    :ivar failure: why it failed.
    :ivar task: its row, while an activity or a compensation is pending.
    :ivar run: of a child, its id; of a sent signal, the chain it went to.
    :ivar key: of a child, the key it was started with.
    :ivar undoes: of a compensation, the command that it undoes, if it belongs to one.
    :ivar undone_by: the command of the compensation that undid it, or was to.
    """

    command: int
    kind: StepKind
    name: str
    state: StepState
    requested_at: datetime
    ended_at: datetime | None = None
    due_at: datetime | None = None
    limit: int | None = None
    location: str | None = None
    payload: str | None = None
    outcome: str | None = None
    failure: Failure | None = None
    task: TaskRecord | None = None
    run: str | None = None
    key: str | None = None
    undoes: int | None = None
    undone_by: int | None = None

    @property
    def took(self) -> timedelta | None:
        """Time from request to outcome; None while it is open."""
        return None if self.ended_at is None else self.ended_at - self.requested_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended.

    :ivar result: what the workflow returned, as JSON text.
    :ivar failure: the exception it ended with.
    :ivar reason: why it was terminated, as whoever did it said.
    :ivar continued_with: the input of the run that goes on in its place, as JSON text.
    """

    at: datetime
    result: str | None = None
    failure: Failure | None = None
    reason: str | None = None
    continued_with: str | None = None


def ending_of(events: Sequence[Event]) -> Ending | None:
    """Return how the run ended; None while it goes on."""
    for event in reversed(events):
        at = moment(event.at)
        match event.type:
            case EventType.RUN_COMPLETED:
                return Ending(at=at, result=event.payload)
            case EventType.RUN_FAILED:
                return Ending(at=at, failure=Failure.parse(event.payload) if event.payload else None)
            case EventType.RUN_TERMINATED:
                return Ending(at=at, reason=Failure.parse(event.payload).message if event.payload else None)
            case EventType.RUN_CONTINUED:
                return Ending(at=at, continued_with=event.payload)
            case EventType.RUN_CANCELLED:
                return Ending(at=at)
            case _:
                continue
    return None


def moment(at_us: int) -> datetime:
    """Return the aware UTC time of microseconds since the epoch."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)


def is_open(step: Step) -> bool:
    """Say whether the workflow still waits for it."""
    return step.state in OPEN


def timeline(events: Sequence[Event], tasks: Sequence[TaskRecord] = ()) -> list[Step]:
    """Return a run's steps by command number."""
    steps: dict[int, Step] = {}
    waiting: dict[str, list[int]] = {}  # signal → commands that wait for it, oldest first
    early = _inherited(events)  # signal → those that came before anybody waited
    previous: Step | None = None
    for event in events:
        if event.type in COMMANDS and event.command is not None:
            step = _asked(event)
            if step.kind is StepKind.SIGNAL and early.get(step.name):
                step = _received(step, early[step.name].pop(0), at=event.at)
            elif step.kind is StepKind.SIGNAL:
                waiting.setdefault(step.name, []).append(step.command)
            elif step.kind is StepKind.TIMER and _bounds(previous, step):
                assert previous is not None
                steps[previous.command] = replace(previous, limit=step.command)
            steps[step.command] = previous = step
            if step.undoes in steps:
                steps[step.undoes] = replace(steps[step.undoes], undone_by=step.command)
        elif event.type == EventType.CHILD_CANCEL_REQUESTED and event.command in steps:
            steps[event.command] = replace(steps[event.command], state=StepState.CANCELLING)
        elif event.type in _ENDS and event.command in steps:
            steps[event.command] = _ended(steps[event.command], event)
            _close_bounded_wait(steps, waiting, event)
        elif event.type == EventType.SIGNAL_RECEIVED:
            name = event.name or ""
            if waiting.get(name):
                command = waiting[name].pop(0)
                steps[command] = _received(steps[command], event, at=event.at)
            else:
                early.setdefault(name, []).append(event)
    rows = {row.command: row for row in tasks}
    found = [_with_task(steps[command], rows.get(command)) for command in sorted(steps)]
    ending = ending_of(events)
    if ending is not None:
        # Nobody waits for them any more since then, whatever becomes of them.
        found = [replace(step, state=StepState.LEFT, ended_at=ending.at) if is_open(step) else step for step in found]
    return found


def _asked(event: Event) -> Step:
    assert event.command is not None
    kind = _KINDS[EventType(event.type)]
    at = moment(event.at)
    instant = kind in _INSTANT
    due_at = None
    if kind is StepKind.TIMER and event.payload:
        due_at = at + timedelta(microseconds=msgspec.json.decode(event.payload, type=int))
    told = _told(event.payload) if kind in _TELLING and event.payload else _Asked()
    return Step(
        command=event.command,
        kind=kind,
        name=event.name or kind.value,
        state=StepState.DONE if instant else StepState.WAITING,
        requested_at=at,
        ended_at=at if instant else None,
        due_at=due_at,
        location=event.location,
        payload=event.payload,
        outcome=_sent(kind, event, told),
        run=told.id or told.to,
        key=told.key,
        undoes=told.undoes,
    )


def _told(payload: str) -> _Asked:
    try:
        return _read_asked(payload)
    except msgspec.DecodeError:
        return _Asked()  # it was redacted as a whole


def _sent(kind: StepKind, event: Event, told: _Asked) -> str | None:
    """Return what others got to see by a command that has no outcome of its own."""
    match kind:
        case StepKind.ATTRIBUTES | StepKind.PUBLISHED:
            return event.payload
        case StepKind.SENT | StepKind.ANSWERED:
            return bytes(told.value).decode()
        case _:
            return None


def _inherited(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Return the signals that the run before it in its chain left to it, as events of its start."""
    early: dict[str, list[Event]] = {}
    if events and events[0].type == EventType.RUN_STARTED and events[0].payload:
        at = events[0].at
        for name, payload in Started.parse(events[0].payload).signals:
            signal = Event(0, EventType.SIGNAL_RECEIVED, None, name, bytes(payload).decode(), at)
            early.setdefault(name, []).append(signal)
    return early


def _bounds(previous: Step | None, timer: Step) -> bool:
    """Say whether a timer is the timeout of the wait for a signal just before it.

    Both come from one line of code, one right after the other and at one time. A timer that the code starts on the
    same line for another purpose would be taken for one; that costs a timeline a word, and nothing else.
    """
    return (
        previous is not None
        and previous.kind is StepKind.SIGNAL
        and previous.command == timer.command - 1
        and previous.location == timer.location
        and previous.requested_at == timer.requested_at
    )


def _ended(step: Step, event: Event) -> Step:
    state = _ENDS[EventType(event.type)]
    failure = None
    if event.type in _WITH_FAILURE and event.payload:
        failure = Failure.parse(event.payload)
    return replace(step, state=state, ended_at=moment(event.at), outcome=event.payload, failure=failure)


def _received(step: Step, signal: Event, *, at: int) -> Step:
    value = signal.payload
    with suppress(msgspec.DecodeError):  # redacted: nothing of a question is left
        value = value and read_question(value)[1]
    return replace(step, state=StepState.DONE, ended_at=moment(at), outcome=value)


def _close_bounded_wait(steps: dict[int, Step], waiting: dict[str, list[int]], event: Event) -> None:
    """A timeout that fired, or a wait that was cancelled with its timer, waits for no signal any more."""
    if event.type not in {EventType.TIMER_FIRED, EventType.TIMER_CANCELLED}:
        return
    for step in steps.values():
        if step.limit == event.command and is_open(step):
            fired = event.type == EventType.TIMER_FIRED
            state = StepState.TIMED_OUT if fired else StepState.CANCELLED
            steps[step.command] = replace(step, state=state, ended_at=moment(event.at))
            waiting[step.name].remove(step.command)
            return


def _with_task(step: Step, row: TaskRecord | None) -> Step:
    if row is None or step.kind not in _WITH_TASK or not is_open(step):
        return step
    if row.claimed_by is not None and row.state != TaskState.DISPATCHED:
        state = StepState.RUNNING
    else:
        state = StepState.RETRYING if row.attempt > 1 else StepState.WAITING
    return replace(step, state=state, task=row)
