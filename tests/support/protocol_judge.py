"""Here lives who watches a schedule: who may write, who is granted a run, what is executed, what a history says."""

from collections.abc import Iterable, Sequence

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
from continuum.model.ids import RunId, WorkerId
from continuum.model.leases import GrantState
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRecord, TaskRef
from tests.support.protocol_families import Outside, see_attributes, see_reasons
from tests.support.protocol_held import Key, key_of
from tests.support.protocol_program import Program, Violation
from tests.support.protocol_setting import Wing

__all__ = ["WAIT_SECONDS", "Judge"]

WAIT_SECONDS = 20.0


class Judge:
    """Looks at the runs of one schedule, over a line of its own."""

    def __init__(self, wing: Wing, run_ids: Iterable[RunId], outside: Outside) -> None:
        self._journal, self.run_ids, self._outside = wing.journal, list(run_ids), outside
        self._count = wing.count
        self._counted = (0, 0)
        self._line = wing.journal.open_line()
        self._executed: set[Key] = set()
        self._known = self.inspect()

    def close(self) -> None:
        self._line.close()

    def inspect(self) -> dict[RunId, GrantState]:
        self._line.send(InspectRequest(tuple(self.run_ids)))
        reply = self._line.wait(WAIT_SECONDS)
        assert isinstance(reply, InspectReply)
        return {state.run_id: state for state in reply.states}

    def before(self, request: Request) -> dict[RunId, GrantState]:
        """Look at everything before a request is executed."""
        if isinstance(request, CommitRequest):
            self._counted = self._count()
        return self.inspect()

    def watch(self) -> None:
        """See that no run has changed hands under an old token."""
        states = self.inspect()
        for run_id, state in states.items():
            known = self._known.get(run_id, state)
            if state.owner != known.owner and state.token <= known.token:
                raise Violation(f"the owner changed under the same token: {known} -> {state}")
        self._known = states

    def request(
        self, request: Request, reply: Reply, before: dict[RunId, GrantState], digests: dict[RunId, int]
    ) -> None:
        """See that a request was executed only for somebody who had the right to it."""
        match request, reply:
            case CommitRequest(worker=worker, commits=commits), CommitReply(written=written):
                self._see_counts(commits, written)
                for commit in commits:
                    if commit.run_id in written:
                        self._write(commit, worker, before.get(commit.run_id), digests[commit.run_id])
                        self._meet(commit)
                    see_attributes(self._journal, commit.run_id)
            case ClaimRequest(worker=worker), ClaimReply(runs=runs) if runs:
                if worker not in {record.id for record in self._journal.workers.list_workers() if record.alive}:
                    raise Violation(f"the dead worker {worker[:4]} was granted a run")
            case _:
                pass

    def _write(self, commit: Commit, worker: WorkerId, before: GrantState | None, digest: int) -> None:
        if before is None:
            raise Violation(f"{commit.run_id} was written, and nobody has started it")
        if before != GrantState(commit.run_id, worker, commit.token, commit.seen):
            raise Violation(f"{worker[:4]} has written under {commit.token} on {commit.seen} over {before}")
        history = self._journal.runs.history(commit.run_id)
        program = Program.replay(commit.run_id, history)
        if len(history) != commit.seen + len(commit.decision.events) or program.digest != digest:
            raise Violation("what was written is not what was decided")
        see_reasons(self._journal, self._outside, commit, program)

    def _see_counts(self, commits: Sequence[Commit], written: frozenset[str]) -> None:
        """See that runs were started by what was written only, and that nobody was told anything by what was not."""
        decisions = [commit.decision for commit in commits if commit.run_id in written]
        started = sum(len(one.children) + (one.successor is not None) for one in decisions)
        runs, messages = self._count()
        if runs != self._counted[0] + started or (messages > self._counted[1] and not written):
            raise Violation(f"{started} were to be started: runs, messages {self._counted} -> {(runs, messages)}")

    def _meet(self, commit: Commit) -> None:
        """Learn of the runs that a commit has started."""
        decision = commit.decision
        successor = () if decision.successor is None else (decision.successor.id,)
        self.run_ids += [
            run_id for run_id in (*(child.id for child in decision.children), *successor) if run_id not in self.run_ids
        ]

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

    def plight(self) -> str:
        """Describe runs that do not end."""
        tasks = [
            (task.command, task.state, task.attempt, (task.claimed_by or "")[:4])
            for run_id in self.run_ids
            for task in self._journal.tasks.of_run(run_id)
        ]
        found = [self._journal.runs.find(run_id) for run_id in self.run_ids]
        runs = [(run.state, run.last_seq, run.wake_at, (run.lease_owner or "")[:4]) for run in found if run]
        return f"runs {runs}, tasks {tasks}"
