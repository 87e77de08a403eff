"""Here lives the replay of a recorded history through code, without a database or a dispatcher."""

from collections.abc import Sequence

from continuum.model.decisions import Decision
from continuum.model.events import Event
from continuum.replay.entry import Entry, RunInfo
from continuum.replay.execution import Execution

__all__ = ["replay_history"]


def replay_history(
    entry: Entry, run: RunInfo, events: Sequence[Event], *, spin_limit: int = 100_000, inline: bool = True
) -> Decision:
    """Replay a whole history through the code, and return what the code would do next.

    No events in the decision means that the code asks for exactly what was recorded. Nothing of the run stays in
    memory. Raises ``ReplayDriftError``, ``SpinError`` and ``CodecError`` as a dispatcher would meet them.
    """
    execution = Execution(entry=entry, run=run, spin_limit=spin_limit, inline=inline)
    try:
        execution.replay(events)
        return execution.decide()
    finally:
        execution.evict()
