"""Here lives paranoid mode: an execution that proves, before each decision leaves it, that a replay would repeat it.

The whole history, this decision included, is replayed in fresh executions: with the inline rule, and without it from
a snapshot. Each must ask for exactly what is recorded, and come to stand where the live one stands: the same commands
waited for, the same timers, mail, draws of chance and answers of ``patched()``. Code that reads what a replay cannot
repeat (a clock, a global, the order of a set) is found here at its first turn, not after the first crash.

It costs a replay of everything at every turn: it is for tests and for hunting. Workflow code runs more often than its
history tells, as it does after a crash.

# Invariant: nothing of a turn that cannot be repeated reaches the journal: `decide` raises, and its decision is lost.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from continuum.errors import ContinuumError, ReplayDriftError, ReplayMismatch
from continuum.model.decisions import Decision
from continuum.model.events import Event
from continuum.model.snapshots import decode_snapshot, encode_snapshot
from continuum.replay.entry import Entry, RunInfo
from continuum.replay.execution import Execution

__all__ = ["ParanoidExecution"]

_ADVICE: Final = (
    "Its code reads something that a replay does not see again: a clock, chance, a global, the environment, the order"
    " of a set. Use the effect for it, side_effect(), or an activity."
)
_SHOWN: Final = 300


class ParanoidExecution(Execution):
    """An execution that distrusts its own code."""

    __slots__ = ("_history", "_make")

    def __init__(self, *, entry: Entry, run: RunInfo, spin_limit: int = 100_000, inline: bool = True) -> None:
        super().__init__(entry=entry, run=run, spin_limit=spin_limit, inline=inline)
        self._make: Callable[..., Execution] = partial(Execution, entry=entry, run=run, spin_limit=spin_limit)
        self._history: list[Event] = []

    def replay(self, events: Sequence[Event]) -> None:
        """Bring the code to where its history ends, and keep the history. Raises as `Execution.replay` does."""
        self._history = list(events)
        super().replay(events)

    def decide(self) -> Decision:
        """Return the decision, if a replay repeats all that led to it. Raises ``ReplayMismatch``."""
        decision = super().decide()
        if decision.events:
            self._history += [_as_loaded(event) for event in decision.events]
            standing = _standing(self, decision)
            self._verify(self._history, standing, inline=True)
            self._verify(self._folded(), standing, inline=False)
        return decision

    def _folded(self) -> list[Event]:
        """Return the history as it comes out of a snapshot."""
        events = decode_snapshot(encode_snapshot(self._history))
        if events != self._history:
            raise _mismatch("its snapshot does not hold the events it was made of")
        return events

    def _verify(self, events: Sequence[Event], standing: dict[str, Any], *, inline: bool) -> None:
        fresh = self._make(inline=inline)
        try:
            try:
                fresh.replay(events)
            except ContinuumError as error:
                raise _mismatch(_said(error)) from error
            decision = fresh.decide()
            if decision.events:
                asked = ", ".join(f"{event.type} {event.name or ''}".rstrip() for event in decision.events)
                raise _mismatch(f"a replay asks for more: {asked[:_SHOWN]}")
            again = _standing(fresh, decision)
            for what, live in standing.items():
                if again[what] != live:
                    raise _mismatch(f"{what}: {live!r:.300} while it ran, {again[what]!r:.300} in the replay")
        finally:
            fresh.evict()


def _as_loaded(event: Event) -> Event:
    """Return an event as the journal will load it."""
    return Event(
        event.seq,
        str(event.type),  # type: ignore[arg-type] # plain text, as the column holds it
        event.command,
        event.name,
        event.payload,
        event.at,
        event.location,
    )


def _standing(execution: Execution, decision: Decision) -> dict[str, Any]:
    """Return all that decides how a run goes on, in words for people."""
    ledger, loop = execution._ledger, execution._loop  # noqa: SLF001 - of our own kind
    lasting = {
        "the state": str(decision.state),
        "the number of the next command": ledger.next,
        "what was drawn from uuid4() and random()": ledger._draws,  # noqa: SLF001
        "the answers of patched()": ledger._answers or {},  # noqa: SLF001
    }
    if execution.ended:
        return lasting
    return lasting | {
        "the time to wake at": decision.wake_at,
        "the time in the workflow": ledger.now,
        "the open activities": list(loop.activities),
        "the open timers": {number: timer.fire_at for number, timer in loop.timers.items()},
        "the open children": {number: child.id for number, child in loop.children.items()},
        "the signals not taken": {name: list(box.payloads) for name, box in loop.mailboxes.items() if box.payloads},
        "the children that may live": ledger.lineage.living,
    }


def _said(error: ContinuumError) -> str:
    """Return what a replay has met. Of a drift without its advice, which is for code that was edited."""
    if not isinstance(error, ReplayDriftError):
        return f"{type(error).__name__}: {error}".rstrip(".")
    ran, again = (f" at {place}" if place else "" for place in (error.recorded_location, error.location))
    said = f"command {error.command}: {error.recorded}{ran} while it ran, {error.requested}{again} in the replay"
    lines = "; ".join(error.difference.splitlines())
    return f"{said} ({lines})" if lines else said


def _mismatch(difference: str) -> ReplayMismatch:
    message = f"paranoid mode: replayed from its own history, the run is not where it stands: {difference}. {_ADVICE}"
    return ReplayMismatch(message, difference=difference)
