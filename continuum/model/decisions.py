"""Here lives what replay hands to the journal: what one run wants made durable."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import ParentClose, RunState
from continuum.model.tasks import TaskOrder

__all__ = ["Cascade", "ChildOrder", "Commit", "Decision", "Letter", "LogLine", "Report", "Successor"]


class LogLine(msgspec.Struct, frozen=True):
    """A line that workflow code logged; emitted once, after the commit."""

    logger: str
    level: int
    message: str
    fields: dict[str, object]


class ChildOrder(msgspec.Struct, frozen=True, gc=False):
    """A child run that a decision wants to exist. It is in its parent's namespace, and has its trace context.

    :ivar id: derived from the parent's id and the command, so that nobody else can have it.
    :ivar command: number of the ``child_started`` command.
    :ivar started: payload of the child's ``run_started``.
    :ivar attributes: JSON object text of its own attributes, merged over those of the parent; None for no own ones.
    """

    id: RunId
    command: int
    workflow: str
    version: int
    version_hash: str
    started: str
    close: ParentClose
    attributes: str | None = None


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A message from a run to a chain: a signal, a cancel request, or the order to end. Dropped if the chain has ended.

    :ivar kind: ``signal_received``, ``cancel_requested`` or ``run_terminated``.
    """

    chain_id: ChainId
    kind: EventType
    name: str | None = None
    payload: str | None = None


class Cascade(StrEnum):
    """To which of the open children that earlier decisions of its chain started a run passes its own end on."""

    CANCEL = "cancel"
    """It was asked to cancel: a cancel request to each that is not to be abandoned."""
    CLOSE = "close"
    """It has ended: to each what its ``ParentClose`` says."""


class Successor(msgspec.Struct, frozen=True):
    """The run that continues a chain; all but this it has from the run before.

    :ivar id: derived from that run's id.
    :ivar started: payload of its ``run_started``.
    """

    id: RunId
    started: str


class Report(msgspec.Struct, frozen=True):
    """The letter by which a child tells its parent how it ended.

    :ivar kind: ``child_completed``, ``child_failed`` or ``child_cancelled``.
    :ivar payload: the result; the `Failure`; None, or the `Failure` of a termination.
    """

    parent_id: RunId
    command: int
    kind: EventType
    payload: str | None


class Decision(msgspec.Struct, frozen=True):
    """What happened in one turn of one run, and what it asks for. Pure: no claims, no tokens.

    :ivar events: to be appended, numbered from the run's last sequence number on. If the run ended, the last one
        is terminal.
    :ivar orders: tasks to be created.
    :ivar cancelled: commands whose tasks are to be deleted; nobody waits for them any more. If the run ended, these are
        all that were open, because nothing else deletes its tasks.
    :ivar state: the run's new state.
    :ivar wake_at: the earliest open timer, in microseconds since the epoch; None if there is none.
    :ivar children: runs to be created, also by a run that ended.
    :ivar letters: messages to other chains, to the run's own one (a cancel request that its successor inherits), and
        to ``children``.
    :ivar cascade: which of the children that exist already hear of it.
    :ivar attributes: JSON object text to merge into the run's attributes, key by key; None for no change.
    :ivar successor: if the state is ``continued``, the run that goes on.
    """

    events: list[Event]
    orders: list[TaskOrder]
    cancelled: list[int]
    state: RunState
    wake_at: int | None
    logs: list[LogLine]
    children: Sequence[ChildOrder] = ()
    letters: Sequence[Letter] = ()
    cascade: Cascade | None = None
    attributes: str | None = None
    successor: Successor | None = None

    @property
    def reaches_out(self) -> bool:
        """Whether it asks for anything beyond the run's own row, events, tasks and mail."""
        return bool(self.children or self.letters or self.cascade or self.attributes or self.successor)


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
    :ivar report: if the run ended for good and a run started it, what that one is told.
    :ivar successor_version: version and hash of the code that a successor is pinned to.
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
    report: Report | None = None
    successor_version: tuple[int, str] | None = None
    woke: bool = False

    @property
    def reaches_out(self) -> bool:
        """Whether it asks for anything beyond the run's own row, events, tasks and mail."""
        return self.report is not None or self.decision.reaches_out
