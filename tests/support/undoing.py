"""Here live stand-ins of activities that undo something, for tests without declarations."""

from typing import Any

from continuum.model.codec import decode, encode
from continuum.model.events import EventType
from continuum.replay.effects.activity import plan
from tests.replay.lab import POLICY, POLICY_TEXT, Lab, act

__all__ = ["Undoes", "undone"]


class Undoes:
    """An activity by this name, as far as `compensate` needs one; like `act`, without declaring it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = encode([*args, *kwargs.values()])
        return plan(self.name, arguments, policy=POLICY, policy_text=POLICY_TEXT, decode=decode)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return act(self.name, *args, **kwargs)


def undone(lab: Lab) -> list[tuple[int, str | None, int | None, list[Any]]]:
    """Return the compensations a run has asked for: command, activity, the command it undoes, arguments."""
    found = []
    for event in lab.history:
        if event.type == EventType.COMPENSATION_SCHEDULED:
            payload = decode(event.payload or "")
            found.append((event.command, event.name, payload["undoes"], payload["arguments"]))
    return found
