"""Here lives the rehearsal of a recorded run: its history is stepped through the code as it is now, and nothing else.

No lease, no clock, no write: what a dispatcher would meet when it takes the run up, without taking it up.
"""

from enum import StrEnum
from typing import Final

import msgspec

from continuum.errors import ContinuumError, ReplayDriftError
from continuum.model.events import COMMANDS, Event
from continuum.model.histories import RecordedRun
from continuum.model.runs import RunState
from continuum.replay.entry import Entry, RunInfo
from continuum.replay.execution import Execution

__all__ = ["Rehearsal", "Verdict", "rehearse"]

_BEFORE: Final = 5
_AFTER: Final = 3


class Verdict(StrEnum):
    """How history and code go together."""

    FITS = "fits"
    DRIFT = "drift"
    BROKEN = "broken"


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    :ivar verdict: ``fits``: a dispatcher with this code goes on with the run; ``drift``: the code asks for something
        else, and the run would be stuck; ``broken``: it cannot be replayed for another reason, and would be stuck too.
    :ivar error: what a dispatcher would meet; None if it fits.
    :ivar matched: how many commands the code asked for as they are recorded, of ``recorded``.
    :ivar before: the last of those commands. ``at`` is the recorded one at which code and history part, None if there
        is none; ``after`` are the next ones.
    :ivar state: where the run would stand then; None unless it fits.
    :ivar waits_for: what the run waits for, in words.
    :ivar news: what the code asks for beyond the history, at its end: the next commit.
    :ivar patches: what ``patched()`` has answered, by id.
    """

    verdict: Verdict
    error: ContinuumError | None = None
    matched: int
    recorded: int
    before: tuple[Event, ...] = ()
    at: Event | None = None
    after: tuple[Event, ...] = ()
    state: RunState | None = None
    waits_for: tuple[str, ...] = ()
    news: tuple[Event, ...] = ()
    patches: dict[str, bool] = {}

    @property
    def fits(self) -> bool:
        """Whether a dispatcher with this code goes on with the run."""
        return self.verdict is Verdict.FITS

    @property
    def drift(self) -> ReplayDriftError | None:
        """The drift, None if there is none."""
        return self.error if isinstance(self.error, ReplayDriftError) else None


def rehearse(entry: Entry, recorded: RecordedRun, *, spin_limit: int = 100_000, inline: bool = True) -> Rehearsal:
    """Step a recorded run through the code, and return how far they agree.

    :param spin_limit: and ``inline``: as an `Execution` takes them.

    Raises nothing that history or code can cause; nothing of the run stays in memory.
    """
    run = RunInfo(
        run_id=recorded.run_id,
        chain_id=recorded.chain_id,
        namespace=recorded.namespace,
        workflow=recorded.workflow,
        version=recorded.version,
        parent_id=recorded.parent_id,
    )
    commands = [event for event in recorded.events if event.type in COMMANDS]
    execution = Execution(entry=entry, run=run, spin_limit=spin_limit, inline=inline)
    try:
        execution.replay(recorded.events)
        waits_for = execution.waits_for
        decision = execution.decide()
    except ContinuumError as error:
        number = error.command if isinstance(error, ReplayDriftError) else execution.issued
        return Rehearsal(
            verdict=Verdict.DRIFT if isinstance(error, ReplayDriftError) else Verdict.BROKEN,
            error=error,
            matched=min(number, len(commands)),
            recorded=len(commands),
            before=tuple(commands[max(number - _BEFORE, 0) : number]),
            at=commands[number] if number < len(commands) else None,
            after=tuple(commands[number + 1 : number + 1 + _AFTER]),
            patches=execution.patches,
        )
    finally:
        execution.evict()
    return Rehearsal(
        verdict=Verdict.FITS,
        matched=len(commands),
        recorded=len(commands),
        before=tuple(commands[-_BEFORE:]),
        state=decision.state,
        waits_for=waits_for,
        news=tuple(decision.events),
        patches=execution.patches,
    )
