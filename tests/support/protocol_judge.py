"""Here lives who watches a schedule: who may write, who is granted a run, what is executed, what a history says."""

from collections.abc import Iterable

from continuum.journal.protocol import Journal
from continuum.journal.requests import (
    ClaimReply,
    ClaimRequest,
    CommitReply,
    CommitRequest,
    InspectReply,
    InspectRequest,
    Reply,
    Request,
)
from continuum.model.decisions import Commit
from continuum.model.events import COMPLETIONS, EventType
from continuum.model.ids import RunId, WorkerId
from continuum.model.leases import GrantState
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRecord, TaskRef
from tests.support.protocol_held import Key, key_of
from tests.support.protocol_program import Program, Violation

__all__ = ["WAIT_SECONDS", "Judge"]

WAIT_SECONDS = 20.0


class Judge:
    """Looks at the runs of one schedule, over a line of its own."""

    def __init__(self, journal: Journal, run_ids: Iterable[RunId]) -> None:
        self._journal, self._run_ids = journal, tuple(run_ids)
        self._line = journal.open_line()
        self._executed: set[Key] = set()
        self._known = self.inspect()

    def close(self) -> None:
        self._line.close()

    def inspect(self) -> dict[RunId, GrantState]:
        self._line.send(InspectRequest(self._run_ids))
        reply = self._line.wait(WAIT_SECONDS)
        assert isinstance(reply, InspectReply)
        return {state.run_id: state for state in reply.states}

    def watch(self) -> None:
        """See that no run has changed hands under an old token."""
        states = self.inspect()
        for run_id, state in states.items():
            known = self._known[run_id]
            if state.owner != known.owner and state.token <= known.token:
                raise Violation(f"the owner changed under the same token: {known} -> {state}")
        self._known = states

    def request(
        self, request: Request, reply: Reply, before: dict[RunId, GrantState], digests: dict[RunId, int]
    ) -> None:
        """See that a request was executed only for somebody who had the right to it."""
        match request, reply:
            case CommitRequest(worker=worker, commits=commits), CommitReply(written=written):
                for commit in commits:
                    if commit.run_id in written:
                        self._write(commit, worker, before[commit.run_id], digests[commit.run_id])
            case ClaimRequest(worker=worker), ClaimReply(runs=runs) if runs:
                if worker not in {record.id for record in self._journal.workers.list_workers() if record.alive}:
                    raise Violation(f"the dead worker {worker[:4]} was granted a run")
            case _:
                pass

    def _write(self, commit: Commit, worker: WorkerId, before: GrantState, digest: int) -> None:
        if before != GrantState(commit.run_id, worker, commit.token, commit.seen):
            raise Violation(f"{worker[:4]} has written under {commit.token} on {commit.seen} over {before}")
        history = self._journal.runs.history(commit.run_id)
        if len(history) != commit.seen + len(commit.decision.events) or Program.replay(history).digest != digest:
            raise Violation("what was written is not what was decided")

    def attempt(self, task: ClaimedTask) -> None:
        """See that no attempt is executed twice."""
        if key_of(task) in self._executed:
            raise Violation(f"attempt {task.attempt} of command {task.command} was executed twice")
        self._executed.add(key_of(task))

    def unbegun(self, key: Key) -> None:
        """Hear that an attempt was put back before its body began: it may be executed again."""
        self._executed.discard(key)

    def named(self, worker: WorkerId, ref: TaskRef, task: ClaimedTask) -> None:
        """See that a claim by name was given for just that attempt, to somebody who lives."""
        if key_of(task) != (ref.run_id, ref.command, ref.attempt):
            raise Violation(f"{ref} was asked for, attempt {task.attempt} was given")
        if worker not in {record.id for record in self._journal.workers.list_workers() if record.alive}:
            raise Violation(f"the dead worker {worker[:4]} was given a task")

    def rows(self, outcomes: Iterable[TaskOutcome]) -> dict[tuple[RunId, int], TaskRecord]:
        """Return the rows of tasks before their outcomes are handed in."""
        return {
            (row.run_id, row.command): row
            for run_id in sorted({outcome.run_id for outcome in outcomes})
            for row in self._journal.tasks.of_run(run_id)
        }

    def outcomes(
        self,
        worker: WorkerId,
        outcomes: Iterable[TaskOutcome],
        rows: dict[tuple[RunId, int], TaskRecord],
        accepted: frozenset[TaskRef],
    ) -> None:
        """See that of these outcomes the right ones were accepted: claims, and successes nobody is ahead of."""
        for outcome in outcomes:
            row = rows.get((outcome.run_id, outcome.command))
            mine = row is not None and (row.claimed_by, row.state, row.attempt) == (worker, "leased", outcome.attempt)
            late = (
                row is not None and outcome.failure is None and row.state != "leased" and row.attempt >= outcome.attempt
            )
            if (TaskRef(outcome.run_id, outcome.command, outcome.attempt) in accepted) != (mine or late):
                raise Violation(f"{outcome} was {'refused' if mine or late else 'accepted'} over {row}")

    def ended(self, run_id: RunId, signals: int) -> None:
        """See that an ended run's history is what happened, once each, and that nothing was left over."""
        history = self._journal.runs.history(run_id)
        if not Program.replay(history).ended:
            raise Violation("the replay of an ended run does not end")
        outcomes = [event.command for event in history if event.type in COMPLETIONS and event.command is not None]
        if len(outcomes) != len(set(outcomes)):
            raise Violation(f"an outcome was journaled twice: {outcomes}")
        found = sorted(str(event.payload) for event in history if event.type == EventType.SIGNAL_RECEIVED)
        if found != [f'"{number}"' for number in range(signals)]:
            raise Violation(f"signals were lost or doubled: {found}")
        if self._journal.tasks.of_run(run_id):
            raise Violation("tasks were left over")

    def plight(self) -> str:
        """Describe runs that do not end."""
        tasks = [
            (task.command, task.state, task.attempt, (task.claimed_by or "")[:4])
            for run_id in self._run_ids
            for task in self._journal.tasks.of_run(run_id)
        ]
        found = [self._journal.runs.find(run_id) for run_id in self._run_ids]
        runs = [(run.state, run.last_seq, run.wake_at, (run.lease_owner or "")[:4]) for run in found if run]
        return f"runs {runs}, tasks {tasks}"
