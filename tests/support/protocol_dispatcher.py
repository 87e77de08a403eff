"""Here lives a dispatcher reduced to its protocol: claims, turns, commits, hand-ins, doubts about lost answers.

One request in flight. Every rule of ``protocol.md`` that binds a dispatcher is a line in here; `Rule` names those that
the tests take away one by one.
"""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from continuum.journal.requests import (
    ClaimReply,
    ClaimRequest,
    CommitReply,
    CommitRequest,
    InspectReply,
    InspectRequest,
    LookReply,
    LookRequest,
    MailReply,
    MailRequest,
    RegrantRequest,
    ReleaseRequest,
    Request,
)
from continuum.model.decisions import Commit
from continuum.model.ids import RunId, WorkerId
from continuum.model.leases import ClaimedRun, Grant
from continuum.model.messages import Message
from continuum.model.tasks import ClaimedTask, TaskRef
from tests.support.protocol_celery import CELERY, DEADLINE
from tests.support.protocol_held import Held, Key, key_of

if TYPE_CHECKING:
    from tests.support.protocol_world import World

__all__ = ["Action", "Dispatcher", "Flight", "Rule"]

Action = tuple[str, Callable[[], object], int]


class Rule(StrEnum):
    """A rule that binds dispatchers, and can be taken away."""

    REGRANT = "after a lost answer, re-grant before anything else (else: send again verbatim)"
    RECONCILE = "start tasks that are claimed by me but in no pool of mine"
    HAND_IN = "hand in local results of runs that are no longer mine"
    OWNER_POLL = "look for mail of my own runs"
    ADOPT = "re-grant due runs that are mine without my knowing"


class Flight:
    """A request on its way: not executed yet, executed, or answered."""

    def __init__(self, request: Request, digests: dict[RunId, int] | None = None) -> None:
        self.request = request
        self.digests = digests or {}
        self.landed = False
        self.reply: Any = None


