"""Here lives what tests of a journal say often: make a run, claim it, commit something to it, look at the result.

A `Desk` is a journal with one line, on either wing; its methods fail when the journal refuses what they ask for, so a
test that wants to see a refusal uses `ask`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec

from continuum.journal.protocol import Journal, PostResult
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
    ReleaseReply,
    ReleaseRequest,
    Reply,
    Request,
    StickRequest,
)
from continuum.model.decisions import Commit, Decision
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure
from continuum.model.ids import RunId, WorkerId, new_run_id, new_worker_id
from continuum.model.leases import ClaimedRun, Grant, GrantState, WorkerInfo
from continuum.model.messages import NewMessage
from continuum.model.policies import ActivityPolicy, Retry
from continuum.model.runs import NewRun, Run, RunState
from continuum.model.tasks import ClaimedTask, TaskOrder, TaskOutcome

__all__ = [
    "DEAD",
    "FAILURE",
    "HOUR",
    "NOW",
    "STARTED",
    "Desk",
    "commit_of",
    "event",
    "failed",
    "grant_of",
    "moved",
    "order",
    "succeeded",
]

HOUR = timedelta(hours=1)
NOW = timedelta(0)
DEAD = timedelta(seconds=-1)  # a lease of this length has expired when it begins
STARTED = '{"input":[1],"seed":"5eed"}'
FAILURE = Failure("ValueError", "no", attempts=1)
HOUR_US = 3_600_000_000
WAIT_SECONDS = 20.0
WORKFLOW = "order"
REACH = ("children", "letters", "cascade", "attributes", "successor")  # what a decision asks for of other runs


def event(
    kind: EventType,
    *,
    command: int | None = None,
    name: str | None = None,
    payload: str | None = None,
    at: int = 0,
    location: str | None = None,
) -> Event:
    """Return an event that `commit_of` will number."""
    return Event(0, kind, command, name, payload, at, location)


def order(
    command: int,
    *,
    queue: str = "default",
    priority: int = 0,
    attempts: int = 3,
    executor: str | None = None,
    activity: str = "charge",
    arguments: str = "[[1],{}]",
    idempotency_key: str | None = None,
    gives_up: bool = False,
    timeout: timedelta = HOUR,
    heartbeat_timeout: timedelta | None = None,
) -> TaskOrder:
    policy = ActivityPolicy(
        retry=Retry(max_attempts=attempts, gives_up=gives_up),
        queue=queue,
        priority=priority,
        executor=executor,
        timeout=timeout,
        heartbeat_timeout=heartbeat_timeout,
    )
    return TaskOrder(command, activity, arguments, policy, policy.encode(), idempotency_key)


def commit_of(
    run: ClaimedRun,
    *events: Event,
    orders: Sequence[TaskOrder] = (),
    claimed: Sequence[int] = (),
    finished: Sequence[tuple[int, int]] = (),
    consumed: Sequence[int] = (),
    cancelled: Sequence[int] = (),
    state: RunState = RunState.RUNNING,
    wake_at: int | None = None,
    woke: bool = False,
    **rest: Any,
) -> Commit:
    """Return a commit of these events on what the claim loaded, under the claim's token."""
    first = run.last_seq + 1
    reach = {name: rest.pop(name) for name in REACH if name in rest}
    numbered = [msgspec.structs.replace(item, seq=first + index) for index, item in enumerate(events)]
    return Commit(
        run_id=run.run_id,
        chain_id=run.chain_id,
        token=rest.pop("token", run.token),
        seen=rest.pop("seen", run.last_seq),
        decision=Decision(numbered, list(orders), list(cancelled), state, wake_at, [], **reach),
        claimed=frozenset(claimed),
        finished=tuple(finished),
        consumed=tuple(consumed),
        woke=woke or wake_at is not None,
        **rest,
    )


def moved(run: ClaimedRun, commit: Commit) -> ClaimedRun:
    """Return the claim as its holder knows it after the commit was acknowledged."""
    events = [*run.events, *commit.decision.events]
    return msgspec.structs.replace(run, last_seq=len(events), events=events)


def grant_of(run: ClaimedRun) -> Grant:
    return Grant(run.run_id, run.token)


def succeeded(task: ClaimedTask, payload: str = '"paid"') -> TaskOutcome:
    return TaskOutcome(task.run_id, task.command, task.attempt, task.activity, payload)


