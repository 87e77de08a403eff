"""Here lives how the events of one decision become what it asks for: children, letters, a cascade, a successor."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from continuum.model.decisions import Cascade, ChildOrder, Decision, Letter, Report, Successor
from continuum.model.events import TERMINAL, Event, EventType
from continuum.model.failures import terminated
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import ParentClose, RunState, Started
from continuum.model.tasks import TaskOrder

if TYPE_CHECKING:
    from tests.support.protocol_held import Held, Surroundings

__all__ = ["ReachRule", "child_id", "reach_of"]

CLOSED = terminated("its parent ended").encode()
STATES = {
    EventType.RUN_COMPLETED: RunState.COMPLETED,
    EventType.RUN_CANCELLED: RunState.CANCELLED,
    EventType.RUN_TERMINATED: RunState.TERMINATED,
    EventType.RUN_CONTINUED: RunState.CONTINUED,
}


class ReachRule(StrEnum):
    """A rule that binds who makes decisions, and can be taken away."""

    CANCEL = "who is asked to cancel asks its children"
    CLOSE = "who ends closes its children"
    FAMILY = "and those that earlier runs of its chain have started"
    FRESH = "children of the same decision are told by letters"
    HEIR = "a request to cancel is passed on to a successor"
    REPORT = "a child tells its parent how it ended"
    CARRY = "signals that were journaled and not taken go into the successor"


class _Told(msgspec.Struct):
    to: ChainId
    value: str


class _Named(msgspec.Struct):
    id: RunId


def child_id(event: Event) -> RunId:
    """Return the id in the command of a child, or in the end of a run that continues."""
    assert event.payload is not None
    return msgspec.json.decode(event.payload, type=_Named).id


def reach_of(
    held: "Held",
    events: Sequence[Event],
    *,
    orders: list[TaskOrder],
    before: dict[int, EventType],
    world: "Surroundings",
) -> tuple[Decision, Report | None]:
    """Return the decision with these events, and the report beside it; ``before``: the commands open before it."""
    program, broken = held.program, world.broken
    end = events[-1].type if events and events[-1].type in TERMINAL else None
    children = _children(held, events, world.workflow)
    decision = Decision(
        events=list(events),
        orders=orders,
        cancelled=_forgotten(held, events, before),
        state=RunState.SUSPENDED if end is None else STATES[end],
        wake_at=program.wake_at,
        logs=[],
        children=children,
        letters=_letters(held, events, children, broken),
        cascade=_cascade(held, events, broken),
        attributes=_attributes(events),
        successor=_successor(held, end, broken),
    )
    return decision, None if ReachRule.REPORT in broken else _report(held, events)


def _forgotten(held: "Held", events: Sequence[Event], before: dict[int, EventType]) -> list[int]:
    """Return the commands whose tasks go although they have no outcome."""
    program = held.program
    closed = {event.command for event in events}
    activities = {n for n, kind in before.items() if kind == EventType.ACTIVITY_SCHEDULED and n not in closed}
    return sorted(activities if program.ended else activities.difference(program.open))


def _children(held: "Held", events: Sequence[Event], workflow: str) -> list[ChildOrder]:
    found = []
    for event in events:
        if event.type == EventType.CHILD_STARTED and event.command is not None:
            run_id, spec = held.program.children[event.command]
            started = Started(msgspec.Raw(msgspec.json.encode([spec.spec])), "0").encode()
            found.append(ChildOrder(run_id, event.command, workflow, 1, "h", started, spec.close))
    return found


def _letters(
    held: "Held", events: Sequence[Event], children: Sequence[ChildOrder], broken: frozenset[str]
) -> list[Letter]:
    """Return what is told to others: signals where they were sent, then what children of this decision must hear."""
    found = []
    for event in events:
        if event.type == EventType.SIGNAL_SENT and event.payload is not None:
            told = msgspec.json.decode(event.payload, type=_Told)
            found.append(Letter(told.to, EventType.SIGNAL_RECEIVED, "s", f'"{told.value}"'))
    ended = bool(events) and events[-1].type in TERMINAL and events[-1].type != EventType.RUN_CONTINUED
    asked = any(event.type == EventType.CANCEL_REQUESTED for event in events)
    if (ended or asked) and ReachRule.FRESH not in broken:
        for child in children:
            if child.close == ParentClose.TERMINATE and ended:
                found.append(Letter(ChainId(child.id), EventType.RUN_TERMINATED, None, CLOSED))
            elif child.close != ParentClose.ABANDON:
                found.append(Letter(ChainId(child.id), EventType.CANCEL_REQUESTED))
    if held.program.successor is not None and held.program.asked and ReachRule.HEIR not in broken:
        found.append(Letter(held.chain_id, EventType.CANCEL_REQUESTED))
    return found


def _cascade(held: "Held", events: Sequence[Event], broken: frozenset[str]) -> Cascade | None:
    family = held.program.family and (ReachRule.FAMILY not in broken or bool(held.program.children))
    if not events or not family:
        return None
    if events[-1].type in TERMINAL and events[-1].type != EventType.RUN_CONTINUED:
        return None if ReachRule.CLOSE in broken else Cascade.CLOSE
    if any(event.type == EventType.CANCEL_REQUESTED for event in events) and ReachRule.CANCEL not in broken:
        return Cascade.CANCEL
    return None


def _attributes(events: Sequence[Event]) -> str | None:
    found: dict[str, object] = {}
    for event in events:
        if event.type == EventType.ATTRIBUTES_SET and event.payload is not None:
            found |= msgspec.json.decode(event.payload)
    return msgspec.json.encode(found).decode() if found else None


def _successor(held: "Held", end: EventType | None, broken: frozenset[str]) -> Successor | None:
    if end != EventType.RUN_CONTINUED or held.program.successor is None:
        return None
    run_id, started = held.program.successor
    if ReachRule.CARRY in broken:
        started = msgspec.structs.replace(started, signals=())
    return Successor(run_id, started.encode())


def _report(held: "Held", events: Sequence[Event]) -> Report | None:
    if held.parent is None or not events:
        return None
    last, parent = events[-1], held.parent
    match last.type:
        case EventType.RUN_COMPLETED:
            return Report(parent.run_id, parent.command, EventType.CHILD_COMPLETED, last.payload)
        case EventType.RUN_CANCELLED | EventType.RUN_TERMINATED:
            return Report(parent.run_id, parent.command, EventType.CHILD_CANCELLED, last.payload)
        case _:
            return None
