"""Here lives the engine of the harness: a dispatcher without threads, driven by the test.

The journal is the memory wing with a clock that is set; claims, turns, commits, mail and settlement are those of
:class:`~continuum.runtime.turns.thread.Turns`, passed by hand instead of by its thread. Hints are heard, but nobody has
to wait for them: at rest the engine looks, as a dispatcher does at each poll.

Everything here is a generator of ``async def`` bodies, so that there is one engine for tests that are a ``def`` and for
those that are an ``async def``: whoever drives it awaits them (:mod:`continuum.testing.driving`).

*At rest*: nothing is under way and nothing is due. Only then is the clock set, to the next time at which something is.

*A restart* drops every run from memory; the journal knows them, and the next look finds those that have to go on. *A
crash* drops what the process was doing, too: its worker is dead, its claims are swept, another worker takes over.
"""

import heapq
import itertools
import os
import time
from collections.abc import Callable, Generator, Sequence
from datetime import datetime, timedelta
from typing import Final

from continuum.client.instance import Continuum
from continuum.config import Settings, settings_from
from continuum.declare.executors import LOCAL
from continuum.declare.registry import Registry, WorkflowDeclaration
from continuum.errors import ConfigError
from continuum.journal.open import open_memory
from continuum.model.ids import RunId, new_worker_id
from continuum.model.leases import ClaimedRun, WorkerInfo, WorkflowVersion
from continuum.runtime.guard import guard_workflows
from continuum.runtime.lease import Lease
from continuum.runtime.turns import Turns
from continuum.runtime.turns.outlets import Outlets
from continuum.testing.calls import CallLog
from continuum.testing.clock import VirtualClock, micros
from continuum.testing.failures import HarnessError, RunGoesOn
from continuum.testing.fakes import Fakes
from continuum.testing.faults import Crashed, Faults, Restarted, Strikes, WatchedJournal
from continuum.testing.pool import Bench, Body

__all__ = ["Engine", "Steps"]

Steps = Generator[Body, None, None]

# Nobody else could take over, so the lease of a test that sits in a debugger does not end either.
_TTL: Final = timedelta(days=36_500)
# More than the first pause of a line that reconnects.
_RECONNECT: Final = 0.06
# Lines that take turns in losing answers, so that one is open mostly.
_LINES_TO_LOSE: Final = 8
# A pass costs some ten microseconds; a workflow that comes this far without time passing will not end.
MOST_PASSES: Final = 500_000
MOST_SKIPS: Final = 20_000


