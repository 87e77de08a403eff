"""Here lives the turns thread: deliver, drain, commit, for every run this process holds.

One thread owns all coroutines and all hot connections and sleeps in one selector, over: a bell (results of the
local pool), the ears (hints), the commit lines, the desk's line and the hint line.

One pass (``step``)::

    sleep ─► replies and hints ─► results ─► due timers ─► turn what is ready ─► send a batch ─► desk ─► hints

*Batches size themselves.* What is ready is turned into commits; if a commit line is idle the batch is sent, else it
goes on growing. There is no timer that waits for more.

*A run is in one flying commit at most.* What arrives for it meanwhile waits in its slot.

*Nothing is acted upon before the acknowledgement*: tasks are handed out, log lines emitted, clients told, only by
:class:`~continuum.runtime.turns.settlement.Settlement` once the commit is confirmed.

*Nothing is sent while the lease is not live.* A lost lease drops every run at the top of the next pass.
"""

import logging
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from continuum.config import Settings
from continuum.declare.registry import Registry
from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind, Request
from continuum.model.tasks import TaskOutcome
from continuum.runtime.lease import Lease, LeaseState
from continuum.runtime.turns.batches import Batches
from continuum.runtime.turns.crier import Crier
from continuum.runtime.turns.desk import Desk
from continuum.runtime.turns.intake import Intake
from continuum.runtime.turns.leaving import Leaving
from continuum.runtime.turns.outlets import Outlets
from continuum.runtime.turns.settlement import Settlement
from continuum.runtime.turns.slots import Slot, SlotTable
from continuum.runtime.turns.turning import Turner, explain
from continuum.runtime.turns.wires import Bell, Listener, Wire

__all__ = ["Turns"]

logger = logging.getLogger("continuum.runtime")

# How late a due timer of a flying run is looked at again, in µs.
_TIMER_RETRY = 2_000
_LONGEST_SLEEP = 1.0
# After an error of ours: long enough not to fill the disk with tracebacks.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
# How often a drain looks for parked runs to give back.
_DRAIN_PAUSE = 0.02