def failed(task: ClaimedTask, failure: Failure = FAILURE) -> TaskOutcome:
    return TaskOutcome(task.run_id, task.command, task.attempt, task.activity, None, failure)


class Desk:
    """A journal and one line to it."""

    def __init__(self, journal: Journal, *, wing: str, locked: Callable[[RunId], AbstractContextManager[None]]) -> None:
        self.journal = journal
        self.wing = wing
        self.locked = locked
        self._line = journal.open_line()
        self._made = 0
        self._newest = 0

    # ---- time

    def now(self) -> datetime:
        return self.journal.check()

    def now_us(self) -> int:
        return round(self.now().timestamp() * 1_000_000)

    # ---- runs

    def new_run(self, **fields: Any) -> NewRun:
        """Return a run to start; each has a greater id than the one before."""
        self._newest = max(self._newest + 1000, self.now_us())
        defaults: dict[str, Any] = {
            "id": new_run_id(self._newest),
            "namespace": "default",
            "workflow": WORKFLOW,
            "version": 1,
            "version_hash": "hash-1",
            "started": STARTED,
        }
        return NewRun(**{**defaults, **fields})

    def make_run(self, **fields: Any) -> RunId:
        run_id, new = self.journal.runs.start(self.new_run(**fields))
        assert new
        return run_id

    def run(self, run_id: RunId) -> Run:
        found = self.journal.runs.find(run_id)
        assert found is not None
        return found

    def signal(self, run_id: RunId, name: str = "paid", payload: str | None = "1", **fields: Any) -> PostResult:
        return self.journal.runs.post(NewMessage(run_id, EventType.SIGNAL_RECEIVED, name, payload, **fields))

    def cancel(self, run_id: RunId, **fields: Any) -> PostResult:
        return self.journal.runs.post(NewMessage(run_id, EventType.CANCEL_REQUESTED, None, None, **fields))

    def types(self, run_id: RunId) -> list[str]:
        return [str(item.type) for item in self.journal.runs.history(run_id)]

    # ---- workers

    def make_worker(self, ttl: timedelta = HOUR) -> WorkerId:
        worker = new_worker_id()
        self.journal.workers.register(WorkerInfo(worker, "host", 4711, ttl))
        return worker

    def kill(self, worker: WorkerId) -> None:
        """Let the worker's lease expire."""
        assert self.journal.workers.beat(worker, DEAD)

    def bury(self, worker: WorkerId) -> None:
        """Let the worker die and be reaped with all it holds."""
        self.kill(worker)
        assert worker in self.journal.workers.reap().workers

    # ---- requests

    def ask(self, request: Request) -> Reply:
        """Send a request and return its reply, or raise what it was refused with."""
        self._line.send(request)
        reply = self._line.wait(WAIT_SECONDS)
        assert reply is not None, f"no answer to {type(request).__name__}"
        return reply

    def claim(
        self,
        worker: WorkerId,
        *,
        workflows: Sequence[tuple[str, int]] = ((WORKFLOW, 1),),
        limit: int = 100,
    ) -> list[ClaimedRun]:
        reply = self.ask(ClaimRequest(worker, tuple(workflows), limit))
        assert isinstance(reply, ClaimReply)
        return reply.runs

    def claim_one(self, worker: WorkerId) -> ClaimedRun:
        runs = self.claim(worker)
        assert len(runs) == 1, f"{len(runs)} runs were claimed instead of one"
        return runs[0]

    def fresh(self, worker: WorkerId, **fields: Any) -> ClaimedRun:
        """Start a run and claim it; no other may be claimable."""
        run_id = self.make_run(**fields)
        workflows = [(fields.get("workflow", WORKFLOW), fields.get("version", 1))]
        [run] = self.claim(worker, workflows=workflows)
        assert run.run_id == run_id
        return run

    def commit(self, worker: WorkerId, *commits: Commit) -> frozenset[str]:
        """Return the runs that were written."""
        reply = self.ask(CommitRequest(worker, commits))
        assert isinstance(reply, CommitReply)
        return reply.written

    def write(self, worker: WorkerId, run: ClaimedRun, *events: Event, **fields: Any) -> ClaimedRun:
        """Commit to one run and return the claim as it stands then."""
        commit = commit_of(run, *events, **fields)
        assert self.commit(worker, commit) == {run.run_id}, "the commit was refused"
        return moved(run, commit)

    def began(self, worker: WorkerId, run: ClaimedRun, **fields: Any) -> ClaimedRun:
        """Commit the first turn: the run has begun, and waits for what ``fields`` say."""
        fields = {"state": RunState.SUSPENDED, "wake_at": None, "woke": True, **fields}
        events = [
            event(EventType.ACTIVITY_SCHEDULED, command=item.command, name=item.activity)
            for item in fields.get("orders", ())
        ]
        return self.write(worker, run, event(EventType.RUN_BEGAN), *events, **fields)

    def parked(self, worker: WorkerId, **fields: Any) -> ClaimedRun:
        """Start a run that has begun and waits, owned by the worker."""
        return self.began(worker, self.fresh(worker), **fields)

    def idle(self, worker: WorkerId, **fields: Any) -> ClaimedRun:
        """Start a run that has begun and waits, owned by nobody."""
        run = self.parked(worker, **fields)
        assert self.release(worker, run) == {run.run_id}
        return run

    def end(self, worker: WorkerId, run: ClaimedRun, **fields: Any) -> ClaimedRun:
        """Commit a successful end, which takes the run's tasks along."""
        done = event(EventType.RUN_COMPLETED, payload='"done"')
        left = [task.command for task in self.journal.tasks.of_run(run.run_id)]
        return self.write(worker, run, done, **{"state": RunState.COMPLETED, "woke": True, "cancelled": left, **fields})

    def release(self, worker: WorkerId, *runs: ClaimedRun) -> frozenset[str]:
        reply = self.ask(ReleaseRequest(worker, tuple(grant_of(run) for run in runs)))
        assert isinstance(reply, ReleaseReply)
        return reply.released

    def regrant(self, worker: WorkerId, *grants: Grant) -> list[ClaimedRun]:
        reply = self.ask(RegrantRequest(worker, grants))
        assert isinstance(reply, ClaimReply)
        return reply.runs

    def stick(self, worker: WorkerId, run: ClaimedRun, *, backoff: timedelta = HOUR, reason: str = "drift") -> bool:
        reply = self.ask(StickRequest(worker, grant_of(run), reason, backoff))
        assert isinstance(reply, ReleaseReply)
        return run.run_id in reply.released

    def inspect(self, *run_ids: RunId) -> dict[str, GrantState]:
        reply = self.ask(InspectRequest(run_ids))
        assert isinstance(reply, InspectReply)
        return {state.run_id: state for state in reply.states}

    def mail(self, worker: WorkerId, *, limit: int = 100) -> MailReply:
        reply = self.ask(MailRequest(worker, limit))
        assert isinstance(reply, MailReply)
        return reply

    def look(
        self,
        worker: WorkerId,
        *,
        workflows: Sequence[tuple[str, int]] = ((WORKFLOW, 1),),
        queues: Sequence[str] | None = ("default",),
        limit: int = 100,
        executors: Sequence[str] = (),
    ) -> LookReply:
        named = None if queues is None else tuple(queues)
        reply = self.ask(LookRequest(worker, tuple(workflows), named, limit, tuple(executors)))
        assert isinstance(reply, LookReply)
        return reply

    # ---- tasks

    def take(
        self, worker: WorkerId, *, limit: int = 100, queues: dict[str, int] | None = None, executor: str = "local"
    ) -> list[ClaimedTask]:
        """Claim free tasks."""
        return self.journal.tasks.claim(
            worker, queues={"default": 100} if queues is None else queues, limit=limit, executor=executor
        )

    def take_one(self, worker: WorkerId) -> ClaimedTask:
        tasks = self.take(worker)
        assert len(tasks) == 1, f"{len(tasks)} tasks were claimed instead of one"
        return tasks[0]

    def close(self) -> None:
        self._line.close()


@contextmanager
def row_locked(url: str, run_id: RunId) -> Iterator[None]:
    """Hold a run's row locked in Postgres, as an operator's open transaction might."""
    import psycopg2

    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1 from continuum_runs where id = %s for update", (run_id,))
            assert cursor.fetchone() == (1,)
            yield
    finally:
        # Closing alone ends the transaction only when the server notices.
        connection.rollback()
        connection.close()
