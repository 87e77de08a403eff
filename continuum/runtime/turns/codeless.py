"""Here lives a run that is not replayed, because it was ordered to end: that needs none of its code.

A child that is to be terminated with its parent may be stuck: its code has changed, a payload cannot be read any more,
or it takes down whoever replays it. What ends it follows from its history alone.
"""

from continuum.model.decisions import Cascade, Decision
from continuum.model.events import Event, EventType
from continuum.model.leases import ClaimedRun
from continuum.model.runs import RunState
from continuum.replay.execution import Execution

__all__ = ["Codeless"]

_TASKS = frozenset({EventType.ACTIVITY_SCHEDULED, EventType.COMPENSATION_SCHEDULED})
_OVER = frozenset({EventType.ACTIVITY_COMPLETED, EventType.ACTIVITY_FAILED, EventType.ACTIVITY_CANCELLED})


class Codeless(Execution):
    """Takes nothing but the order to end."""

    __slots__ = ("_last", "_open", "_seq")

    def __init__(self, run: ClaimedRun) -> None:
        self.began = True
        self.last_seq = self._seq = run.last_seq
        self._last: Event | None = None
        tasks = [event.command for event in run.events if event.type in _TASKS and event.command is not None]
        over = {event.command for event in run.events if event.type in _OVER}
        self._open = [command for command in tasks if command not in over]

    @property
    def ended(self) -> bool:
        """Whether it was told to."""
        return self._last is not None

    @property
    def earliest_timer(self) -> int | None:
        """No timer will fire."""
        return None

    def terminate(self, payload: str | None, at: int) -> None:
        """End."""
        self._last = Event(self._seq + 1, EventType.RUN_TERMINATED, None, None, payload, at)

    def decide(self) -> Decision:
        """Return the end, for the run and for the children it may have."""
        assert self._last is not None
        self.last_seq = self._last.seq
        return Decision([self._last], [], self._open, RunState.TERMINATED, None, [], cascade=Cascade.CLOSE)

    def evict(self) -> None:
        """There is nothing to evict."""
