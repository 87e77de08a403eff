"""Here lives the world around two dispatchers: a pool elsewhere, clients, a reaper, time, and all that goes wrong.

A schedule is a random walk over whatever may happen next. Then the faults stop, everybody gets their turn, and
each run must end; after that its history is judged. While it runs, every step is watched: who writes, who gets a
grant, which attempt is executed.
"""

import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from datetime import timedelta
from random import Random

import msgspec

from continuum.errors import RunTerminal
from continuum.journal.protocol import Line, PostResult
from continuum.journal.requests import RegrantRequest, ReleaseRequest, Reply
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import RunId, WorkerId, new_run_id
from continuum.model.leases import WorkerInfo
from continuum.model.messages import NewMessage
from continuum.model.policies import ActivityPolicy, Retry
from continuum.model.runs import NewRun, Run, Started
from continuum.model.tasks import ClaimedTask, TaskOrder, TaskOutcome
from tests.support.protocol_celery import CELERY, Celery
from tests.support.protocol_dispatcher import Action, Dispatcher, Flight
from tests.support.protocol_families import Outside, judge_forest, read_runs
from tests.support.protocol_judge import WAIT_SECONDS, Judge
from tests.support.protocol_program import Violation
from tests.support.protocol_setting import Faults, Wing
from tests.support.protocol_specs import TIMER_US, Spec, random_spec

__all__ = ["World"]

TTL = timedelta(hours=1)
DEAD = timedelta(seconds=-1)
FAIR_ROUNDS = 80
FAMILIES = 0.5  # of the schedules: runs have children, continue as new, are asked to cancel and terminated
EXTERNAL = 0.5  # of the schedules: activities of every other command are executed by an external executor


