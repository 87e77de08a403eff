"""Here lives the explanation of drift: what the history has, what the code asks for, where both stand, what to do.

All of it is made when a run has drifted already, so it may take its time; but it ends up in a column and in a log line,
so every part is bounded.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

import msgspec

from continuum.errors import ReplayDriftError
from continuum.model.events import Event, EventType
from continuum.replay.differences import compare_payloads

__all__ = ["Asked", "command_drift", "describe", "describe_event", "drift", "excess_drift", "missing_drift"]

_SHOWN: Final = 200
_MOST: Final = 4_000
# Commands behind the one in question among which the requested one is looked for.
_AHEAD: Final = 1_000
_SIMILAR: Final = 0.6

_REMEDY: Final = (
    "Deploy code that asks for what was recorded, and put the change behind patched(), or declare it as a new version."
)
_ROOTS: Final[dict[str, str]] = {
    EventType.ACTIVITY_SCHEDULED: "arguments",
    EventType.SIGNAL_ANSWERED: "answer",
    EventType.ATTRIBUTES_SET: "attributes",
    EventType.VALUE_PUBLISHED: "value",
}
_INSERTED: Final = "call was inserted before the recorded one, or that was replaced or removed."
_UNSTABLE: Final = "computed from what differs from replay to replay (a clock, the environment, the order of a set)"


class Asked(msgspec.Struct, frozen=True):
    """What the code asks for, and where."""

    kind: EventType
    name: str | None
    payload: str | None
    location: str | None = None

    def __str__(self) -> str:
        return describe(self.kind, self.name, self.payload)


def drift(
    number: int,
    recorded: str,
    requested: str,
    location: str | None = None,
    *,
    recorded_location: str | None = None,
    difference: str = "",
    advice: str = "",
) -> ReplayDriftError:
    """Return the error that tells where history and code part."""
    was = f" (recorded at {recorded_location})" if recorded_location else ""
    where = f" at {location}" if location else ""
    advice = f"{advice} {_REMEDY}" if advice else _REMEDY
    shown = "".join(f"\n  {line}" for line in difference.splitlines())
    # A line of its own for what to do, once there are several anyway.
    between = "\n" if shown else " "
    message = f"command {number}: the history has {recorded}{was}; the code asks for {requested}{where}.{shown}"
    return ReplayDriftError(
        f"{message[: _MOST - len(advice) - 1]}{between}{advice}",
        command=number,
        recorded=recorded,
        requested=requested,
        location=location or "",
        recorded_location=recorded_location or "",
        difference=difference,
        advice=advice,
    )


def command_drift(number: int, commands: Sequence[Event], asked: Asked) -> ReplayDriftError:
    """Return the error of code that asks for something else than the recorded command of this number."""
    recorded = commands[number]
    same = recorded.type == asked.kind and recorded.name == asked.name
    difference = ""
    if same and asked.kind == EventType.TIMER_STARTED:
        difference = f"{_duration(recorded.payload)} → {_duration(asked.payload)}"
    elif same:
        difference = compare_payloads(recorded.payload, asked.payload, what=_ROOTS.get(asked.kind, ""))
    return drift(
        number,
        _of_event(recorded),
        str(asked),
        asked.location,
        recorded_location=recorded.location,
        difference=difference,
        advice=_advise(number, commands, asked, same=same),
    )


def missing_drift(number: int, commands: Sequence[Event]) -> ReplayDriftError:
    """Return the error of code that does not ask for a recorded command at all."""
    recorded = commands[number]
    return drift(
        number,
        _of_event(recorded),
        "nothing: the code no longer asks for this",
        recorded_location=recorded.location,
        advice="It was removed from the code, or the code does not come to it any more.",
    )


def excess_drift(number: int, asked: Asked, *, terminal: Event | None, completion: Event | None) -> ReplayDriftError:
    """Return the error of code that asks for more than its history has, where that shows that nothing was asked for.

    :param terminal: how the run ended; else ``completion`` is the one that came next.
    """
    if terminal is not None:
        recorded = f"the end of the run ({terminal.type})"
        advice = "The run has ended, and the code goes on: a call was added behind its last one."
    else:
        assert completion is not None
        recorded = f"no further command, but {completion.type} at seq {completion.seq}"
        advice = "The run went on from here without this call: it was inserted."
    return drift(number, recorded, str(asked), asked.location, advice=advice)


def _advise(number: int, commands: Sequence[Event], asked: Asked, *, same: bool) -> str:
    recorded = commands[number]
    following = _find_later(number, commands, asked, same=same)
    if following is not None:
        return (
            f"The code asks now for what the history has as command {following}: the order was changed, or what came"
            " before it was removed."
        )
    if same:
        if asked.kind == EventType.TIMER_STARTED:
            return f"Its duration was changed (a timer keeps the one it was started with), or is {_UNSTABLE}."
        return f"Its arguments were changed, or are {_UNSTABLE}."
    old, new = recorded.name, asked.name
    if recorded.type == asked.kind and old and new:
        same_payload = asked.payload not in {None, "[]"} and asked.payload == recorded.payload
        if same_payload or SequenceMatcher(None, _last(old), _last(new)).ratio() >= _SIMILAR:
            return f"If {old!r} was renamed to {new!r}: {_rename(asked.kind, old)}. Otherwise a {_INSERTED}"
    return f"A {_INSERTED}"


def _find_later(number: int, commands: Sequence[Event], asked: Asked, *, same: bool) -> int | None:
    """Return the recorded command behind this one that is what the code asks for, to the letter if there is such a one.

    :param same: whether this one differs in its payload alone, so that only the letter tells another from it.
    """
    alike = [
        event
        for event in commands[number + 1 : number + _AHEAD]
        if (event.type, event.name) == (asked.kind, asked.name)
    ]
    exact = [event for event in alike if event.payload == asked.payload]
    found = exact or ([] if same else alike)
    return found[0].command if found else None


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _rename(kind: str, old: str) -> str:
    match kind:
        case "activity_scheduled" | "compensation_scheduled":
            return f"keep the name that histories have, @activity(name={old!r})"
        case "child_started":
            return f"keep the name that histories have, @workflow(name={old!r})"
        case _:
            return "histories keep the old name, and so must the code that runs them"


def describe_event(event: Event) -> str:
    """Return what a recorded command asked for, and where."""
    text = _of_event(event)
    return f"{text} (recorded at {event.location})" if event.location else text


def _of_event(event: Event) -> str:
    return describe(event.type, event.name, event.payload if event.type != EventType.VALUE_RECORDED else None)


def describe(kind: str, name: str | None, payload: str | None) -> str:
    """Return what a command asks for, for a person."""
    shown = "" if payload is None else payload if len(payload) <= _SHOWN else payload[:_SHOWN] + "…"
    match kind:
        case "activity_scheduled":
            return f"activity {name} with {shown}"
        case "timer_started":
            return f"a timer of {_duration(payload)} ({shown} µs)"
        case "signal_awaited":
            return f"a wait for signal {name!r}"
        case "signal_answered":
            return f"an answer to signal {name!r} with {shown}"
        case "value_recorded":
            return f"side effect {name}"
        case "patch_marked":
            return f"patch {name!r}"
        case "compensation_scheduled":
            return f"compensation {name} with {shown}"
        case "child_started":
            return f"child {name} with {shown}"
        case "signal_sent":
            return f"signal {name!r} sent with {shown}"
        case "attributes_set":
            return f"attributes {shown}"
        case "value_published":
            return f"value {name!r} published as {shown}"
        case _:
            return kind


def _duration(payload: str | None) -> str:
    """Return microseconds as a person says them."""
    try:
        seconds = int(payload or "") / 1_000_000
    except ValueError:
        return "some time"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.6g} {unit}"
    return f"{seconds:g} s"
