"""Here lives the reading of a history as a timeline: what the run asked for, when, from which line, and what came.

Pure: events and task rows in, values out. Nothing here knows the workflow's code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from continuum.model.events import COMMANDS, Event, EventType
from continuum.model.failures import Failure
from continuum.model.tasks import TaskRecord, TaskState

__all__ = ["Ending", "Step", "StepKind", "StepState", "ending_of", "is_open", "moment", "timeline"]


class StepKind(StrEnum):
    """What a command asked for."""

    ACTIVITY = "activity"
    TIMER = "timer"
    SIGNAL = "signal"
    VALUE = "value"
    PATCH = "patch"


class StepState(StrEnum):
    """What became of it."""

    WAITING = "waiting"
    RETRYING = "retrying"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


OPEN: Final = frozenset({StepState.WAITING, StepState.RETRYING, StepState.RUNNING})

_KINDS: Final = {
    EventType.ACTIVITY_SCHEDULED: StepKind.ACTIVITY,
    EventType.TIMER_STARTED: StepKind.TIMER,
    EventType.SIGNAL_AWAITED: StepKind.SIGNAL,
    EventType.VALUE_RECORDED: StepKind.VALUE,
    EventType.PATCH_MARKED: StepKind.PATCH,
}
_ENDS: Final = {
    EventType.ACTIVITY_COMPLETED: StepState.DONE,
    EventType.ACTIVITY_FAILED: StepState.FAILED,
    EventType.ACTIVITY_CANCELLED: StepState.CANCELLED,
    EventType.TIMER_FIRED: StepState.DONE,
    EventType.TIMER_CANCELLED: StepState.CANCELLED,
}


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
    :ivar task: its row, while an activity is pending.
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
    """

    at: datetime
    result: str | None = None
    failure: Failure | None = None
    reason: str | None = None


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
            case EventType.RUN_CANCELLED | EventType.RUN_CONTINUED:
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
    early: dict[str, list[Event]] = {}  # signal → those that came before anybody waited
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
        found = [
            replace(step, state=StepState.ABANDONED, ended_at=ending.at) if is_open(step) else step for step in found
        ]
    return found


def _asked(event: Event) -> Step:
    assert event.command is not None
    kind = _KINDS[EventType(event.type)]
    at = moment(event.at)
    instant = kind in {StepKind.VALUE, StepKind.PATCH}
    due_at = None
    if kind is StepKind.TIMER and event.payload:
        due_at = at + timedelta(microseconds=msgspec.json.decode(event.payload, type=int))
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
    )


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
    if event.type == EventType.ACTIVITY_FAILED and event.payload:
        failure = Failure.parse(event.payload)
    return replace(step, state=state, ended_at=moment(event.at), outcome=event.payload, failure=failure)


def _received(step: Step, signal: Event, *, at: int) -> Step:
    return replace(step, state=StepState.DONE, ended_at=moment(at), outcome=signal.payload)


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
    if row is None or step.kind is not StepKind.ACTIVITY or not is_open(step):
        return step
    if row.claimed_by is not None and row.state != TaskState.DISPATCHED:
        state = StepState.RUNNING
    else:
        state = StepState.RETRYING if row.attempt > 1 else StepState.WAITING
    return replace(step, state=state, task=row)
