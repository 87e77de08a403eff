"""Here lives the explanation of drift: what the history has, what the code asks for, and where each was written."""

from typing import Final

from continuum.errors import ReplayDriftError
from continuum.model.events import Event, EventType

__all__ = ["describe", "describe_event", "drift"]

_SHOWN: Final = 200


def drift(number: int, recorded: str, requested: str, location: str | None = None) -> ReplayDriftError:
    """Return the error that tells where history and code part."""
    where = f" at {location}" if location else ""
    return ReplayDriftError(
        f"command {number}: the history has {recorded}; the code asks for {requested}{where}. Deploy code that asks for"
        " what was recorded, and put the change behind patched(), or declare it as a new version.",
        command=number,
        recorded=recorded,
        requested=requested,
        location=location or "",
    )


def describe_event(event: Event) -> str:
    """Return what a recorded command asked for, and where."""
    text = describe(event.type, event.name, event.payload if event.type != EventType.VALUE_RECORDED else None)
    return f"{text} (recorded at {event.location})" if event.location else text


def describe(kind: str, name: str | None, payload: str | None) -> str:
    """Return what a command asks for, for a person."""
    shown = "" if payload is None else payload if len(payload) <= _SHOWN else payload[:_SHOWN] + "…"
    match kind:
        case "activity_scheduled":
            return f"activity {name} with {shown}"
        case "timer_started":
            return f"a timer of {shown} µs"
        case "signal_awaited":
            return f"a wait for signal {name!r}"
        case "value_recorded":
            return f"side effect {name}"
        case "patch_marked":
            return f"patch {name!r}"
        case _:
            return kind
