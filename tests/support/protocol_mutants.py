"""Here live journals in memory with one rule of the protocol taken away."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from continuum.journal.memory import MemoryJournal
from continuum.journal.memory.rows import RunRow
from continuum.journal.memory.task_rows import TaskRow
from continuum.journal.memory.tasks import MemoryTasks
from continuum.journal.memory.turns import Turns
from continuum.journal.memory.workers import MemoryWorkers
from continuum.journal.requests import ClaimReply, ClaimRequest, CommitReply, CommitRequest, RegrantRequest
from continuum.model.decisions import Commit
from continuum.model.ids import WorkerId
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRef, TaskState
from tests.support.protocol_family_mutants import broken_families, broken_runs

__all__ = ["JournalRule", "broken_journal"]


class JournalRule(StrEnum):
    """A rule that binds journals, and can be taken away."""

    LAST_SEQ = "a commit compares last_seq"
    OWNER = "a commit compares the owner"
    TOKEN = "a commit compares the token"
    TASK_CLAIM = "a commit compares the claims of its local results"
    RELEASE_TOKEN = "a release raises the token"
    SWEEP_TOKEN = "the sweep raises the token"
    REGRANT_TOKEN = "a re-grant raises the token"
    LIVING = "only a living worker claims"
    WAKE = "a claim leaves wake_at alone"
    MAIL = "a claim leaves mail alone"
    SWEEP_CONDITION = "the sweep asks whether the owner exists, not who died just now"
    ATTEMPT = "a dead worker's task gets its next attempt"
    NAMED_LIVING = "only a living worker claims by name"
    NAMED_ATTEMPT = "a claim by name compares the attempt"
    NAMED_STATE = "a claim by name takes only what nobody has begun"
    LATE_STATE = "a success is too late once a newer attempt has begun"
    LATE_FAILURE = "a late failure is dropped"
    DEADLINE = "a dispatched task that nobody claims is offered again"
    DEFER_STATE = "only a dispatched task is deferred"
    HELD_STATE = "a dispatched task is nobody's attempt"


def broken_journal(broken: frozenset[str], now: Callable[[], int]) -> MemoryJournal:
    """Return a journal in memory without these rules."""

    seen: set[WorkerId] = set()

    class BrokenTurns(Turns):
        families_type = broken_families(broken)

        def commit(self, request: CommitRequest) -> CommitReply:
            reply = super().commit(request)
            for commit in request.commits:
                if commit.run_id not in reply.written:
                    self._families.reach_of_refused(self._store.runs[commit.run_id], commit)
            return reply

        def may_write(self, run: RunRow, worker: WorkerId, commit: Commit) -> bool:
            return self.is_granted(run, worker, commit.token) and (
                run.last_seq == commit.seen or JournalRule.LAST_SEQ in broken
            )

        def is_granted(self, run: RunRow, worker: WorkerId, token: int) -> bool:
            return (run.owner == worker or JournalRule.OWNER in broken) and (
                run.token == token or JournalRule.TOKEN in broken
            )

        def holds_tasks(self, worker: WorkerId, commit: Commit) -> bool:
            return JournalRule.TASK_CLAIM in broken or super().holds_tasks(worker, commit)

        def give_back(self, run: RunRow) -> None:
            super().give_back(run)
            run.token -= JournalRule.RELEASE_TOKEN in broken

        def may_claim(self, worker: WorkerId) -> bool:
            return JournalRule.LIVING in broken or super().may_claim(worker)

        def claim(self, request: ClaimRequest) -> ClaimReply:
            reply = super().claim(request)
            for claimed in reply.runs:
                if JournalRule.WAKE in broken:
                    self._store.wake(self._store.runs[claimed.run_id], None)
                if JournalRule.MAIL in broken:
                    self._store.inbox.pop(claimed.chain_id, None)
            return reply

        def regrant(self, request: RegrantRequest) -> ClaimReply:
            reply = super().regrant(request)
            if JournalRule.REGRANT_TOKEN not in broken:
                return reply
            for claimed in reply.runs:
                self._store.runs[claimed.run_id].token -= 1
            return ClaimReply([self._load(self._store.runs[claimed.run_id]) for claimed in reply.runs])

    class BrokenWorkers(MemoryWorkers):
        def sweep_run(self, run: RunRow) -> None:
            super().sweep_run(run)
            run.token -= JournalRule.SWEEP_TOKEN in broken

        def sweep_task(self, row: TaskRow, now: int) -> bool:
            if JournalRule.ATTEMPT in broken:
                row.free(now, attempt=row.attempt)
                return False
            return super().sweep_task(row, now)

        def _overdue_tasks(self, now: int) -> list[TaskRow]:
            found = super()._overdue_tasks(now)
            if JournalRule.DEADLINE in broken:
                return [row for row in found if row.state != TaskState.DISPATCHED]
            return found

        def _orphans(self) -> list[RunRow]:
            found = super()._orphans()
            if JournalRule.SWEEP_CONDITION not in broken:
                return found
            fresh = [run for run in found if run.owner not in seen]
            seen.update(run.owner for run in found if run.owner is not None)
            return fresh

    class BrokenTasks(MemoryTasks):
        def may_take(self, worker: WorkerId) -> bool:
            return JournalRule.NAMED_LIVING in broken or super().may_take(worker)

        def is_claimable(self, row: TaskRow, ref: TaskRef) -> bool:
            return (row.attempt == ref.attempt or JournalRule.NAMED_ATTEMPT in broken) and (
                row.state != TaskState.LEASED or JournalRule.NAMED_STATE in broken
            )

        def is_late(self, row: TaskRow, worker: WorkerId, outcome: TaskOutcome) -> bool:
            if outcome.failure is not None and JournalRule.LATE_FAILURE in broken:
                outcome = msgspec.structs.replace(outcome, failure=None)
            if row.state == TaskState.LEASED and JournalRule.LATE_STATE in broken:
                return outcome.failure is None
            return super().is_late(row, worker, outcome)

        def is_deferrable(self, row: TaskRow, ref: TaskRef) -> bool:
            if JournalRule.DEFER_STATE in broken:
                return row.attempt == ref.attempt
            return super().is_deferrable(row, ref)

        def held(self, worker: WorkerId) -> list[ClaimedTask]:
            if JournalRule.HELD_STATE in broken:
                return [row.claimed() for row in self._store.all_tasks() if row.claimed_by == worker]
            return super().held(worker)

    class BrokenJournal(MemoryJournal):
        runs_type = broken_runs(broken)
        turns_type = BrokenTurns
        tasks_type = BrokenTasks
        workers_type = BrokenWorkers

    return BrokenJournal(now=now)
