"""Here lives telling others what changed: coalesced hints, after the commits, on a line of their own."""

import selectors
from typing import Final

from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind, HintRequest
from continuum.runtime.turns.settlement import Settlement
from continuum.runtime.turns.wires import Wire

__all__ = ["Crier"]

_MOST_RUNS: Final = 200


class Crier:
    """Sends hints, one statement at a time; what comes up meanwhile goes into the next one. A lost hint is lost.

    :ivar wire: the hint line.
    """

    def __init__(self, *, selector: selectors.BaseSelector, journal: Journal, settlement: Settlement) -> None:
        self._settlement = settlement
        self.wire: Wire[HintRequest] = Wire(
            selector,
            "hint line",
            journal.open_line,
            on_reply=lambda _request, _reply: None,
            on_refused=lambda _request, _error: None,
            on_lost=lambda _request: None,
        )

    def send(self) -> None:
        """Send what there is to tell, if the line is idle."""
        settlement = self._settlement
        waits = settlement.done or settlement.freed_tasks or settlement.freed_runs or settlement.posted
        if not waits or not self.wire.idle:
            return
        hints: list[Hint] = []
        if settlement.done:
            part, settlement.done = settlement.done[:_MOST_RUNS], settlement.done[_MOST_RUNS:]
            hints.append(Hint(HintKind.DONE, tuple(part)))
        if settlement.freed_tasks:
            settlement.freed_tasks = False
            hints.append(Hint(HintKind.TASKS))
        if settlement.freed_runs:
            settlement.freed_runs = False
            hints.append(Hint(HintKind.START))
        if settlement.posted:
            settlement.posted = False
            hints.append(Hint(HintKind.MAIL))
        request = HintRequest(tuple(hints))
        self.wire.send(request, request)