class Engine:
    """One journal, one clock, and the process that works on it.

    :ivar continuum: a client of the journal.
    :ivar clock: the time of everything here.
    :ivar log: every attempt so far.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        fakes: Fakes,
        faults: Faults,
        restart_always: bool,
        now: datetime | None,
    ) -> None:
        self.clock = VirtualClock(now)
        self.log = CallLog()
        self._registry = registry
        self._fakes = fakes
        self._strikes = Strikes(faults, restart_always=restart_always)
        self._memory = open_memory(now=self.clock)
        self._journal = WatchedJournal(self._memory, faults=faults, loaded=self._record_loaded)
        self._settings: Settings = settings_from(
            # One line: a run is dropped between two commits, not while another commit is on its way.
            {"url": "memory://", "commit_lines": _LINES_TO_LOSE if faults.lose_answers else 1}
        )
        self.continuum = Continuum("memory://", registry=registry, journal=self._journal.whole)
        self._recorded: set[tuple[str, int]] = set()
        self._later: list[tuple[int, int, Callable[[], object]]] = []
        self._ticket = itertools.count()
        self._lease = Lease(_TTL)
        self._bench: Bench | None = None
        self._turns: Turns | None = None
        self._moving = False

    @property
    def moving(self) -> bool:
        """Whether it is being driven: what is asked of a run now (by a fake, say) is done as it goes on."""
        return self._moving

    @property
    def stuck(self) -> dict[RunId, str]:
        """The runs that were set aside, and why."""
        return self._journal.stuck

    def record(self, flow: WorkflowDeclaration) -> None:
        """Make a workflow known, as a dispatcher does that starts."""
        if (flow.name, flow.version) not in self._recorded:
            self._recorded.add((flow.name, flow.version))
            retention = flow.entry.retention_us
            known = WorkflowVersion(flow.name, flow.version, flow.hash, flow.source, retention, flow.contract)
            self._memory.workers.record_versions([known])
            # The tripwire, for this workflow alone: of the others in this process some may never be run.
            alone = Registry()
            alone.register_workflow(flow)
            guard_workflows(alone)

    def later(self, span: timedelta, action: Callable[[], object]) -> None:
        """Call something when the clock has come so far. Raises ``ConfigError``."""
        _check_span(span, "later")
        heapq.heappush(self._later, (self.clock() + micros(span), next(self._ticket), action))

    # ------------------------------------------------------------------ time

    def rest(self) -> Steps:
        """Do everything that can be done now."""
        if self._moving:
            return
        self._moving = True
        steps = self._come_to_rest()
        try:
            while True:
                # Not while a body is awaited: another engine may work on this thread meanwhile.
                with self._strikes.armed():
                    body = next(steps, None)
                if body is None:
                    return
                yield body
        finally:
            steps.close()
            self._moving = False

    def until(self, done: Callable[[], bool]) -> Steps:
        """Come to rest and skip time, again and again, until it is done, or nothing is left to wait for."""
        self._refuse_while_moving()
        yield from self.rest()
        for _ in range(MOST_SKIPS):
            if done() or not self._skip(None):
                return
            yield from self.rest()
        message = (
            f"after {MOST_SKIPS:,} timers, retries and the like the run has still not ended; it is {self.clock.now:%c}"
            " by now. Is its loop meant to end? Move it with .advance(…), and look at it in between."
        )
        raise RunGoesOn(message)

    def advance(self, span: timedelta) -> Steps:
        """Do everything that happens in so much time, each at its time, and set the clock. Raises ``ConfigError``."""
        _check_span(span, "advance")
        self._refuse_while_moving()
        to = self.clock() + micros(span)
        yield from self.rest()
        while self._skip(to):
            yield from self.rest()
        yield from self.rest()

    def _refuse_while_moving(self) -> None:
        if self._moving:
            message = (
                "a fake may send signals and look at the run, but only the test lets time pass: write"
                " takes(timedelta(…), …) for an activity that takes long. (And of one Harness one run_async at a time.)"
            )
            raise HarnessError(message)

    def _skip(self, to: int | None) -> bool:
        """Set the clock to the next time at which something is due; False if nothing is (until then)."""
        times = [self._memory.next_due(), None if self._bench is None else self._bench.next_at()]
        times += [self._later[0][0]] if self._later else []
        at = min((time for time in times if time is not None), default=None)
        found = at is not None and (to is None or at <= to)
        if at is not None and found:
            self.clock.set(at)
        elif to is not None:
            self.clock.set(to)
        self._memory.workers.beat(self._lease.worker, _TTL)
        return found

    # ------------------------------------------------------------------ work

    def _come_to_rest(self) -> Steps:
        journal, looked = self._journal, False
        for _ in range(MOST_PASSES):
            before = journal.traffic
            try:
                bench, turns = self._open()
                self._call_due()
                yield from bench.work()
                turns.step(_RECONNECT if journal.broken else 0.0)
            except Restarted:
                self._drop_runs()
                looked = False
                continue
            except Crashed:
                self._die()
                looked = False
                continue
            due = bench.next_at()
            if journal.traffic != before or journal.broken or (due is not None and due <= self.clock()):
                looked = False
            elif not journal.flying:
                if looked:
                    return
                looked = True
                turns.look()
                bench.look()
        message = (
            f"the run has kept the engine busy for {MOST_PASSES:,} passes, and no time has passed: a loop of activities"
            " or of continue_as_new without an end?"
        )
        raise RunGoesOn(message)

    def _call_due(self) -> None:
        while self._later and self._later[0][0] <= self.clock():
            heapq.heappop(self._later)[2]()

    # ------------------------------------------------------------------ the process

    def _open(self) -> tuple[Bench, Turns]:
        if self._bench is None:
            self._bench = self._register()
        if self._turns is None:
            outlets = Outlets(
                executor=LOCAL,
                pool=self._bench,
                find_outlet=lambda _executor: None,  # all of them are here
                clock=self._memory.clock,
                deadline=self._settings.dispatch_deadline,
            )
            self._turns = Turns(
                settings=self._settings,
                journal=self._journal.whole,
                registry=self._registry,
                lease=self._lease,
                outlets=outlets,
                work_offered=_nothing,
                dead_seen=_nothing,
                let_go=_nothing,
            )
            self._turns.open()
        return self._bench, self._turns

    def _register(self) -> Bench:
        worker, sent = new_worker_id(), time.monotonic()
        self._memory.workers.register(
            WorkerInfo(id=worker, hostname="test", pid=os.getpid(), ttl=_TTL, queues=(), workflows=("every",))
        )
        self._lease.registered(worker, sent=sent)
        return Bench(
            registry=self._registry,
            journal=self._journal.whole,
            worker=worker,
            clock=self.clock,
            fakes=self._fakes,
            log=self.log,
            # The turns come and go while the bench goes on.
            deliver=lambda outcome: self._open()[1].deliver(outcome),  # noqa: PLW0108
            mailed=lambda: self._open()[1].mailed(),  # noqa: PLW0108
            max_result_bytes=self._settings.max_payload_bytes,
        )

    def _drop_runs(self) -> None:
        """Forget every run. What they still have to do is in the journal; the next look finds it."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.give_up()
        self._journal.flying = self._journal.broken = 0

    def _die(self) -> None:
        """Lose everything this process knew; its claims are swept at once instead of when its lease has run out."""
        self._bench, dead = None, self._lease.worker
        self._lease = Lease(_TTL)
        self._memory.workers.deregister(dead)
        self._drop_runs()
        self._memory.workers.reap()

    def close(self) -> None:
        """Leave nothing open and no coroutine suspended. What is asked next begins with a restart."""
        self._drop_runs()

    def _record_loaded(self, runs: Sequence[ClaimedRun]) -> None:
        for run in runs:
            flow = self._registry.find_workflow(run.workflow, run.version)
            if flow is not None:
                self.record(flow)


def _check_span(span: object, what: str) -> None:
    """Raise ``ConfigError`` unless it is a time to come."""
    if not isinstance(span, timedelta) or span < timedelta(0):
        raise ConfigError(
            f"{what}({span!r}) is not valid: time only goes on; write a timedelta, as timedelta(hours=1)."
        )


def _nothing() -> None:
    pass
