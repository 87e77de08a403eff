"""Here live the runs this process holds, and in which order their timers come due.

A slot is a grant with a coroutine behind it. At any moment it is in exactly one of these states:

- *ready*: something waits to be delivered; it is in the table's ``ready`` queue;
- *flying*: its decision is in a batch or in a commit under way; nothing is delivered until that is settled;
- *parked*: it waits for the outside; its coroutine sleeps in memory.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator

from continuum.model.decisions import Commit
from continuum.model.ids import ChainId, RunId
from continuum.model.leases import Grant
from continuum.model.messages import Message
from continuum.model.runs import ParentLink
from continuum.model.tasks import TaskOutcome
from continuum.replay.execution import Execution
from continuum.runtime.turns.growth import fold_at

__all__ = ["Slot", "SlotTable"]

_SPARE_TIMERS = 64


class Slot:
    """One run in memory.

    :ivar workflow: name of its workflow.
    :ivar parent: who started it as a child, None if nobody.
    :ivar token: the grant's fencing token.
    :ivar row_wake: what ``wake_at`` holds in the database.
    :ivar results: local outcomes not yet delivered.
    :ivar mail: messages read and not yet consumed, by id; those of the flying commit are among them.
    :ivar commit: the flying commit, None if there is none.
    :ivar flown: the local outcomes it holds, kept until it is settled.
    :ivar tries: how often the flying commit was sent.
    :ivar sent: whether it is on a line, and that line's answer is still to come.
    :ivar watched: the time its entry among the timers stands for, None if it has none.
    :ivar active: whether it computes or waits for activities, rather than for the outside.
    :ivar folded: through which event its last snapshot reaches, or will once it is made; 0 if it has none.
    :ivar fold_at: the sequence number at which it wants the next one.
    """

    __slots__ = (
        "active",
        "adopt",
        "chain_id",
        "commit",
        "execution",
        "flown",
        "fold_at",
        "folded",
        "last_at",
        "mail",
        "parent",
        "queued",
        "results",
        "retention_us",
        "row_wake",
        "run_id",
        "sent",
        "threshold",
        "token",
        "tries",
        "watched",
        "workflow",
    )

    def __init__(
        self,
        *,
        run_id: RunId,
        chain_id: ChainId,
        workflow: str,
        parent: ParentLink | None,
        token: int,
        execution: Execution,
        row_wake: int | None,
        retention_us: int | None,
        adopt: str | None,
        last_at: int,
        threshold: int | None = None,
        folded: int = 0,
    ) -> None:
        self.run_id = run_id
        self.chain_id = chain_id
        self.workflow = workflow
        self.parent = parent
        self.token = token
        self.execution = execution
        self.row_wake = row_wake
        self.retention_us = retention_us
        self.adopt = adopt
        self.last_at = last_at
        self.results: list[TaskOutcome] = []
        self.mail: dict[int, Message] = {}
        self.commit: Commit | None = None
        self.flown: list[TaskOutcome] = []
        self.tries = 0
        self.sent = False
        self.queued = False
        self.active = False
        self.watched: int | None = None
        self.threshold = threshold
        self.folded = folded
        self.fold_at = fold_at(threshold, folded)

    @property
    def grant(self) -> Grant:
        """The right under which the run is written."""
        return Grant(self.run_id, self.token)

    def fold(self, last_seq: int) -> None:
        """Say that a snapshot through this event is on its way."""
        self.folded = last_seq
        self.fold_at = fold_at(self.threshold, self.folded)


class SlotTable:
    """All runs in memory, by id and by chain, least recently used first."""

    def __init__(self) -> None:
        self._slots: OrderedDict[RunId, Slot] = OrderedDict()
        self._chains: dict[ChainId, Slot] = {}
        self._timers: list[tuple[int, RunId]] = []
        self._audited = 0
        self.ready: deque[Slot] = deque()
        # Runs that compute or wait for activities; the others are parked and cost nothing but memory.
        self.active = 0
        # How many commits are flying; the slots keep the count.
        self.flying = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))

    def find(self, run_id: RunId) -> Slot | None:
        """Return the run's slot."""
        return self._slots.get(run_id)

    @property
    def turning(self) -> bool:
        """Whether anything is being turned or committed."""
        return bool(self.ready or self.flying)

    def fly(self, slot: Slot, commit: Commit) -> None:
        """The slot's decision was taken; nothing is delivered to it until the commit is settled."""
        slot.commit = commit
        self.flying += 1

    def land(self, slot: Slot) -> None:
        """The flying commit is settled."""
        if slot.commit is not None:
            slot.commit = None
            self.flying -= 1

    def clear_queues(self) -> None:
        """Forget what was to be turned: every slot has been removed."""
        self.ready.clear()
        self._timers.clear()

    def quiet(self, most: int) -> list[Slot]:
        """Return slots without a flying commit, others at each call until all have had their turn."""
        slots = [slot for slot in self._slots.values() if slot.commit is None]
        if not slots:
            return []
        begin = self._audited % len(slots)
        self._audited = begin + most
        return slots[begin : begin + most]

    def of_chain(self, chain_id: ChainId) -> Slot | None:
        """Return the slot of the chain's tip, if it is here."""
        return self._chains.get(chain_id)

    def add(self, slot: Slot) -> None:
        """Take in a run."""
        self._slots[slot.run_id] = slot
        self._chains[slot.chain_id] = slot
        self.set_active(slot, active=True)

    def set_active(self, slot: Slot, *, active: bool) -> None:
        """Count the run as active or parked."""
        if slot.active is not active:
            slot.active = active
            self.active += 1 if active else -1

    def remove(self, slot: Slot) -> bool:
        """Forget a run; False if this very slot is not (or no longer) the run's."""
        if self._slots.get(slot.run_id) is not slot:
            return False
        del self._slots[slot.run_id]
        self.set_active(slot, active=False)
        if self._chains.get(slot.chain_id) is slot:
            del self._chains[slot.chain_id]
        return True

    def holds(self, slot: Slot) -> bool:
        """Whether this very slot is still the run's."""
        return self._slots.get(slot.run_id) is slot

    def touch(self, slot: Slot) -> None:
        """The run was used just now."""
        self._slots.move_to_end(slot.run_id)

    def make_ready(self, slot: Slot) -> None:
        """The run has something to deliver; it is turned unless its commit is flying."""
        if not slot.queued and slot.commit is None:
            slot.queued = True
            self.ready.append(slot)

    def watch_timer(self, slot: Slot) -> None:
        """Remember when the run's earliest timer comes due."""
        due = slot.execution.earliest_timer
        if due is not None and due != slot.watched:
            slot.watched = due
            heapq.heappush(self._timers, (due, slot.run_id))
            if len(self._timers) > 2 * len(self._slots) + _SPARE_TIMERS:
                # A cancelled timer (each timeout around a step) leaves its entry until its time has come.
                self._timers.clear()
                for other in self._slots.values():
                    other.watched = other.execution.earliest_timer
                    if other.watched is not None:
                        self._timers.append((other.watched, other.run_id))
                heapq.heapify(self._timers)

    def watch_again(self, slot: Slot, at: int) -> None:
        """Its timer is due, but its commit is flying: look again at the given time (µs)."""
        heapq.heappush(self._timers, (at, slot.run_id))

    def next_timer(self) -> int | None:
        """Return when the next timer may come due (it may have been cancelled since), in µs."""
        return self._timers[0][0] if self._timers else None

    def due(self, now: int) -> list[Slot]:
        """Return the slots with a timer due, and forget those entries."""
        timers = self._timers
        found: list[Slot] = []
        while timers and timers[0][0] <= now:
            at, run_id = heapq.heappop(timers)
            slot = self._slots.get(run_id)
            if slot is None:
                continue
            if slot.watched == at:
                slot.watched = None
            earliest = slot.execution.earliest_timer
            if earliest is not None and earliest <= now:
                found.append(slot)
            else:
                self.watch_timer(slot)
        return found

    def coldest(self) -> Iterator[Slot]:
        """Yield parked slots, least recently used first."""
        for slot in list(self._slots.values()):
            if slot.commit is None and not slot.queued and not slot.results and not slot.mail:
                yield slot
