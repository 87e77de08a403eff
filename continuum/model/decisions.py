"""Here lives what replay hands to the journal: what one run wants made durable."""

import msgspec

from continuum.model.events import Event
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import RunState
from continuum.model.tasks import TaskOrder

__all__ = ["Commit", "Decision", "LogLine"]


class LogLine(msgspec.Struct, frozen=True):
    """A line that workflow code logged; emitted once, after the commit."""

    logger: str
    level: int
    message: str
    fields: dict[str, object]


class Decision(msgspec.Struct, frozen=True):
    """What happened in one turn of one run, and what it asks for. Pure: no claims, no tokens.

    :ivar events: to be appended, numbered from the run's last sequence number on. If the run ended, the last one
        is terminal.
    :ivar orders: tasks to be created.
    :ivar cancelled: commands whose tasks are to be deleted; nobody waits for them any more. If the run ended, these are
        all that were open, because nothing else deletes its tasks.
    :ivar state: the run's new state.
    :ivar wake_at: the earliest open timer, in microseconds since the epoch; None if there is none.
    """

    events: list[Event]
    orders: list[TaskOrder]
    cancelled: list[int]
    state: RunState
    wake_at: int | None
    logs: list[LogLine]


class Commit(msgspec.Struct, frozen=True):
    """One run's part of a group commit: its decision, and the rights under which it is written.

    :ivar token: fencing token of the grant.
    :ivar seen: ``last_seq`` the decision was made on.
    :ivar claimed: commands of ``decision.orders`` inserted as claimed by this worker.
    :ivar dispatched: those inserted as dispatched by this worker, which publishes them; the others are free.
    :ivar finished: (command, attempt) of local results that ``decision.events`` holds; their task rows go.
    :ivar consumed: ids of inbox rows that go: delivered, or refused.
    :ivar adopted_hash: the loaded code's hash if it is to replace the pinned one.
    :ivar retention_us: how long an ended run is kept, in microseconds; None for ever.
    :ivar woke: whether ``wake_at`` differs from what the row holds (a write of it is not HOT).
    """

    run_id: RunId
    chain_id: ChainId
    token: int
    seen: int
    decision: Decision
    claimed: frozenset[int] = frozenset()
    dispatched: frozenset[int] = frozenset()
    finished: tuple[tuple[int, int], ...] = ()
    consumed: tuple[int, ...] = ()
    adopted_hash: str | None = None
    retention_us: int | None = None
    woke: bool = False