class Turns:
    """The thread. ``start``, ``deliver``, ``drain`` and ``stop`` may be called from others; the rest is its own.

    :param work_offered: called when a hint or a look says that free tasks wait.
    :param dead_seen: called when a look says that the reaper has work.
    :param let_go: called when every run of a lost lease has been dropped.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        journal: Journal,
        registry: Registry,
        lease: Lease,
        outlets: Outlets,
        work_offered: Callable[[], None],
        dead_seen: Callable[[], None],
        let_go: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._lease = lease
        self._outlets = outlets
        self._pool = pool = outlets.pool
        self._work_offered = work_offered
        self._let_go = let_go
        self._selector = selectors.DefaultSelector()
        self._bell: Bell[TaskOutcome] = Bell()
        self._selector.register(self._bell.fileno(), selectors.EVENT_READ, self._bell.awake)
        self._table = table = SlotTable()
        self._turner = Turner(registry=registry, clock=journal.clock, outlets=outlets, settings=settings)
        self._desk = Desk(
            workflows=tuple((flow.name, flow.version) for flow in registry.workflows()),
            hashes=tuple(flow.hash for flow in registry.workflows()),
            queues=() if pool is None else None if settings.queues is None else tuple(settings.queues),
            executors=lambda: outlets.executors,
            poll=settings.poll_interval,
        )
        self._settlement = Settlement(table=table, desk=self._desk, outlets=outlets, lease=lease, settings=settings)
        self._intake = Intake(
            settings=settings,
            table=table,
            desk=self._desk,
            settlement=self._settlement,
            turner=self._turner,
            pool=pool,
            lease=lease,
            work_offered=work_offered,
            dead_seen=dead_seen,
        )
        self._batches = Batches(
            selector=self._selector,
            journal=journal,
            lines=settings.commit_lines,
            table=table,
            settlement=self._settlement,
            lease=lease,
            dispatch_deadline=settings.dispatch_deadline,
            patience=settings.lease_ttl.total_seconds(),
        )
        self._desk_wire: Wire[Request] = Wire(
            self._selector,
            "desk line",
            journal.open_line,
            on_reply=self._intake.replied,
            on_refused=self._intake.refused,
            on_lost=self._intake.lost,
            patience=settings.lease_ttl.total_seconds(),
        )
        self._crier = Crier(selector=self._selector, journal=journal, settlement=self._settlement)
        self._wires: tuple[Wire[Any], ...] = (*self._batches.wires, self._desk_wire, self._crier.wire)
        self._listener = Listener(
            self._selector,
            lambda: journal.open_ears((HintKind.START, HintKind.MAIL, HintKind.TASKS)),
            on_hints=self._heard,
            on_deaf=self._desk.look_now,
        )
        self._stopped = threading.Event()
        self._leaving = Leaving(table=table, desk=self._desk, intake=self._intake, pool=pool, stopped=self._stopped)
        self.calm = self._leaving.calm
        self.growth = self._settlement.growth
        self._thread: threading.Thread | None = None
        self.passed = time.monotonic()

    # ------------------------------------------------------------------ from other threads

    def start(self) -> None:
        """Open every line and start the thread. Raises ``JournalUnavailable``."""
        self.open()
        self._thread = threading.Thread(target=self._loop, name="continuum-turns", daemon=True)
        self._thread.start()

    def deliver(self, outcome: TaskOutcome) -> None:
        """Take in the outcome of a task of the local pool."""
        self._bell.put(outcome)

    def mailed(self) -> None:
        """Somebody in this process posted a message: read the mail without waiting for a hint."""
        self._desk.want_mail = True
        self._desk.want_claim = True
        self._bell.ring()

    def look(self) -> None:
        """At the next pass ask whether a hint was missed, instead of at the next poll. The loop's own thread."""
        self._desk.look_now()

    def wake(self) -> None:
        """Pass the loop soon."""
        self._bell.ring()

    def drain(self, deadline: float) -> None:
        """Begin to give everything back: no more claims; at the monotonic ``deadline`` whatever is left."""
        self._leaving.begin(deadline)
        self._bell.ring()

    def stop(self, timeout: float) -> bool:
        """Wait until the drained thread has ended; return whether it did in time."""
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def give_up(self) -> None:
        """End at once what ``start`` began; nothing has been claimed yet."""
        self._stopped.set()
        if self._thread is None:
            self._close()
        else:
            self.wake()
            self._thread.join()

    @property
    def thread_id(self) -> int | None:
        """The thread's identity, for a watchdog that wants its stack."""
        return None if self._thread is None else self._thread.ident

    @property
    def silence(self) -> float:
        """Seconds since the thread passed its loop."""
        return time.monotonic() - self.passed

    @property
    def turning_since(self) -> float | None:
        """Monotonic time since when workflow code runs; None while it does not."""
        return self._intake.turning_since

    @property
    def held(self) -> int:
        """How many runs are in memory."""
        return len(self._table)

    @property
    def active(self) -> int:
        """How many of them compute or wait for activities."""
        return self._table.active

    # ------------------------------------------------------------------ the thread

    def open(self) -> None:
        """Open the ears first (a hint between looking and listening would be lost), then the lines."""
        self._listener.open()
        for wire in self._wires:
            wire.open()

    def _loop(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not self._stopped.is_set():
                try:
                    self.step()
                    pause = _FIRST_PAUSE
                except BaseException:
                    # Nobody but this loop ends the thread.
                    logger.exception("the turns thread met an unexpected error; every run is dropped and reloaded")
                    self._abandon()
                    self._stopped.wait(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._close()

    def step(self, longest: float = _LONGEST_SLEEP) -> None:
        """Pass the loop once, sleeping at most ``longest`` seconds."""
        self.passed = time.monotonic()
        if self._lease.state is not LeaseState.LIVE:
            self._let_everything_go()
        self._sleep(longest)
        self._take_results()
        if not self._lease.live:
            self._leaving.without_lease()
            return
        self._fire_timers()
        self._turn_ready()
        self._batches.send()
        self._send_desk()
        self._crier.send()
        self._leaving.give_back(busy=any(wire.busy for wire in self._wires))

    def _sleep(self, longest: float) -> None:
        timeout = self._timeout(longest)
        if timeout > 0 and not self._bell.sleeping():
            timeout = 0
        events = self._selector.select(timeout)
        self._bell.stirred()
        for key, _ in events:
            key.data()
        if not events:
            self._bell.awake()
        for wire in self._wires:
            wire.look_after()
        self._listener.reopen_if_due()

    def _timeout(self, longest: float) -> float:
        if self._bell.items:
            return 0.0
        now = time.monotonic()
        timeout = longest
        if self._lease.live:
            if self._table.ready:
                return 0.0
            if self._desk_wire.idle:
                timeout = min(timeout, max(0.0, max(self._desk.next_at, self._intake.pause_until) - now))
            due = self._table.next_timer()
            if due is not None:
                timeout = min(timeout, max(0.0, (due - self._journal.clock.now_us()) / 1e6))
        if self._leaving.begun:
            timeout = min(timeout, _DRAIN_PAUSE)
        listener, again_at = self._listener, self._settlement.retry_at
        for at in (*(wire.reopen_at for wire in self._wires), listener.reopen_at, listener.rested_at, again_at):
            if at is not None:
                timeout = min(timeout, max(0.0, at - now))
        return timeout

    def _take_results(self) -> None:
        items, table, pool = self._bell.items, self._table, self._pool
        for _ in range(len(items)):
            outcome = items.popleft()
            slot = table.find(outcome.run_id)
            if slot is not None:
                slot.results.append(outcome)
                if not slot.queued and slot.commit is None:
                    slot.queued = True
                    table.ready.append(slot)
            elif pool is not None:
                # The run is not ours (any more): hand the result in like any other worker.
                pool.hand_in(outcome)

    def _fire_timers(self) -> None:
        due = self._table.next_timer()
        if due is None:
            return
        now = self._journal.clock.now_us()
        if due > now:
            return
        for slot in self._table.due(now):
            if slot.commit is None:
                self._table.make_ready(slot)
            else:
                self._table.watch_again(slot, now + _TIMER_RETRY)

    def _turn_ready(self) -> None:
        ready, table = self._table.ready, self._table
        for _ in range(len(ready)):
            slot = ready.popleft()
            slot.queued = False
            if table.holds(slot) and slot.commit is None:
                self._turn(slot)

    def _turn(self, slot: Slot) -> None:
        self._intake.turning_since = time.monotonic()
        try:
            commit = self._turner.turn(slot)
        except BaseException as error:
            # Drift, a spinning workflow, an undecodable payload, or a bug of ours: nothing of this turn was
            # written, and a deploy can mend it.
            if not isinstance(error, ContinuumError):
                logger.exception("run %s: the engine failed to turn it", slot.run_id)
            self._settlement.stick(slot, explain(error))
            return
        finally:
            self._intake.turning_since = None
        if commit is None:
            self._settlement.forget_flown(slot)
            self._table.watch_timer(slot)
            self._table.set_active(slot, active=bool(slot.execution.open_activities))
            return
        self._table.fly(slot, commit)
        self._batches.add(slot)

    # ------------------------------------------------------------------ desk, hints, ends

    def _send_desk(self) -> None:
        if self._desk_wire.idle:
            request = self._intake.next_request(draining=self._leaving.begun)
            if request is not None:
                self._desk_wire.send(request, request)

    def _heard(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            match hint.kind:
                case HintKind.START:
                    self._desk.want_claim = True
                case HintKind.MAIL:
                    self._intake.doubt(hint.run_ids)
                    self._desk.heard_of_mail(held=len(self._table) > 0)
                    self._listener.rest(self._outlets.pause())
                case HintKind.TASKS:
                    self._work_offered()
                case HintKind.DONE:
                    pass

    def _let_everything_go(self) -> None:
        if self._lease.state is LeaseState.LOST:
            logger.warning("the lease was lost: %d runs are dropped, others may have them now", len(self._table))
            self._abandon()
            self._lease.dropped()
            self._let_go()

    def _abandon(self) -> None:
        """Drop every run; whatever is in flight may land or not, its tokens decide."""
        for slot in self._table:
            self._settlement.drop(slot)
        self._table.clear_queues()
        self._batches.clear()
        self._desk.clear()
        for wire in self._wires:
            if wire.busy:
                wire.abandon()

    def _close(self) -> None:
        for slot in self._table:
            self._settlement.drop(slot)
        for wire in self._wires:
            wire.close()
        self._listener.close()
        self._selector.close()
