"""Here lives the group commit as the turns thread sends it: one batch for many runs, one line for one batch."""

import logging
import selectors
from datetime import timedelta

from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import CommitReply, CommitRequest, Reply
from continuum.model.decisions import Commit
from continuum.runtime.lease import Lease
from continuum.runtime.turns.settlement import Settlement
from continuum.runtime.turns.slots import Slot, SlotTable
from continuum.runtime.turns.wires import Wire
from continuum.telemetry.probes import probe

__all__ = ["Batches"]

logger = logging.getLogger("continuum.runtime")

# Limits of one commit statement: beyond them a generic plan's estimates and Postgres' memory suffer, and one
# refused batch costs more to halve.
_MOST_RUNS = 500
_MOST_BYTES = 8 * 1024 * 1024


class Batches:
    """Gathers flying commits and sends them whenever a line is idle.

    :ivar wires: the commit lines.
    """

    def __init__(
        self,
        *,
        selector: selectors.BaseSelector,
        journal: Journal,
        lines: int,
        table: SlotTable,
        settlement: Settlement,
        lease: Lease,
        patience: float,
        dispatch_deadline: timedelta,
    ) -> None:
        self._table = table
        self._settlement = settlement
        self._lease = lease
        self._dispatch_deadline = dispatch_deadline
        self._waiting: list[Slot] = []
        self.wires: list[Wire[list[Slot]]] = [
            Wire(
                selector,
                f"commit line {number}",
                journal.open_line,
                on_reply=self._answered,
                on_refused=self._refused,
                on_lost=settlement.lost,
                patience=patience,
            )
            for number in range(lines)
        ]

    def add(self, slot: Slot) -> None:
        """A slot's commit is ready to be sent."""
        self._waiting.append(slot)

    def clear(self) -> None:
        """Forget what waits; its slots were dropped."""
        self._waiting = []
        self._settlement.clear()

    def send(self) -> None:
        """Send what waits, as far as lines are idle; the rest goes on gathering."""
        self._settlement.come_due()
        again = self._settlement.again
        for wire in self.wires:
            if not again and not self._waiting:
                return
            if not wire.idle:
                continue
            if again:
                self._send(wire, again.popleft())
            else:
                batch, self._waiting = self._waiting[:_MOST_RUNS], self._waiting[_MOST_RUNS:]
                self._send(wire, batch)

    def _send(self, wire: Wire[list[Slot]], slots: list[Slot]) -> None:
        held: list[Slot] = []
        commits = []
        size = 0
        for slot in slots:
            commit = slot.commit
            if commit is None or slot.sent or not self._table.holds(slot):
                continue
            size += _size(commit)
            if held and size > _MOST_BYTES:
                self._waiting.insert(0, slot)
                continue
            slot.tries += 1
            slot.sent = True
            held.append(slot)
            commits.append(commit)
        if held:
            probe("commit.sending")
            # Crash: nothing of these turns is durable; every run is as its last commit left it, and is replayed
            # by whoever claims it after the sweep. The same world if the process dies while the batch is on its
            # way, or the statement lands and nobody hears of it.
            wire.send(held, CommitRequest(self._lease.worker, commits, self._dispatch_deadline))
            probe("commit.sent")

    def _answered(self, slots: list[Slot], reply: Reply) -> None:
        assert isinstance(reply, CommitReply)
        probe("commit.answered")
        # Crash: events, tasks and consumed mail are durable. Tasks inserted as ours are offered again by the sweep:
        # claimed ones one attempt later, dispatched ones at the same attempt. Log lines of this turn are lost; clients
        # find the result by themselves.
        self._settlement.replied(slots, reply)
        probe("commit.settled")
        # Crash: activities may have begun. The sweep offers them again, one attempt later, or fails them.

    def _refused(self, slots: list[Slot], error: ContinuumError) -> None:
        logger.warning("a batch of %d runs was refused: %s", len(slots), error)
        self._settlement.refused(slots, error)


def _size(commit: Commit) -> int:
    decision = commit.decision
    size = sum([len(event.payload) for event in decision.events if event.payload is not None])
    if decision.reaches_out:
        size += sum([len(child.started) + len(child.attributes or "") for child in decision.children])
        size += sum([len(letter.payload) for letter in decision.letters if letter.payload is not None])
        size += len(decision.attributes or "")
        if decision.successor is not None:
            size += len(decision.successor.started)
    report = commit.report
    return size if report is None else size + len(report.payload or "")
