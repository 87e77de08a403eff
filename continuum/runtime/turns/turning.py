"""Here lives one turn of one run: what waits is delivered, and what comes of it becomes a commit."""

from typing import Final

from continuum.config import Settings
from continuum.declare.registry import Registry, WorkflowDeclaration
from continuum.errors import CodecError, ContinuumError, UnknownVersion
from continuum.model.clock import DatabaseClock
from continuum.model.decisions import Commit, Decision, Report
from continuum.model.events import Event, EventType
from continuum.model.failures import clip, describe_exception, terminated
from continuum.model.leases import ClaimedRun
from continuum.model.messages import Message
from continuum.model.runs import RunState
from continuum.replay.execution import Entry, Execution, RunInfo
from continuum.replay.paranoid import ParanoidExecution
from continuum.runtime.turns.codeless import Codeless
from continuum.runtime.turns.outlets import Outlets
from continuum.runtime.turns.slots import Slot

__all__ = ["Turner", "explain", "is_ordered_to_end"]

# What the parent wrote cannot be read here; that it ordered the end can.
_UNREAD: Final = terminated("its parent ended").encode()
# A fan-in of thousands is journaled in pieces of this many completions, so that one run cannot fill a batch.
_MOST_COMPLETIONS = 500
_REPORTS: Final = {
    RunState.COMPLETED: EventType.CHILD_COMPLETED,
    RunState.FAILED: EventType.CHILD_FAILED,
    RunState.CANCELLED: EventType.CHILD_CANCELLED,
    RunState.TERMINATED: EventType.CHILD_CANCELLED,
}