class World:
    """One schedule."""

    def __init__(
        self,
        wing: Wing,
        seed: int,
        *,
        broken: Iterable[str] = (),
        runs: int = 0,
        external: bool | None = None,
        families: bool | None = None,
    ) -> None:
        self.random, self.seed, self.wing, self.journal = Random(seed), seed, wing, wing.journal
        self.broken = frozenset(broken)
        self.log: list[str] = []
        self.watched = True  # by one thread; where several act at once, only the end is judged
        self.queue = f"queue-{seed}"
        self.workflow = f"workflow-{seed}"
        self.loaded = ((self.workflow, 1),)
        self.faults = Faults()
        self.attempts = self.random.choice((2, 20, 20))
        self.external = self.random.random() < EXTERNAL if external is None else external
        self.families = self.random.random() < FAMILIES if families is None else families
        self.outside = Outside()
        self.faults.cancels, self.faults.terminations = self.random.choice(((0, 0), (1, 0), (0, 1)))
        self.ghosts: list[Flight] = []
        self.zombies: list[tuple[WorkerId, ClaimedTask]] = []
        self.crashed: list[WorkerId] = []
        self.alive: set[WorkerId] = set()
        self.locks: dict[RunId, ExitStack] = {}
        self.runs: dict[RunId, Spec] = {}
        self.unsent: list[NewMessage] = []
        self.unsaved: list[tuple[NewMessage, Callable[[], object]]] = []
        self.sent: list[NewMessage] = []
        for number in range(runs or self.random.choice((1, 1, 2))):
            self._start_run(number)
        self.judge = Judge(wing, self.runs, self.outside)
        self.dispatchers = [Dispatcher(self, "A"), Dispatcher(self, "B")]
        self.elsewhere = self.register()
        self.job: ClaimedTask | None = None
        self.celery = Celery(self) if self.external else None

    # ---------------------------------------------------------------- beginnings

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _start_run(self, number: int) -> None:
        spec = random_spec(self.random, family=self.families)
        # The time of a run id is real, the rest comes from the seed: schedules of one seed are alike.
        run_id = RunId(new_run_id(self.now_us() + number * 1000)[:15] + self._uuid()[15:])
        started = Started(msgspec.Raw(msgspec.json.encode([spec])), "0").encode()
        self.journal.runs.start(
            NewRun(id=run_id, namespace="n", workflow=self.workflow, version=1, version_hash="h", started=started)
        )
        self.runs[run_id] = spec
        for signal in range(spec.signals):
            delivery = f"d{signal}" if self.random.random() < 0.5 else None
            self.unsent.append(NewMessage(run_id, EventType.SIGNAL_RECEIVED, "s", f'"{signal}"', delivery_id=delivery))

    def register(self) -> WorkerId:
        worker = WorkerId(self._uuid())
        self.journal.workers.register(WorkerInfo(worker, "host", 1, TTL))
        self.alive.add(worker)
        return worker

    def order(self, command: int) -> TaskOrder:
        executor = CELERY if self.external and command % 2 == 0 else None
        policy = ActivityPolicy(retry=Retry(max_attempts=self.attempts), queue=self.queue, executor=executor)
        return TaskOrder(command, "activity", "[[],{}]", policy, policy.encode())

    def claimed(self, run_id: RunId, order: TaskOrder) -> ClaimedTask:
        return ClaimedTask(run_id, order.command, 1, order.activity, order.arguments, order.policy)

    def now_us(self) -> int:
        return self.wing.now_us()

    # ---------------------------------------------------------------- doors to the journal

    def execute(self, flight: Flight, line: Line) -> Reply:
        """Let the journal execute a request, watched."""
        before = self.judge.before(flight.request) if self.watched else {}
        line.send(flight.request)
        reply = line.wait(WAIT_SECONDS)
        assert reply is not None, f"no answer to {flight.request}"
        if self.watched:
            self.judge.request(flight.request, reply, before, flight.digests)
        return reply

    def execute_attempt(self, task: ClaimedTask) -> None:
        self.judge.attempt(task)

    def take_tasks(self, worker: WorkerId) -> list[ClaimedTask]:
        return self.journal.tasks.claim(worker, queues={self.queue: 1}, limit=1)

    def finish(self, worker: WorkerId, task: ClaimedTask) -> bool:
        payload = f'"{task.command}/{task.attempt}"'
        return self.journal.tasks.finish(
            worker, TaskOutcome(task.run_id, task.command, task.attempt, task.activity, payload)
        )

    def beat(self, worker: WorkerId) -> bool:
        living = self.journal.workers.beat(worker, TTL)
        (self.alive.add if living else self.alive.discard)(worker)
        return living

    # ---------------------------------------------------------------- what may happen next

    def actions(self) -> list[Action]:
        found = [
            (f"{one.name}: {name}", act, weight)
            for one in self.dispatchers
            for name, act, weight in one.actions()
            if not (self.locks and self._waits(one, name))
        ]
        found += self.celery.actions() if self.celery is not None else []
        found += [("ghost lands", lambda g=g: self._land_ghost(g), 3) for g in self.ghosts]
        found += [("zombie finishes", lambda z=z: self._zombie(z), 2) for z in self.zombies]
        found += [("signal begins", self._begin_signal, 3)] if self.unsent else []
        found += [("signal commits", lambda s=s: self._commit_signal(s), 3) for s in self.unsaved]
        found += [("signal is sent again", self._repeat_signal, 1)] if self.sent else []
        found += [("time passes", self._pass_time, 1), ("reaper passes", self._reap, 3)]
        if self.job is None:
            found.append(("elsewhere: claims", self._claim_elsewhere, 3))
        else:
            found += [
                ("elsewhere: finishes", self._finish_elsewhere, 4),
                ("elsewhere: retries", self._retry_elsewhere, 1),
            ]
        found += [("row is unlocked", lambda run_id=run_id: self._unlock(run_id), 2) for run_id in self.locks]
        return found + self._fault_actions()

    def _waits(self, dispatcher: Dispatcher, name: str) -> bool:
        """Whether the step would wait for a row that an operator holds locked, which would stop this thread."""
        flight = dispatcher.flight
        return (
            flight is not None
            and not flight.landed
            and name.endswith("lands")
            and isinstance(flight.request, RegrantRequest | ReleaseRequest)
        )

    def _fault_actions(self) -> list[Action]:
        found: list[Action] = []
        faults = self.faults
        for one in self.dispatchers:
            if faults.crashes:
                found.append((f"{one.name}: CRASHES", lambda one=one: self._spend("crashes", one.crash), 1))
            if faults.forks and one.runs:
                found.append((f"{one.name}: FORKS", lambda one=one: self._spend("forks", one.fork), 1))
            if faults.losses and one.flight is not None:
                found.append((f"{one.name}: LOSES ITS CONNECTION", lambda one=one: self._spend("losses", one.lose), 3))
            if faults.drains and not self.locks:
                found.append((f"{one.name}: drains", lambda one=one: self._spend("drains", one.drain), 1))
        if faults.expiries:
            found += [
                (f"lease of living {w[:4]} EXPIRES", lambda w=w: self._spend("expiries", lambda: self._expire(w)), 1)
                for w in sorted(self.alive.difference(self.crashed))
            ]
        found += [(f"lease of {w[:4]} expires", lambda w=w: self._expire(w), 3) for w in self.crashed]
        if faults.requeues:
            found += [
                (f"{one.name}: {task.command} IS REQUEUED", lambda t=(one.worker, task): self._requeue(*t), 2)
                for one in self.dispatchers
                for task in [*one.pool, *one.results.values()]
                if task.attempt < self.attempts
            ]
        if self.ghosts:
            found.append(("ghost vanishes", lambda: self.ghosts.pop(0), 1))
        if faults.locks and not self.locks:
            # Rather a run that is about to be written, or nobody would notice.
            flights = [one.flight for one in self.dispatchers if one.flight is not None and not one.flight.landed]
            likely = [run_id for flight in flights for run_id in flight.digests]
            run_id = self.random.choice(likely or self.judge.run_ids)
            found.append(
                ("row is LOCKED", lambda: self._spend("locks", lambda: self._lock(run_id)), 9 if likely else 1)
            )
        if self.families and faults.cancels:
            found.append(("a run is asked to CANCEL", lambda: self._spend("cancels", self.cancel_any), 1))
        if self.families and faults.terminations and not self.locks:
            found.append(("a run is TERMINATED", lambda: self._spend("terminations", self.terminate_any), 1))
        return found

    def _spend(self, fault: str, act: Callable[[], object]) -> None:
        setattr(self.faults, fault, getattr(self.faults, fault) - 1)
        act()

    # ---------------------------------------------------------------- what happens around the dispatchers

    def _land_ghost(self, ghost: Flight) -> None:
        if self.locks and isinstance(ghost.request, RegrantRequest | ReleaseRequest):
            return
        self.ghosts.remove(ghost)
        line = self.journal.open_line()
        try:
            self.execute(ghost, line)
        finally:
            line.close()

    def _zombie(self, zombie: tuple[WorkerId, ClaimedTask]) -> None:
        self.zombies.remove(zombie)
        self.finish(*zombie)

    def _begin_signal(self) -> None:
        message = self.unsent.pop(0)
        # Whose chain has ended takes no signal; the caller is told.
        with suppress(RunTerminal):
            self.unsaved.append((message, self.wing.begin_post(message)))

    def _commit_signal(self, signal: tuple[NewMessage, Callable[[], object]]) -> None:
        self.unsaved.remove(signal)
        with suppress(RunTerminal):
            signal[1]()
            self.outside.signals.setdefault(signal[0].run_id, []).append(str(signal[0].payload))
        if signal[0].delivery_id is not None:
            self.sent.append(signal[0])

    def _repeat_signal(self) -> None:
        try:
            again = self.journal.runs.post(self.random.choice(self.sent))
        except RunTerminal:
            return
        if again is not PostResult.DUPLICATE:
            raise Violation("a delivery id was delivered twice")

    def cancel_any(self) -> None:
        """Ask some run to cancel."""
        self._cancel(self._any_run())

    def _cancel(self, run: Run) -> None:
        with suppress(RunTerminal):
            self.journal.runs.post(NewMessage(run.id, EventType.CANCEL_REQUESTED, None, None))
            self.outside.cancelled.add(run.chain_id)

    def _any_run(self) -> Run:
        if not self.watched:
            return self.random.choice(read_runs(self.journal, self.workflow))
        run = self.journal.runs.find(self.random.choice(self.judge.run_ids))
        assert run is not None
        return run

    def terminate_any(self) -> None:
        """Terminate some run."""
        run = self._any_run()
        with suppress(RunTerminal):
            self.journal.runs.terminate(run.id, namespace=None, reason="enough")
            self.outside.terminated.add(run.chain_id)

    def _pass_time(self) -> None:
        self.wing.pass_time(self.now_us() + TIMER_US)

    def _expire(self, worker: WorkerId) -> None:
        self.journal.workers.beat(worker, DEAD)

    def _reap(self) -> None:
        reaped = self.journal.workers.reap(limit=self.random.choice((0, 1, 100)))
        self.alive.difference_update(reaped.workers)
        self.crashed = [worker for worker in self.crashed if worker not in reaped.workers]

    def _lock(self, run_id: RunId) -> None:
        stack = self.locks[run_id] = ExitStack()
        stack.enter_context(self.wing.locked(run_id))

    def _unlock(self, run_id: RunId) -> None:
        self.locks.pop(run_id).close()

    def _requeue(self, worker: WorkerId, task: ClaimedTask) -> None:
        """Take a task away from a worker that goes on with it, as when its heartbeats stay out."""
        self.faults.requeues -= 1
        self.journal.tasks.retry(worker, task, failure=Failure("E", "silent"), delay=timedelta(0))

    def _claim_elsewhere(self) -> None:
        if not self.beat(self.elsewhere):
            self.elsewhere = self.register()
        for task in self.take_tasks(self.elsewhere):
            self.execute_attempt(task)
            self.job = task

    def _finish_elsewhere(self) -> None:
        task, self.job = self.job, None
        assert task is not None
        self.finish(self.elsewhere, task)

    def _retry_elsewhere(self) -> None:
        task, self.job = self.job, None
        assert task is not None
        if task.attempt == self.attempts:
            self.finish(self.elsewhere, task)
        else:
            self.journal.tasks.retry(self.elsewhere, task, failure=Failure("E", "e"), delay=timedelta(0))

    # ---------------------------------------------------------------- a schedule

    def step(self) -> None:
        """Let one thing happen."""
        actions = self.actions()
        [(name, act, _)] = self.random.choices(actions, weights=[weight for _, _, weight in actions])
        self.log.append(name)
        act()
        self.judge.watch()

    def settle(self) -> None:
        """Stop the faults, let everybody have their turn until all runs have ended, and judge the histories."""
        self.log.append("--- the faults stop")
        for run_id in list(self.locks):
            self._unlock(run_id)
        self.cancel_doomed()
        for _ in range(FAIR_ROUNDS):
            if self.ended():
                break
            self._fair_round()
        else:
            raise Violation(f"stuck: {self.judge.plight()}")
        while self.unsaved:
            self._commit_signal(self.unsaved[0])
        if self.journal.upkeep.discard_dead_mail() and not self.families:
            raise Violation("mail was left over")
        judge_forest(self.journal, self.workflow, self.runs, self.outside)

    def cancel_doomed(self) -> None:
        """Ask the runs to cancel that may wait for what does not happen otherwise."""
        for run_id in [run_id for run_id, spec in self.runs.items() if spec.doomed]:
            run = self.journal.runs.find(run_id)
            assert run is not None
            self._cancel(run)

    def ended(self) -> bool:
        """Whether all runs have."""
        return all(run.ended for run in read_runs(self.journal, self.workflow))

    def _fair_round(self) -> None:
        while self.unsent:
            self._begin_signal()
        while self.unsaved:
            self._commit_signal(self.unsaved[0])
        for ghost in list(self.ghosts):
            self._land_ghost(ghost)
        for zombie in list(self.zombies):
            self._zombie(zombie)
        if self.job is not None:
            self._finish_elsewhere()
        self._claim_elsewhere()
        if self.celery is not None:
            self.celery.settle()
        for worker in self.crashed:
            self._expire(worker)
        reaped = self.journal.workers.reap()
        self.crashed = []
        self.alive.difference_update(reaped.workers)
        self._pass_time()
        for dispatcher in self.random.sample(self.dispatchers, 2):
            self._tidy(dispatcher)
            self.judge.watch()

    def _tidy(self, one: Dispatcher) -> None:
        """Let a dispatcher do everything it has to do, once."""
        self._answer(one)
        one.beat()
        for act in (one.regrant, one.look, one.regrant, one.claim):
            if act != one.regrant or one.unsure:
                act()
                self._answer(one)
        one.reconcile()
        one.claim_task()
        for task in list(one.pool):
            one.end_attempt(task)
        if self.celery is not None:
            one.dispatch()
            while one.outbox:
                one.publish()
        for _ in range(3):
            if one.flight is None and not one.unsure and one.ready():
                one.turn()
                self._answer(one)
        while one.flight is None and any(one.is_stray(key) for key in one.results):
            one.hand_in()

    def _answer(self, one: Dispatcher) -> None:
        for _ in range(6):
            if one.flight is None:
                return
            if not one.flight.landed:
                one.land()
            one.answer()

    def close(self) -> None:
        """Leave nothing behind for the next schedule on the same journal."""
        for run_id in list(self.locks):
            self._unlock(run_id)
        for _, commit in self.unsaved:
            with suppress(RunTerminal):
                commit()
        for one in self.dispatchers:
            one.line.close()
        self.judge.close()
        for record in self.journal.workers.list_workers():
            self.journal.workers.deregister(record.id)
        while self.journal.workers.reap().more:
            pass