class Dispatcher:
    """One dispatcher process, and its successors after each death."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name, self.random = world, name, world.random
        self.line = world.journal.open_line()
        self.begin()

    def begin(self) -> None:
        """Start as a new process."""
        self.worker: WorkerId = self.world.register()
        self.runs: dict[RunId, Held] = {}
        self.unsure: dict[RunId, int] = {}
        self.flight: Flight | None = None
        self.used: dict[RunId, list[Key]] = {}
        self.missing: list[Commit] = []
        self.pool: list[ClaimedTask] = []
        self.results: dict[Key, ClaimedTask] = {}
        self.outbox: list[TaskRef] = []
        self.sent: set[TaskRef] = set()

    def obeys(self, rule: Rule) -> bool:
        return rule not in self.world.broken

    # ---------------------------------------------------------------- what may happen next

    def actions(self) -> list[Action]:
        """Return what this dispatcher may do now, with weights."""
        found: list[Action] = [
            (f"{task.command}a{task.attempt} ends in its pool", lambda task=task: self.end_attempt(task), 6)
            for task in self.pool
        ]
        found.append(("beats", self.beat, 2))
        # The outbox is a thread of its own: it needs no answer of the turns thread.
        found += [("publishes", self.publish, 24)] if self.outbox else []
        found += [("dispatches", self.dispatch, 8)] if self.world.external else []
        if self.flight is not None:
            kind = type(self.flight.request).__name__
            if not self.flight.landed:
                return [*found, (f"{kind} lands", self.land, 14)]
            return [*found, (f"{kind} is answered", self.answer, 14)]
        if self.unsure:
            return [*found, ("re-grants", self.regrant, 12)]
        found += [("claims", self.claim, 3), ("looks", self.look, 2), ("reconciles", self.reconcile, 1)]
        if self.runs:
            found += [("reads mail", self.read_mail, 3), ("releases a run", self.release, 1)]
        if self.ready():
            found.append(("turns", self.turn, 14))
        if any(self.is_stray(key) for key in self.results):
            found.append(("hands in a result", self.hand_in, 6))
        if len(self.pool) < 2:
            found.append(("pool claims a task", self.claim_task, 3))
        return found

    # ---------------------------------------------------------------- requests

    def send(self, request: Request, digests: dict[RunId, int] | None = None) -> None:
        assert self.flight is None
        self.flight = Flight(request, digests)

    def land(self) -> None:
        """Let the journal execute what is in flight; the answer is still under way."""
        assert self.flight is not None
        self.flight.reply = self.world.execute(self.flight, self.line)
        self.flight.landed = True

    def answer(self) -> None:
        """Take in the answer."""
        flight, self.flight = self.flight, None
        assert flight is not None
        match flight.request, flight.reply:
            case CommitRequest(commits=commits), CommitReply(written=written):
                self.committed(list(commits), written)
            case InspectRequest(), InspectReply(states=states):
                self.inspected({state.run_id: state for state in states})
            case RegrantRequest(), ClaimReply(runs=runs):
                self.unsure.clear()  # those that did not come back are no longer mine
                self.load(runs)
            case ClaimRequest(), ClaimReply(runs=runs):
                self.load(runs)
            case MailRequest(), MailReply(messages=messages):
                self.take_mail(messages)
            case LookRequest(), LookReply(messages=messages, due=due):
                self.take_mail(messages)
                self.adopt(due)
            case _:
                pass

    def lose(self) -> None:
        """The connection breaks: whether the request was, or will be, executed is unknown."""
        flight, self.flight = self.flight, None
        assert flight is not None
        self.line.close()
        self.line = self.world.journal.open_line()
        if not flight.landed:
            self.world.ghosts.append(flight)
        match flight.request:
            case CommitRequest() if not self.obeys(Rule.REGRANT):
                self.send(flight.request, flight.digests)
            case CommitRequest(commits=commits):
                for commit in commits:
                    self.doubt(commit)
            case InspectRequest():
                for commit in self.missing:
                    self.doubt(commit)
            case _:
                pass  # a claim shows in a look; a regrant is asked for again; a released run is forgotten

    def doubt(self, commit: Commit) -> None:
        """Stop using a run until a fresh token shows what became of its commit."""
        self.unsure[commit.run_id] = commit.token
        self.drop(commit.run_id)

    def drop(self, run_id: RunId) -> None:
        """Forget a run; results that its unfinished commit held are in the outbox again."""
        self.runs.pop(run_id, None)
        self.used.pop(run_id, None)

    # ---------------------------------------------------------------- grants

    def claim(self) -> None:
        self.send(ClaimRequest(self.worker, self.world.loaded, self.random.choice((1, 5))))

    def regrant(self) -> None:
        grants = tuple(Grant(run_id, token) for run_id, token in self.unsure.items())
        self.send(RegrantRequest(self.worker, grants))

    def adopt(self, due: list[Grant]) -> None:
        if not self.obeys(Rule.ADOPT):
            return
        for grant in due:
            held = self.runs.get(grant.run_id)
            if held is None or held.token != grant.token:
                self.drop(grant.run_id)
                self.unsure[grant.run_id] = grant.token

    def load(self, runs: list[ClaimedRun]) -> None:
        for run in runs:
            self.runs[run.run_id] = Held(run)
        if runs:
            self.reconcile()

    def reconcile(self) -> None:
        """Start what is claimed by this worker in the journal and known nowhere here."""
        if not self.obeys(Rule.RECONCILE):
            return
        known = {key_of(task) for task in self.pool} | set(self.results)
        for task in self.world.journal.tasks.held(self.worker):
            if key_of(task) not in known:
                self.start(task)
        if self.world.external:
            marked = self.world.journal.tasks.undelivered(self.worker, executor=CELERY)
            self.outbox += [ref for ref in marked if ref not in self.sent and ref not in self.outbox]

    def release(self) -> None:
        held = self.random.choice(list(self.runs.values()))
        self.drop(held.run_id)
        self.send(ReleaseRequest(self.worker, (Grant(held.run_id, held.token),)))

    # ---------------------------------------------------------------- mail

    def look(self) -> None:
        self.send(LookRequest(self.worker, self.world.loaded, (self.world.queue,), 10))

    def read_mail(self) -> None:
        self.send(MailRequest(self.worker, self.random.choice((1, 10))))

    def take_mail(self, messages: list[Message]) -> None:
        if not self.obeys(Rule.OWNER_POLL):
            return
        for message in messages:
            for held in self.runs.values():
                if held.chain_id == message.chain_id:
                    held.box[message.id] = message

    # ---------------------------------------------------------------- turns

    def ready(self) -> list[Held]:
        return [held for held in self.runs.values() if held.completions(self.results, self.world.now_us())]

    def turn(self) -> None:
        """Deliver something to some runs and send one commit for all of them."""
        ready = self.ready()
        chosen = self.random.sample(ready, self.random.randint(1, len(ready)))
        commits = [self.decide(held) for held in chosen]
        self.send(CommitRequest(self.worker, commits), {held.run_id: held.program.digest for held in chosen})

    def decide(self, held: Held) -> Commit:
        commit, self.used[held.run_id] = held.decide(self.random, self.results, self.world)
        return commit

    # ---------------------------------------------------------------- answers to commits

    def committed(self, commits: list[Commit], written: frozenset[str]) -> None:
        self.missing = []
        for commit in commits:
            if commit.run_id in written:
                self.acknowledge(commit)
            else:
                self.missing.append(commit)
        if self.missing:
            self.send(InspectRequest(tuple(commit.run_id for commit in self.missing)))

    def acknowledge(self, commit: Commit) -> None:
        """It is durable: only now act upon it."""
        held = self.runs[commit.run_id]
        held.last_seq += len(commit.decision.events)
        held.wake_at = commit.decision.wake_at
        for message_id in commit.consumed:
            held.box.pop(message_id, None)
        for key in self.used.pop(commit.run_id):
            self.results.pop(key, None)
        for order in commit.decision.orders:
            if order.command in commit.claimed:
                self.start(self.world.claimed(commit.run_id, order))
            elif order.command in commit.dispatched:
                self.outbox.append(TaskRef(commit.run_id, order.command, 1))
        if held.program.ended:
            del self.runs[commit.run_id]

    def inspected(self, states: dict[RunId, Any]) -> None:
        again: list[Commit] = []
        for commit in self.missing:
            state = states[commit.run_id]
            mine = state.owner == self.worker and state.token == commit.token
            if mine and state.last_seq == commit.seen:
                if self.still_claimed(commit):
                    again.append(commit)  # somebody held a lock
                else:
                    self.doubt(commit)
            elif mine and state.last_seq == commit.seen + len(commit.decision.events):
                self.acknowledge(commit)  # it had landed
            else:
                self.drop(commit.run_id)  # fenced
        self.missing = []
        if again:
            digests = {commit.run_id: self.runs[commit.run_id].program.digest for commit in again}
            self.send(CommitRequest(self.worker, again), digests)

    def still_claimed(self, commit: Commit) -> bool:
        """Whether the claims hold; results of those that do not are thrown away."""
        held = {key_of(task) for task in self.world.journal.tasks.held(self.worker)}
        lost = [key for key in self.used[commit.run_id] if key not in held]
        for key in lost:
            del self.results[key]
        return not lost

    # ---------------------------------------------------------------- local pool

    def start(self, task: ClaimedTask) -> None:
        self.world.execute_attempt(task)
        self.pool.append(task)

    def end_attempt(self, task: ClaimedTask) -> None:
        self.pool.remove(task)
        self.results[key_of(task)] = task

    def claim_task(self) -> None:
        for task in self.world.take_tasks(self.worker):
            self.start(task)

    def is_stray(self, key: Key) -> bool:
        """Whether a result cannot go into a commit of this dispatcher any more."""
        if key[0] in self.unsure or any(key in used for used in self.used.values()):
            return False
        held = self.runs.get(key[0])
        return held is None or key[1] not in held.program.open

    def hand_in(self) -> None:
        key = next(key for key in self.results if self.is_stray(key))
        task = self.results.pop(key)
        if self.obeys(Rule.HAND_IN):
            self.world.finish(self.worker, task)

    # ---------------------------------------------------------------- outbox

    def dispatch(self) -> None:
        """Mark free tasks of the executor; publish them later."""
        room = self.random.choice((1, 100))
        marked = self.world.journal.tasks.dispatch(
            self.worker, executor=CELERY, rooms={self.world.queue: room}, room=0, limit=100, deadline=DEADLINE
        )
        for task in marked.tasks:
            self.sent.discard(task.ref)
            self.outbox.append(task.ref)

    def publish(self) -> None:
        """Publish the message of one marked task."""
        ref = self.outbox.pop(0)
        self.sent.add(ref)
        self.world.celery.publish(ref)

    # ---------------------------------------------------------------- life

    def beat(self) -> None:
        """Prolong the lease, or learn that this process is dead and start as another."""
        if not self.world.beat(self.worker):
            self.world.zombies += [(self.worker, task) for task in [*self.pool, *self.results.values()]]
            self.die()

    def crash(self) -> None:
        """Everything in memory is gone; the row stays until its lease expires."""
        self.world.crashed.append(self.worker)
        self.die()

    def fork(self) -> None:
        """Go on under another id, with the memory of a process that is gone."""
        runs = {run_id: held for run_id, held in self.runs.items() if run_id not in self.used}
        self.crash()
        self.runs = runs

    def die(self) -> None:
        if self.flight is not None and not self.flight.landed:
            self.world.ghosts.append(self.flight)
        self.begin()

    def drain(self) -> None:
        """Give everything back in order, sure of it or not, and start anew."""
        grants = [Grant(held.run_id, held.token) for held in self.runs.values()]
        grants += [Grant(run_id, token) for run_id, token in self.unsure.items()]
        self.world.execute(Flight(ReleaseRequest(self.worker, tuple(grants))), self.line)
        for task in [*self.pool, *self.results.values()]:
            self.world.finish(self.worker, task)
        self.world.journal.tasks.defer(self.outbox, delay=timedelta(0))
        self.world.journal.tasks.hand_over(self.worker)
        self.world.journal.workers.deregister(self.worker)
        self.die()
