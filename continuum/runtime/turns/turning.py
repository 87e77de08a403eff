"""Here lives one turn of one run: what waits is delivered, and what comes of it becomes a commit."""

from continuum.declare.registry import Registry
from continuum.errors import CodecError, UnknownVersion
from continuum.model.clock import DatabaseClock
from continuum.model.decisions import Commit
from continuum.model.events import Event, EventType
from continuum.model.leases import ClaimedRun
from continuum.model.messages import Message
from continuum.replay.execution import Execution, RunInfo
from continuum.runtime.turns.outlets import Outlets
from continuum.runtime.turns.slots import Slot

__all__ = ["Turner", "explain"]

# A fan-in of thousands is journaled in pieces of this many completions, so that one run cannot fill a batch.
_MOST_COMPLETIONS = 500


class Turner:
    """Makes slots out of claimed runs, and commits out of slots. Touches no connection."""

    def __init__(self, *, registry: Registry, clock: DatabaseClock, outlets: Outlets, spin_limit: int) -> None:
        self._registry = registry
        self._clock = clock
        self._outlets = outlets
        self._spin_limit = spin_limit

    def admit(self, run: ClaimedRun) -> Slot:
        """Bring a claimed run to where its history ends.

        Raises ``UnknownVersion``, ``ReplayDriftError``, ``SpinError``, ``CodecError``; nothing of the run is then
        left in memory.
        """
        if run.unreadable is not None:
            raise CodecError(run.unreadable)
        definition = self._registry.find_workflow(run.workflow, run.version)
        if definition is None:
            reason = (
                f"no loaded code can continue workflow {run.workflow!r} version {run.version}: deploy a dispatcher"
                " that has it"
            )
            raise UnknownVersion(reason, run_id=run.run_id)
        entry = definition.entry
        execution = Execution(
            entry=entry,
            run=RunInfo(
                run_id=run.run_id,
                chain_id=run.chain_id,
                namespace=run.namespace,
                workflow=run.workflow,
                version=run.version,
            ),
            spin_limit=self._spin_limit,
        )
        try:
            execution.replay(run.events)
        except BaseException:
            execution.evict()
            raise
        slot = Slot(
            run_id=run.run_id,
            chain_id=run.chain_id,
            token=run.token,
            execution=execution,
            row_wake=run.wake_at,
            retention_us=entry.retention_us,
            adopt=entry.hash if entry.hash != run.version_hash else None,
            last_at=run.events[-1].at,
        )
        for message in run.mail:
            slot.mail[message.id] = message
        return slot

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

        mail = self._mail_in_order(slot)
        for letter in mail:
            if letter.unreadable is not None:
                # It stays in the inbox until somebody can read it.
                raise CodecError(f"message {letter.id}: {letter.unreadable}")
        if not execution.began:
            cancel = next((message for message in mail if message.kind == EventType.CANCEL_REQUESTED), None)
            if cancel is None:
                execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, at))
            else:
                consumed.append(cancel.id)
                mail.remove(cancel)
                execution.deliver(Event(0, EventType.CANCEL_REQUESTED, None, cancel.name, cancel.payload, at))
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
        if slot.adopt is not None:
            # The loaded code reproduced the whole history: from here on it is the run's code.
            slot.execution.note(EventType.VERSION_ADOPTED, name=slot.adopt)
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
            woke=woke,
        )

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


def explain(error: BaseException) -> str:
    """Return the reason to show on a stuck run."""
    if isinstance(error, CodecError) and error.path:
        return f"{type(error).__name__}: {error} (at {error.path})"
    return f"{type(error).__name__}: {error}"
