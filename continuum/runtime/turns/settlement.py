"""Here lives what happens after a commit was sent: acknowledged, missed, refused, or never answered.

For each run of a batch exactly one of these becomes true:

=============================  =======================================================================
its id is in the answer        acknowledge: hand out tasks, emit log lines, tell clients
missing in the answer          inspect the row (owner, token, last_seq):
 – as expected                 somebody had a row locked, or a task claim is gone: send again, a few
                               times, after growing pauses (a transaction may stay open for an hour),
                               then reload the run and hand its local results in as messages
 – mine, last_seq = new        an earlier send had landed: acknowledge
 – otherwise                   fenced: drop the run, hand in its local results
the batch was refused          busy: send again; else halve it until the one run is found, and set
                               that run aside as ``stuck``
no answer                      never sent again blindly: take a fresh token first (which waits for,
                               and fences, the lost statement), then the row says whether it landed
=============================  =======================================================================

``# Invariant:`` a commit is brought to its end by the answer of the line it is on, and by nobody else before that. Rows
are looked up for other reasons, too, and such a look may overtake the answer.

``# Invariant:`` a local result leaves this process only by an acknowledged commit or a fenced hand-in; until then the
pool counts it as held, so that no reconcile starts the attempt again.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from continuum.config import Settings
from continuum.errors import ContinuumError
from continuum.journal.requests import CommitReply, InspectReply, StickRequest
from continuum.model.decisions import Commit, LogLine
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun, Grant
from continuum.model.runs import RunState
from continuum.runtime.lease import Lease
from continuum.runtime.turns.desk import Desk
from continuum.runtime.turns.growth import Growth
from continuum.runtime.turns.outlets import Outlets
from continuum.runtime.turns.slots import Slot, SlotTable

__all__ = ["Settlement"]

logger = logging.getLogger("continuum.runtime")

_MOST_TRIES = 5
# The first time something is sent again at once; then after a pause, and each later one is four times as long.
_UNPAUSED_TRIES = 2
_FIRST_PAUSE = 0.01
# What `logging` refuses to have overwritten by a line's own fields.
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Settlement:
    """Brings every sent commit to its end.

    :ivar again: groups of slots whose commits are to be sent (again), each as a batch of its own.
    :ivar done: ids of runs that ended, for clients that wait.
    :ivar freed_tasks: whether tasks were inserted that other pools may take.
    :ivar freed_runs: whether runs were inserted that others are to claim.
    :ivar posted: whether messages were posted to runs that are not here.
    :ivar growth: of histories, for whoever makes snapshots.
    """

    def __init__(self, *, table: SlotTable, desk: Desk, outlets: Outlets, lease: Lease, settings: Settings) -> None:
        self._table = table
        self._desk = desk
        self._outlets = outlets
        self._pool = outlets.pool
        self._lease = lease
        self._backoff, self._longest_backoff = settings.stuck_backoff, settings.stuck_backoff_max
        self._lines: list[tuple[RunId, LogLine]] = []
        self._later: list[tuple[float, Slot, Commit]] = []
        self.again: deque[list[Slot]] = deque()
        self.done: list[str] = []
        self.freed_tasks = False
        self.freed_runs = False
        self.posted = False
        self.growth = Growth()

    @property
    def retry_at(self) -> float | None:
        """Monotonic time from which something is to be sent again; None if nothing waits for that."""
        return min((at for at, _, _ in self._later), default=None)

    def come_due(self) -> None:
        """Move what was put off until now to ``again``."""
        if self._later:
            now = time.monotonic()
            due = [(slot, commit) for at, slot, commit in self._later if at <= now]
            self._later = [item for item in self._later if item[0] > now]
            # Whatever else has happened to it meanwhile has been seen to.
            self.again += [[slot] for slot, commit in due if slot.commit is commit]

    def clear(self) -> None:
        """Forget what was to be sent again."""
        self.again.clear()
        self._later.clear()

    # ------------------------------------------------------------------ answers

    def replied(self, slots: Sequence[Slot], reply: CommitReply) -> None:
        """The batch was executed."""
        written = reply.written
        for slot in slots:
            slot.sent = False
            if not self._table.holds(slot):
                continue
            if slot.run_id in written:
                self._acknowledge(slot)
            else:
                self._desk.inspects.add(slot.run_id)
        self._act()

    def refused(self, slots: Sequence[Slot], error: ContinuumError) -> None:
        """Nothing of the batch was written."""
        for slot in slots:
            slot.sent = False
        held = [slot for slot in slots if self._table.holds(slot)]
        if not held:
            return
        if error.transient and held[0].tries < _MOST_TRIES:
            self.again.append(held)
        elif len(held) > 1:
            middle = len(held) // 2
            self.again.append(held[:middle])
            self.again.append(held[middle:])
        elif error.transient:
            self._reload(held[0])
        else:
            self.stick(held[0], f"its journal entries cannot be stored: {error}")

    def lost(self, slots: Sequence[Slot]) -> None:
        """Nobody knows whether the batch was, or will be, executed."""
        for slot in slots:
            slot.sent = False
            if self._table.holds(slot):
                self._desk.regrants[slot.run_id] = slot.token

    def inspected(self, wanted: Iterable[RunId], reply: InspectReply) -> None:
        """The rows of runs that an answer missed."""
        states = {state.run_id: state for state in reply.states}
        for run_id in wanted:
            slot, state = self._table.find(run_id), states.get(run_id)
            mine = state is not None and state.owner == self._lease.worker
            if slot is None:
                if state is not None and mine:
                    # A claim or re-grant that landed without an answer.
                    self._desk.regrants[run_id] = state.token
            elif slot.sent:
                # What was read is from before its commit, or from after it: the answer says which.
                continue
            elif state is None or not mine:
                self.drop(slot)
            elif state.token != slot.token:
                self._desk.regrants[run_id] = state.token
            elif slot.commit is not None and slot.tries:
                self._compare(slot, slot.commit, state.last_seq)
        self._act()

    def regranted(self, wanted: Iterable[Grant], runs: Sequence[ClaimedRun]) -> list[ClaimedRun]:
        """Fresh tokens arrived. Returns the runs that have to be admitted anew."""
        fresh: list[ClaimedRun] = []
        loaded = {run.run_id: run for run in runs}
        for grant in wanted:
            slot, run = self._table.find(grant.run_id), loaded.get(grant.run_id)
            if run is None:
                if slot is not None:
                    self.drop(slot)
            elif slot is None:
                fresh.append(run)
            else:
                slot.token = run.token
                if slot.commit is not None:
                    slot.commit = msgspec.structs.replace(slot.commit, token=run.token)
                    if slot.tries and not slot.sent:
                        self._compare(slot, slot.commit, run.last_seq)
        self._act()
        return fresh

    # ------------------------------------------------------------------ ends

    def drop(self, slot: Slot) -> None:
        """Forget a run that is not ours any more; nothing of its flying commit is acted upon."""
        if not self._table.remove(slot):
            return
        if slot.commit is not None:
            self._outlets.unreserve(slot.commit)
        pool = self._pool
        if pool is not None:
            for outcome in (*slot.flown, *slot.results):
                pool.hand_in(outcome)
        self._table.land(slot)
        slot.execution.evict()

    def stick(self, slot: Slot, reason: str) -> None:
        """Set a run aside until a deploy or an operator helps."""
        logger.error("run %s is stuck: %s", slot.run_id, reason)
        self.stick_grant(slot.grant, reason)
        self.drop(slot)

    def stick_grant(self, grant: Grant, reason: str, *, grants: int = 0) -> None:
        """Set aside a run that never got a slot; ``grants``: see :class:`StickRequest`."""
        self._desk.sticks.append(
            StickRequest(self._lease.worker, grant, reason, self._backoff, grants, self._longest_backoff)
        )

    def forget_flown(self, slot: Slot) -> None:
        """The outcomes delivered last need no keeping: they are journaled, or nobody wanted them."""
        if slot.flown and self._pool is not None:
            self._pool.settle([(o.run_id, o.command, o.attempt) for o in slot.flown])
        slot.flown = []

    # ------------------------------------------------------------------ inner

    def _compare(self, slot: Slot, commit: Commit, last_seq: int) -> None:
        new_seq = commit.seen + len(commit.decision.events)
        if last_seq == new_seq and commit.decision.events:
            self._acknowledge(slot)
        elif last_seq != commit.seen or slot.tries >= _MOST_TRIES:
            self._reload(slot)
        elif slot.tries < _UNPAUSED_TRIES:
            self.again.append([slot])
        else:
            pause = _FIRST_PAUSE * 4 ** (slot.tries - _UNPAUSED_TRIES)
            self._later.append((time.monotonic() + pause, slot, commit))

    def _reload(self, slot: Slot) -> None:
        token = slot.token
        self.drop(slot)
        self._desk.regrants[slot.run_id] = token

    def _acknowledge(self, slot: Slot) -> None:
        commit = slot.commit
        assert commit is not None
        self._table.land(slot)
        slot.tries = 0
        slot.adopt = None
        decision = commit.decision
        if commit.woke:
            slot.row_wake = decision.wake_at
        if commit.consumed:
            self._desk.consumed(commit.consumed)
            for message_id in commit.consumed:
                letter = slot.mail.pop(message_id, None)
                if letter is not None and letter.command is not None and letter.run_id is not None:
                    self._outlets.arrived(letter.run_id, letter.command)
        self.forget_flown(slot)
        if self._outlets.acknowledged(commit):
            self.freed_tasks = True
        for line in decision.logs:
            self._lines.append((slot.run_id, line))
        ended = slot.execution.ended
        if ended:
            self._end(slot, decision.state)
        elif commit.seen + len(decision.events) >= slot.fold_at:
            slot.fold(commit.seen + len(decision.events))
            self.growth.grew(slot.run_id)
        if commit.reaches_out:
            self._reached_out(commit)
        if ended:
            return
        self._table.set_active(slot, active=decision.state is RunState.RUNNING)
        self._table.touch(slot)
        self._table.watch_timer(slot)
        if slot.results or slot.mail:
            self._table.make_ready(slot)

    def _reached_out(self, commit: Commit) -> None:
        """A commit has brought others something: whoever is here looks at once, whoever is not is told."""
        decision, report, table, desk = commit.decision, commit.report, self._table, self._desk
        if decision.children or decision.successor is not None:
            # Whatever a chain goes on with is loaded here.
            new_runs = {(child.workflow, child.version) for child in decision.children}
            self.freed_runs = desk.inserted(new_runs) or self.freed_runs
        addressees = [] if report is None else [table.find(report.parent_id)]
        if decision.letters:
            # Those to a run that this commit has inserted come with the claim of it.
            new: set[str] = {child.id for child in decision.children}
            if decision.successor is not None:
                new.add(commit.chain_id)
            addressees += [table.of_chain(letter.chain_id) for letter in decision.letters if letter.chain_id not in new]
        if decision.cascade is not None:
            addressees.append(None)
        if None in addressees:
            self.posted = True
            desk.heard_of_mail(held=len(table) > 0)
        elif addressees:
            # Nobody else can read it: no hint.
            desk.want_mail = True

    def _end(self, slot: Slot, state: RunState) -> None:
        self._table.remove(slot)
        if slot.folded:
            self.growth.ended(slot.run_id)
        pool = self._pool
        if pool is not None:
            # The terminal commit took the run's task rows with it.
            pool.settle([(o.run_id, o.command, o.attempt) for o in slot.results])
        slot.execution.evict()
        if state is not RunState.CONTINUED:
            # Clients wait for the chain, by the id they started it under.
            self.done.append(slot.run_id)
            if str(slot.chain_id) != slot.run_id:
                self.done.append(slot.chain_id)

    def _act(self) -> None:
        self._outlets.hand_out()
        lines, self._lines = self._lines, []
        for run_id, line in lines:
            _emit(run_id, line)


def _emit(run_id: RunId, line: LogLine) -> None:
    """Log a line of workflow code. Its fields, and the user's handlers, must not disturb anybody."""
    fields = {f"{name}_" if name in _RESERVED else name: value for name, value in line.fields.items()}
    try:
        logging.getLogger(line.logger).log(line.level, "%s", line.message, extra={**fields, "run_id": run_id})
    except Exception:
        logger.exception("a log line of run %s could not be emitted", run_id)
