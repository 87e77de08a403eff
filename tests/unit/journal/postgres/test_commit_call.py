"""The text of a group commit: its limits, and which of the two statements it calls."""

import pytest

from continuum.errors import JournalError
from continuum.journal.postgres import commit as module
from continuum.journal.postgres.commit import COMMIT, COMMIT_DOOMED, MAX_RUNS, commit_call
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.requests import CommitRequest
from continuum.model.decisions import Commit, Decision
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, new_run_id, new_worker_id
from continuum.model.policies import ActivityPolicy
from continuum.model.runs import RunState
from continuum.model.tasks import TaskOrder

WORKER = new_worker_id()
POLICY = ActivityPolicy(queue="payments")


def commit(
    run_id: RunId | None = None, *, state: RunState = RunState.SUSPENDED, cancelled: list[int] | None = None
) -> Commit:
    run_id = run_id or new_run_id(1_000_000)
    decision = Decision(
        events=[Event(2, EventType.RUN_BEGAN, None, None, None, 5)],
        orders=[TaskOrder(1, "charge", "[]", POLICY, POLICY.encode())],
        cancelled=cancelled or [],
        state=state,
        wake_at=None,
        logs=[],
    )
    return Commit(run_id, ChainId(run_id), 1, 1, decision)


def called(*commits: Commit) -> str:
    return commit_call(CommitRequest(WORKER, commits), Payloads(None))


def test_a_batch_that_goes_on_calls_the_short_statement() -> None:
    assert called(commit(), commit()).startswith(COMMIT.call("").removesuffix("()") + "(")


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED])
def test_one_ending_makes_the_whole_batch_call_the_long_one(state: RunState) -> None:
    assert called(commit(), commit(state=state)).startswith("execute continuum_commit_doomed(")


def test_a_cancelled_task_calls_the_long_one() -> None:
    assert called(commit(cancelled=[7])).startswith("execute continuum_commit_doomed(")


def test_an_ended_run_orders_nothing_any_more() -> None:
    assert "charge" in called(commit())
    assert "charge" not in called(commit(state=RunState.COMPLETED))


def test_both_statements_take_the_same_parameters() -> None:
    for statement in (COMMIT, COMMIT_DOOMED):
        assert all(f"${number}::" in statement.sql for number in range(1, 23))
        assert "$23" not in statement.sql


def test_a_policy_travels_once_however_many_tasks_have_it() -> None:
    assert called(*(commit() for _ in range(50))).count("payments") == 2  # its queue, and its text


def test_too_many_runs_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="send several"):
        called(*(commit() for _ in range(MAX_RUNS + 1)))


def test_a_run_twice_is_the_callers_mistake() -> None:
    one = commit()
    with pytest.raises(ValueError, match="twice"):
        called(one, one)


def test_a_text_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TEXT", 100)
    with pytest.raises(JournalError, match="send fewer runs"):
        called(commit())