class Turner:
    """Makes slots out of claimed runs, and commits out of slots. Touches no connection."""

    def __init__(self, *, registry: Registry, clock: DatabaseClock, outlets: Outlets, settings: Settings) -> None:
        self._registry = registry
        self._execution = ParanoidExecution if settings.is_paranoid() else Execution
        self._clock = clock
        self._outlets = outlets
        self._spin_limit = settings.spin_limit
        self._snapshot_threshold = settings.snapshot_threshold
        self._guarded = settings.tripwire

    def admit(self, run: ClaimedRun) -> Slot:
        """Bring a claimed run to where its history ends.

        Raises ``UnknownVersion``, ``ReplayDriftError``, ``SpinError``, ``CodecError``; nothing of the run is then
        left in memory.
        """
        definition = self._registry.find_workflow(run.workflow, run.version)
        if definition is None:
            reason = (
                f"no loaded code can continue workflow {run.workflow!r} version {run.version}: deploy a dispatcher"
                " that has it"
            )
            raise UnknownVersion(reason, run_id=run.run_id)
        entry = definition.entry
        adopt = entry.hash if entry.hash != run.version_hash else None
        ordered = is_ordered_to_end(run)
        try:
            # Not even replayed: its code may be what cannot be, or what takes dispatchers down. Before it began, a
            # replay runs none of it, and a cancel request that came first counts.
            execution = Codeless(run) if ordered and len(run.events) > 1 else self._replayed(run, entry)
        except ContinuumError:
            if not ordered:
                raise
            execution = Codeless(run)
        if isinstance(execution, Codeless):
            adopt = None
        slot = Slot(
            run_id=run.run_id,
            chain_id=run.chain_id,
            workflow=run.workflow,
            parent=run.parent,
            token=run.token,
            execution=execution,
            row_wake=run.wake_at,
            retention_us=entry.retention_us,
            adopt=adopt,
            last_at=run.events[-1].at,
            threshold=self._threshold(definition),
            folded=run.folded,
        )
        for message in run.mail:
            slot.mail[message.id] = message
        return slot

    def _threshold(self, definition: WorkflowDeclaration) -> int | None:
        """Return after how many events a run of this workflow wants a snapshot; None for never."""
        own = definition.snapshots
        return self._snapshot_threshold if own is None else own or None

    def _replayed(self, run: ClaimedRun, entry: Entry) -> Execution:
        if run.unreadable is not None:
            raise CodecError(run.unreadable)
        execution = self._execution(
            entry=entry,
            run=RunInfo(
                run_id=run.run_id,
                chain_id=run.chain_id,
                namespace=run.namespace,
                workflow=run.workflow,
                version=run.version,
                parent_id=None if run.parent is None else run.parent.run_id,
            ),
            spin_limit=self._spin_limit,
        )
        if self._guarded:
            execution.guard()
        try:
            execution.replay(run.events)
        except BaseException:
            execution.evict()
            raise
        return execution

    def turn(self, slot: Slot) -> Commit | None:
        """Deliver what waits and return the commit; None if there is nothing to write.

        Raises what :meth:`Execution.deliver` raises, and ``ConfigError`` on an executor that is not there; the local
        outcomes are in ``slot.flown`` then.
        """
        execution = slot.execution
        seen = execution.last_seq
        at = max(slot.last_at, self._clock.now_us())
        slot.last_at = at
        slot.flown, slot.results = slot.results, []
        finished: list[tuple[int, int]] = []
        consumed: list[int] = []

        if slot.adopt is not None:
            # The loaded code reproduced the whole history: from here on it is the run's code.
            execution.note(EventType.VERSION_ADOPTED, name=slot.adopt)
        end = _order_to_end(slot)
        if end is not None:
            # Without a look at the rest: neither code nor mail that cannot be read may stand in its way.
            if end.kind == EventType.RUN_TERMINATED:
                execution.terminate(end.payload or _UNREAD, at)
            else:
                execution.deliver(Event(0, EventType.CANCEL_REQUESTED, None, end.name, end.payload, at))
            return self._commit(slot, seen, finished, [end.id])
        mail = self._mail_in_order(slot)
        for letter in mail:
            if letter.unreadable is not None:
                # It stays in the inbox until somebody can read it.
                raise CodecError(f"message {letter.id}: {letter.unreadable}")
        if not execution.began:
            execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, at))
        for outcome in slot.flown:
            if execution.ended:
                break
            if not execution.expects(outcome.command):
                # Cancelled meanwhile: its task row went with the commit that cancelled it.
                continue
            if outcome.failure is None:
                kind, payload = EventType.ACTIVITY_COMPLETED, outcome.payload
            else:
                kind, payload = EventType.ACTIVITY_FAILED, outcome.failure.encode()
            finished.append((outcome.command, outcome.attempt))
            execution.deliver(Event(0, kind, outcome.command, outcome.activity, payload, at))
        for letter in mail:
            if execution.ended:
                break
            consumed.append(letter.id)
            if self._is_wanted(slot, letter):
                execution.deliver(Event(0, letter.kind, letter.command, letter.name, letter.payload, at))
        if not execution.ended:
            for command in execution.due_timers(at):
                if execution.ended:
                    break
                if execution.expects(command):
                    execution.deliver(Event(0, EventType.TIMER_FIRED, command, None, None, at))
        return self._commit(slot, seen, finished, consumed)

    def _commit(self, slot: Slot, seen: int, finished: list[tuple[int, int]], consumed: list[int]) -> Commit | None:
        decision = slot.execution.decide()
        woke = decision.wake_at != slot.row_wake
        if not decision.events and not consumed and not woke:
            return None
        # All are placed before a place is kept for any: an executor that is not there ends the turn.
        decision = self._outlets.place_all(decision)
        claimed, dispatched = self._outlets.reserve(decision.orders)
        return Commit(
            run_id=slot.run_id,
            chain_id=slot.chain_id,
            token=slot.token,
            seen=seen,
            decision=decision,
            claimed=claimed,
            dispatched=dispatched,
            finished=tuple(finished),
            consumed=tuple(consumed),
            adopted_hash=slot.adopt,
            retention_us=slot.retention_us,
            report=_report(slot, decision),
            successor_version=self._successor_version(slot, decision),
            woke=woke,
        )

    def _successor_version(self, slot: Slot, decision: Decision) -> tuple[int, str] | None:
        if decision.successor is None:
            return None
        # A chain that never ends is how code that never ends is brought up to date.
        newest = self._registry.find_workflow(slot.workflow)
        assert newest is not None
        return newest.version, newest.hash

    @staticmethod
    def _mail_in_order(slot: Slot) -> list[Message]:
        if not slot.mail:
            return []
        return [slot.mail[key] for key in sorted(slot.mail)[:_MOST_COMPLETIONS]]

    @staticmethod
    def _is_wanted(slot: Slot, message: Message) -> bool:
        if message.run_id is not None and message.run_id != slot.run_id:
            # For an earlier run of the chain: read by nobody, and gone with this commit.
            return False
        return message.command is None or slot.execution.expects(message.command)


def is_ordered_to_end(run: ClaimedRun) -> bool:
    """Return whether a claimed run was ordered to end without its code."""
    return any(letter.kind == EventType.RUN_TERMINATED for letter in run.mail)


def _order_to_end(slot: Slot) -> Message | None:
    """Return the letter that ends the run without more of its code: a termination, or a cancel before it began."""
    began = slot.execution.began
    found: Message | None = None
    for letter in slot.mail.values():
        kind = letter.kind
        if kind == EventType.RUN_TERMINATED or (kind == EventType.CANCEL_REQUESTED and not began):
            found = letter if found is None or letter.id < found.id else found
    return found


def _report(slot: Slot, decision: Decision) -> Report | None:
    """Return what a run that ended for good tells the one that started it."""
    if slot.parent is None:
        return None
    kind = _REPORTS.get(decision.state)
    if kind is None:
        return None
    payload = None if decision.state is RunState.CANCELLED else decision.events[-1].payload
    return Report(slot.parent.run_id, slot.parent.command, kind, payload)


def explain(error: BaseException) -> str:
    """Return the reason to show on a stuck run.

    A column must hold it, whatever the error says (it may quote a decoder of the user's): a reason that is refused
    would leave the run to be loaded again at once, for ever.
    """
    where = f" (at {error.path})" if isinstance(error, CodecError) and error.path else ""
    said = f"{type(error).__name__}: {describe_exception(error).message}{where}"
    return clip(said).replace("\0", "\\0")
