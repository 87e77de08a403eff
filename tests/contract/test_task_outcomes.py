"""How attempts end: once, by the claim that holds, into the inbox of the run; keyed and transactional ones too."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from continuum.errors import JournalError
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun
from continuum.model.runs import RunState
from continuum.model.tasks import ClaimedTask, TaskOutcome
from tests.support.journals import Desk, commit_of, event, failed, order, succeeded


@pytest.fixture
def run(desk: Desk, worker: WorkerId) -> ClaimedRun:
    """Return a run of ``worker`` with one free task."""
    return desk.parked(worker, orders=[order(0, idempotency_key="k")])


@pytest.fixture
def task(desk: Desk, run: ClaimedRun, other: WorkerId) -> ClaimedTask:
    """Return that task, claimed by ``other``."""
    return desk.take_one(other)


def outcomes(desk: Desk, worker: WorkerId) -> list[tuple[str, int | None, str | None]]:
    return [(str(message.kind), message.command, message.payload) for message in desk.mail(worker).messages]


def test_a_success_ends_the_task_and_posts_its_payload(
    desk: Desk, worker: WorkerId, other: WorkerId, run: ClaimedRun, task: ClaimedTask
) -> None:
    assert desk.journal.tasks.finish(other, succeeded(task, '{"b": 1,  "a": 2}'))
    assert desk.journal.tasks.of_run(run.run_id) == []
    assert desk.journal.tasks.held(other) == []
    assert outcomes(desk, worker) == [("activity_completed", 0, '{"b": 1,  "a": 2}')]


def test_a_failure_ends_the_task_and_posts_its_description(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    failure = Failure("X", "nö", traceback="line 1\nline 2", attempts=3, permanent=True, cause=Failure("Y", "y"))
    assert desk.journal.tasks.finish(other, failed(task, failure))
    [message] = desk.mail(worker).messages
    assert message.kind == EventType.ACTIVITY_FAILED
    assert message.payload is not None
    assert Failure.parse(message.payload) == failure


def test_a_result_that_is_an_error_value_is_a_success(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    assert desk.journal.tasks.finish(other, succeeded(task, '{"error": "no"}'))
    assert [kind for kind, _, _ in outcomes(desk, worker)] == ["activity_completed"]


def test_an_outcome_does_not_touch_the_run_row(desk: Desk, other: WorkerId, run: ClaimedRun, task: ClaimedTask) -> None:
    before = desk.run(run.run_id)
    with desk.locked(run.run_id):
        assert desk.journal.tasks.finish(other, succeeded(task))
    assert desk.run(run.run_id) == before


def test_an_attempt_ends_once(desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask) -> None:
    assert desk.journal.tasks.finish(other, succeeded(task, "1"))
    assert not desk.journal.tasks.finish(other, succeeded(task, "2"))
    assert not desk.journal.tasks.finish(other, failed(task))
    assert outcomes(desk, worker) == [("activity_completed", 0, "1")]


def stale(task: ClaimedTask, **fields: int) -> TaskOutcome:
    values = {"command": task.command, "attempt": task.attempt, **fields}
    return TaskOutcome(task.run_id, values["command"], values["attempt"], task.activity, "1")


@pytest.mark.parametrize("change", [{"attempt": 2}, {"attempt": 0}, {"command": 7}])
def test_an_outcome_of_another_attempt_or_command_is_stale(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask, change: dict[str, int]
) -> None:
    assert not desk.journal.tasks.finish(other, stale(task, **change))
    assert desk.journal.tasks.held(other) == [task]
    assert outcomes(desk, worker) == []


def test_an_outcome_by_another_worker_is_stale(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    assert not desk.journal.tasks.finish(worker, succeeded(task))
    assert desk.journal.tasks.held(other) == [task]
    assert outcomes(desk, worker) == []


def test_an_outcome_of_a_task_that_nobody_holds_is_stale(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    desk.journal.tasks.put_back(other, [task])
    assert not desk.journal.tasks.finish(other, succeeded(task))
    assert outcomes(desk, worker) == []


def test_an_outcome_after_the_end_of_the_run_is_stale(
    desk: Desk, worker: WorkerId, other: WorkerId, run: ClaimedRun, task: ClaimedTask
) -> None:
    desk.end(worker, run)
    assert not desk.journal.tasks.finish(other, succeeded(task))
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_of_concurrent_outcomes_of_one_attempt_one_is_written(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    together = Barrier(4)

    def finish(number: int) -> bool:
        together.wait()
        return desk.journal.tasks.finish(other, succeeded(task, str(number)))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(finish, range(4)))
    assert sum(answers) == 1
    assert outcomes(desk, worker) == [("activity_completed", 0, str(answers.index(True)))]


def test_an_outcome_that_is_no_json_is_refused_and_the_claim_stays(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    for payload in ("{nonsense", '"a\0b"'):
        with pytest.raises(JournalError):
            desk.journal.tasks.finish(other, succeeded(task, payload))
    assert desk.journal.tasks.held(other) == [task]
    assert outcomes(desk, worker) == []


# ------------------------------------------------------------------ keyed results


def test_a_keyed_result_is_kept_and_posted(desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask) -> None:
    assert desk.journal.tasks.find_result("charge", "k") is None
    assert desk.journal.tasks.finish_keyed(other, succeeded(task, "1"), key="k") == (True, "1")
    assert desk.journal.tasks.find_result("charge", "k") == "1"
    assert outcomes(desk, worker) == [("activity_completed", 0, "1")]
    assert desk.journal.tasks.held(other) == []


def test_the_first_keyed_result_wins_and_is_what_the_run_sees(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.parked(worker, orders=[order(0)])
    desk.parked(worker, orders=[order(0)])
    first, second = desk.take(other)
    assert desk.journal.tasks.finish_keyed(other, succeeded(first, "1"), key="k") == (True, "1")
    assert desk.journal.tasks.finish_keyed(other, succeeded(second, "2"), key="k") == (True, "1")
    assert desk.journal.tasks.find_result("charge", "k") == "1"
    assert [payload for _, _, payload in outcomes(desk, worker)] == ["1", "1"]


def test_a_key_belongs_to_an_activity(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.parked(worker, orders=[order(0, activity="charge"), order(1, activity="ship")])
    first, second = desk.take(other)
    desk.journal.tasks.finish_keyed(other, succeeded(first, "1"), key="k")
    assert desk.journal.tasks.find_result(second.activity, "k") is None
    assert desk.journal.tasks.finish_keyed(other, succeeded(second, "2"), key="k") == (True, "2")


def test_a_stale_keyed_result_posts_nothing_and_learns_the_winner(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    assert desk.journal.tasks.finish_keyed(other, succeeded(task, "1"), key="k") == (True, "1")
    assert desk.journal.tasks.finish_keyed(other, succeeded(task, "2"), key="k") == (False, "1")
    assert outcomes(desk, worker) == [("activity_completed", 0, "1")]


def test_a_keyed_result_survives_the_loss_of_its_claim(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    # The effect has happened; the next attempt must find its result instead of repeating it.
    desk.bury(other)
    assert desk.journal.tasks.finish_keyed(other, succeeded(task, "1"), key="k") == (False, "1")
    assert desk.journal.tasks.find_result("charge", "k") == "1"
    assert outcomes(desk, worker) == []


def test_concurrent_keyed_results_agree_on_one_winner(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    for _ in range(4):
        desk.parked(worker, orders=[order(0)])
    tasks = desk.take(other)
    together = Barrier(4)

    def finish(number: int) -> tuple[bool, str]:
        together.wait()
        return desk.journal.tasks.finish_keyed(other, succeeded(tasks[number], str(number)), key="k")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(finish, range(4)))
    winner = desk.journal.tasks.find_result("charge", "k")
    assert answers == [(True, winner)] * 4
    assert {payload for _, _, payload in outcomes(desk, worker)} == {winner}


# ------------------------------------------------------------------ transactional activities


def test_a_transactional_outcome_appears_with_its_transaction(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    with desk.journal.tasks.transaction(other) as transaction:
        assert transaction.finish(succeeded(task, "1"))
        assert outcomes(desk, worker) == []
    assert outcomes(desk, worker) == [("activity_completed", 0, "1")]
    assert desk.journal.tasks.held(other) == []


def test_an_undone_transaction_leaves_the_claim_as_it_was(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    def body() -> None:
        with desk.journal.tasks.transaction(other) as transaction:
            assert transaction.finish(succeeded(task, "1"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    assert outcomes(desk, worker) == []
    assert desk.journal.tasks.held(other) == [task]
    assert desk.journal.tasks.finish(other, succeeded(task, "2"))


def test_a_transaction_without_an_outcome_changes_nothing(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    with desk.journal.tasks.transaction(other):
        pass
    assert desk.journal.tasks.held(other) == [task]


def test_a_transactional_outcome_of_a_lost_claim_says_so(
    desk: Desk, worker: WorkerId, other: WorkerId, task: ClaimedTask
) -> None:
    desk.journal.tasks.put_back(other, [task])
    with desk.journal.tasks.transaction(other) as transaction:
        assert not transaction.finish(succeeded(task, "1"))
    assert outcomes(desk, worker) == []
    assert len(desk.take(other)) == 1


def test_a_task_that_a_transaction_is_ending_cannot_be_cancelled_meanwhile(
    desk: Desk, worker: WorkerId, other: WorkerId, run: ClaimedRun, task: ClaimedTask
) -> None:
    cancel = commit_of(run, event(EventType.ACTIVITY_CANCELLED, command=0), cancelled=[0])
    end = commit_of(run, event(EventType.RUN_COMPLETED), state=RunState.COMPLETED, cancelled=[0])
    with desk.journal.tasks.transaction(other) as transaction:
        assert transaction.finish(succeeded(task, "1"))
        assert desk.commit(worker, cancel) == frozenset()
        assert desk.commit(worker, end) == frozenset()
    assert outcomes(desk, worker) == [("activity_completed", 0, "1")]
    assert desk.commit(worker, cancel) == {run.run_id}
