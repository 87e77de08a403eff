"""Here lives what a turns thread may ask of the memory wing, statement by statement.

Each method of :class:`Turns` is one statement of ``docs/explanation/protocol.md``; the conditions are the
same and stand in small methods of their own, so that the tests can take one away and see something break.
"""

from collections.abc import Iterable
from typing import ClassVar, assert_never

from continuum.journal.memory.codes import Codes, backoff_of
from continuum.journal.memory.families import Families, check_reach
from continuum.journal.memory.rows import RunRow, check_json, check_text
from continuum.journal.memory.snapshots import load_history
from continuum.journal.memory.store import Store
from continuum.journal.memory.task_rows import LOCAL, TaskRow
from continuum.journal.requests import (
    ClaimReply,
    ClaimRequest,
    CommitReply,
    CommitRequest,
    HintRequest,
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
from continuum.model.decisions import Commit
from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun, Grant, GrantState
from continuum.model.messages import Message
from continuum.model.runs import ENDED, RunState

__all__ = ["Turns"]


class Turns:
    """Executes requests against a store."""

    families_type: ClassVar[type[Families]] = Families

    def __init__(self, store: Store) -> None:
        self._store = store
        self._families = self.families_type(store)

    def execute(self, request: Request) -> Reply:
        """Execute one request as a whole, or raise and write nothing."""
        with self._store.lock:
            return self._execute(request)

    def _execute(self, request: Request) -> Reply:
        match request:
            case CommitRequest():
                return self.commit(request)
            case ClaimRequest():
                return self.claim(request)
            case RegrantRequest():
                return self.regrant(request)
            case MailRequest():
                return MailReply(self._mail_of(request.worker, request.limit))
            case LookRequest():
                return self.look(request)
            case InspectRequest():
                return self.inspect(request)
            case ReleaseRequest():
                return self.release(request)
            case StickRequest():
                return self.stick(request)
            case HintRequest():
                for hint in request.hints:
                    self._store.tell(hint)
                return ReleaseReply(frozenset())
            case _:
                assert_never(request)

    # -------------------------------------------------------------- commit

    def commit(self, request: CommitRequest) -> CommitReply:
        """Write the runs whose grant, sequence number and task claims hold, and skip the others."""
        if len({commit.run_id for commit in request.commits}) != len(request.commits):
            message = "a run is in this commit twice: make one decision of both"
            raise ValueError(message)
        for commit in request.commits:
            _check_commit(commit)
        good = []
        for commit in request.commits:
            run = self._store.runs.get(commit.run_id)
            if run is None or self._is_locked(run, commit):
                continue
            if not self.may_write(run, request.worker, commit) or not self.holds_tasks(request.worker, commit):
                continue
            good.append((run, commit))
        self._families.check_new(commit for _, commit in good)
        # As in one statement: what was true before it is what decides who is told.
        told = [one for run, commit in good for one in self._families.tells(run, commit)]
        for run, commit in good:
            self._write(run, request, commit)
        self._families.tell(told)
        return CommitReply(frozenset(run.id for run, _ in good))

    def _is_locked(self, run: RunRow, commit: Commit) -> bool:
        if run.id in self._store.locked:
            return True
        # A task that a transactional activity is just ending cannot be deleted: its outcome decides first.
        rows = self._store.tasks.get(run.id, {})
        doomed = rows if commit.decision.state in ENDED else commit.decision.cancelled
        return any(command in rows and rows[command].held for command in doomed)

    def may_write(self, run: RunRow, worker: WorkerId, commit: Commit) -> bool:
        """Whether the grant is the latest and nothing was journaled since the decision's basis."""
        return self.is_granted(run, worker, commit.token) and run.last_seq == commit.seen

    def is_granted(self, run: RunRow, worker: WorkerId, token: int) -> bool:
        """Whether the worker owns the run under this token."""
        return run.owner == worker and run.token == token

    def holds_tasks(self, worker: WorkerId, commit: Commit) -> bool:
        """Whether every local result in the commit comes from a claim that still holds."""
        return all(
            self._store.claimed_task(worker, commit.run_id, command, attempt) is not None
            for command, attempt in commit.finished
        )

    def _write(self, run: RunRow, request: CommitRequest, commit: Commit) -> None:
        store, decision, now = self._store, commit.decision, self._store.now()
        store.events[run.id].extend(decision.events)
        run.last_seq += len(decision.events)
        run.state, run.grants = decision.state, 0
        run.stuck_reason = run.stuck_since = None
        run.started_at = now if run.started_at is None else run.started_at
        if commit.adopted_hash is not None:
            run.version_hash = commit.adopted_hash
        if commit.woke:
            store.wake(run, decision.wake_at)
        for event in decision.events:
            if event.type == EventType.CANCEL_REQUESTED and run.cancel_requested_at is None:
                run.cancel_requested_at = event.at
        for message_id in commit.consumed:
            store.discard(commit.chain_id, message_id)
        for command, _attempt in commit.finished:
            store.drop_task(run.id, command)
        for command in decision.cancelled:
            store.drop_task(run.id, command)
        for order in decision.orders:
            row = TaskRow(run.id, order, now)
            if order.command in commit.claimed:
                row.claim(request.worker, now)
            elif order.command in commit.dispatched:
                row.dispatch(request.worker, now, request.dispatch_deadline)
            store.add_task(row)
        if decision.state in ENDED:
            self._end(run, commit.retention_us, now)
        if decision.reaches_out:
            self._families.write(run, commit, now)

    def _end(self, run: RunRow, retention_us: int | None, now: int) -> None:
        run.token += 1
        run.completed_at = now
        run.retention_until = None if retention_us is None else now + retention_us
        self._store.own(run, None)
        self._store.wake(run, None)
        self._store.tasks.pop(run.id, None)

    # -------------------------------------------------------------- grants

    def claim(self, request: ClaimRequest) -> ClaimReply:
        """Take free runs that have something to do."""
        if not self.may_claim(request.worker):
            return ClaimReply([])
        store, can, limit = self._store, self.codes_of(request), request.limit
        due = sorted(self._due(can), key=lambda run: run.wake_at or 0)[:limit]
        picked = {run.id: run for run in due}
        for run in self._with_mail(can):
            if len(picked) >= 2 * limit:
                break
            picked[run.id] = run
        runs = []
        for run_id in sorted(picked)[:limit]:
            run = picked[run_id]
            store.own(run, request.worker)
            run.token += 1
            run.grants += 1
            runs.append(self._load(run))
        return ClaimReply(runs)

    def may_claim(self, worker: WorkerId) -> bool:
        """Whether the worker lives; a dead one's claims would never be swept."""
        return self._store.is_alive(worker)

    def codes_of(self, request: ClaimRequest | LookRequest) -> Codes:
        """Return which code's runs the asking worker may take now."""
        return Codes(self._store, request.workflows, request.hashes)

    def _due(self, can: Codes) -> Iterable[RunRow]:
        now = self._store.now()
        for run in self._store.timed.values():
            if run.wake_at is not None and run.wake_at <= now and self._is_free(run, can):
                yield run

    def _with_mail(self, can: Codes) -> Iterable[RunRow]:
        now = self._store.now()
        for chain_id in self._store.inbox:
            run = self._store.tips.get(chain_id)
            if run is None or not self._is_free(run, can):
                continue
            # A stuck run waits out its back-off whatever arrives, or each message would make it spin.
            if run.state == RunState.STUCK and run.wake_at is not None and run.wake_at > now:
                continue
            yield run

    def _is_free(self, run: RunRow, can: Codes) -> bool:
        return run.owner is None and run.is_tip and not run.ended and run.id not in self._store.locked and can.take(run)

    def regrant(self, request: RegrantRequest) -> ClaimReply:
        """Raise the tokens of runs that are still the worker's, and load them."""
        runs = []
        for grant in request.grants:
            run = self._mine(request.worker, grant)
            if run is not None:
                run.token += 1
                runs.append(self._load(run))
        return ClaimReply(runs)

    def _mine(self, worker: WorkerId, grant: Grant) -> RunRow | None:
        run = self._store.runs.get(grant.run_id)
        return run if run is not None and self.is_granted(run, worker, grant.token) else None

    def _load(self, run: RunRow) -> ClaimedRun:
        events, folded = load_history(self._store, run.id)
        return ClaimedRun(
            run_id=run.id,
            chain_id=run.chain_id,
            namespace=run.namespace,
            workflow=run.workflow,
            version=run.version,
            version_hash=run.version_hash,
            token=run.token,
            last_seq=run.last_seq,
            grants=run.grants,
            wake_at=run.wake_at,
            events=events,
            mail=self._store.mail(run.chain_id),
            parent=self._families.link_of(run),
            folded=folded,
        )

    def release(self, request: ReleaseRequest) -> ReleaseReply:
        """Give runs back under a higher token."""
        released = []
        for grant in request.grants:
            run = self._mine(request.worker, grant)
            if run is not None:
                self.give_back(run)
                released.append(run.id)
        return ReleaseReply(frozenset(released))

    def give_back(self, run: RunRow) -> None:
        """Free the run; the risen token fences a commit that is still on its way."""
        self._store.own(run, None)
        run.token += 1

    def stick(self, request: StickRequest) -> ReleaseReply:
        """Mark the run stuck and give it back until its back-off has passed."""
        check_text("the reason", request.reason)
        run = self._mine(request.worker, request.grant)
        if run is None:
            return ReleaseReply(frozenset())
        now = self._store.now()
        if run.state != RunState.STUCK or run.stuck_since is None:
            run.stuck_since = now
        run.state, run.stuck_reason, run.grants = RunState.STUCK, request.reason, request.grants
        self._store.wake(run, now + backoff_of(self._store, run, request))
        self.give_back(run)
        return ReleaseReply(frozenset((run.id,)))

    # -------------------------------------------------------------- reading

    def inspect(self, request: InspectRequest) -> InspectReply:
        """Return what the rows say about their owners."""
        rows = (self._store.runs.get(run_id) for run_id in request.run_ids)
        return InspectReply([GrantState(run.id, run.owner, run.token, run.last_seq) for run in rows if run is not None])

    def look(self, request: LookRequest) -> LookReply:
        """Look at everything a hint could have been about."""
        store, now, can, limit = self._store, self._store.now(), self.codes_of(request), request.limit
        mine = [
            run
            for run in store.owned.get(request.worker, {}).values()
            if (run.wake_at is not None and run.wake_at <= now) or run.chain_id in store.inbox
        ]
        mine.sort(key=lambda run: run.id)
        return LookReply(
            messages=self._mail_of(request.worker, limit),
            due=[Grant(run.id, run.token) for run in mine[:limit]],
            claimable=any(True for _ in self._due(can)) or any(True for _ in self._with_mail(can)),
            tasks=any(row.is_due(now) and _is_asked_for(row, request) for row in store.all_tasks()),
            dead=any(row.expires_at < now for row in store.workers.values())
            or any(owner not in store.workers for owner in store.owned)
            or any(row.is_expired(now) or store.is_orphaned(row) for row in store.all_tasks()),
        )

    def _mail_of(self, worker: WorkerId, limit: int) -> list[Message]:
        found: list[Message] = []
        for chain_id, box in self._store.inbox.items():
            run = self._store.tips.get(chain_id)
            if run is not None and run.owner == worker:
                found.extend(box.values())
        found.sort(key=lambda message: message.id)
        return found[:limit]


def _is_asked_for(row: TaskRow, request: LookRequest) -> bool:
    if row.executor != LOCAL:
        return row.executor in request.executors
    return request.queues is None or row.order.policy.queue_name in request.queues


def _check_commit(commit: Commit) -> None:
    for event in commit.decision.events:
        where = f"event {event.seq} of run {commit.run_id}"
        check_text(f"the name of {where}", event.name)
        check_text(f"the location of {where}", event.location)
        check_json(f"the payload of {where}", event.payload)
    for order in commit.decision.orders:
        where = f"task {order.command} of run {commit.run_id}"
        check_text(f"the activity of {where}", order.activity)
        check_text(f"the idempotency key of {where}", order.idempotency_key)
        check_json(f"the arguments of {where}", order.arguments)
    check_reach(commit)
