"""Tasks in a commit: ordered free or claimed, ended by a claim that is compared, cancelled whoever holds them."""

import pytest

from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun, Grant
from continuum.model.tasks import ClaimedTask
from tests.support.journals import FAILURE, NOW, Desk, commit_of, event, order, succeeded

DONE = event(EventType.ACTIVITY_COMPLETED, command=0, payload='"paid"')


def with_task(desk: Desk, worker: WorkerId, *, claimed: bool = True) -> ClaimedRun:
    return desk.parked(worker, orders=[order(0)], claimed=[0] if claimed else [])


def held(desk: Desk, worker: WorkerId) -> ClaimedTask:
    [task] = desk.journal.tasks.held(worker)
    return task


def test_orders_become_tasks_claimed_or_free(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0), order(1, queue="slow", priority=7, attempts=5)], claimed=[0])
    mine, free = desk.journal.tasks.of_run(run.run_id)
    assert (mine.command, mine.claimed_by, mine.attempt, mine.queue) == (0, worker, 1, "default")
    assert mine.claimed_at is not None
    assert (free.command, free.claimed_by, free.claimed_at, free.attempt) == (1, None, None, 1)
    assert (free.queue, free.priority, free.max_attempts, free.activity) == ("slow", 7, 5, "charge")
    assert mine.state != free.state
    assert (free.heartbeat, free.heartbeat_at, free.last_error) == (None, None, None)
    assert abs(free.available_at - desk.now_us()) < 60_000_000


def test_a_claimed_task_says_all_that_its_order_said(desk: Desk, worker: WorkerId) -> None:
    wanted = order(0, arguments='[[{"b": 1,  "a": 2}],{}]', idempotency_key="k1", attempts=9, priority=-3)
    run = desk.parked(worker, orders=[wanted], claimed=[0])
    assert desk.journal.tasks.held(worker) == [
        ClaimedTask(run.run_id, 0, 1, "charge", wanted.arguments, wanted.policy, "k1", None)
    ]


def test_a_local_result_is_written_and_its_task_goes_without_a_message(desk: Desk, worker: WorkerId) -> None:
    run = with_task(desk, worker)
    desk.write(worker, run, DONE, finished=[(0, 1)])
    assert desk.journal.tasks.of_run(run.run_id) == []
    assert desk.mail(worker).messages == []
    assert desk.types(run.run_id)[-1] == "activity_completed"


def refused(desk: Desk, worker: WorkerId, run: ClaimedRun, attempt: int = 1) -> bool:
    written = desk.commit(worker, commit_of(run, DONE, finished=[(0, attempt)]))
    assert desk.run(run.run_id).last_seq == run.last_seq + bool(written)
    return not written


def test_a_local_result_of_another_attempt_is_refused(desk: Desk, worker: WorkerId) -> None:
    run = with_task(desk, worker)
    assert refused(desk, worker, run, attempt=2)
    task = held(desk, worker)
    desk.journal.tasks.retry(worker, task, failure=FAILURE, delay=NOW)
    desk.take_one(worker)
    assert refused(desk, worker, run, attempt=1)
    assert not refused(desk, worker, run, attempt=2)


def test_a_local_result_of_a_task_that_another_worker_holds_is_refused(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = with_task(desk, worker, claimed=False)
    desk.take_one(other)
    assert refused(desk, worker, run)
    assert held(desk, other).attempt == 1


def test_a_local_result_of_a_task_that_nobody_holds_is_refused(desk: Desk, worker: WorkerId) -> None:
    run = with_task(desk, worker)
    desk.journal.tasks.put_back(worker, [held(desk, worker)])
    assert refused(desk, worker, run)


def test_a_local_result_of_a_task_that_is_gone_is_refused(desk: Desk, worker: WorkerId) -> None:
    run = with_task(desk, worker)
    assert desk.journal.tasks.finish(worker, succeeded(held(desk, worker)))
    assert refused(desk, worker, run)
    state = desk.inspect(run.run_id)[run.run_id]
    assert (state.owner, state.token, state.last_seq) == (worker, run.token, run.last_seq)


def test_one_lost_claim_among_several_refuses_the_whole_decision(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0), order(1)], claimed=[0, 1])
    lost = desk.journal.tasks.held(worker)[1]
    desk.journal.tasks.put_back(worker, [lost])
    events = [event(EventType.ACTIVITY_COMPLETED, command=n, payload="1") for n in (0, 1)]
    assert desk.commit(worker, commit_of(run, *events, finished=[(0, 1), (1, 1)])) == frozenset()
    assert len(desk.journal.tasks.of_run(run.run_id)) == 2
    desk.write(worker, run, events[0], finished=[(0, 1)])
    assert [task.command for task in desk.journal.tasks.of_run(run.run_id)] == [1]


def test_a_lost_claim_in_one_run_does_not_hold_up_the_others(desk: Desk, worker: WorkerId) -> None:
    lost, good = with_task(desk, worker), with_task(desk, worker)
    task = next(task for task in desk.journal.tasks.held(worker) if task.run_id == lost.run_id)
    desk.journal.tasks.put_back(worker, [task])
    commits = [commit_of(run, DONE, finished=[(0, 1)]) for run in (lost, good)]
    assert desk.commit(worker, *commits) == {good.run_id}


def test_a_result_and_the_next_order_travel_together(desk: Desk, worker: WorkerId) -> None:
    run = with_task(desk, worker)
    desk.write(
        worker,
        run,
        DONE,
        event(EventType.ACTIVITY_SCHEDULED, command=1, name="ship"),
        finished=[(0, 1)],
        orders=[order(1, activity="ship")],
        claimed=[1],
    )
    assert [(task.command, task.activity) for task in desk.journal.tasks.held(worker)] == [(1, "ship")]


@pytest.mark.parametrize("holder", ["nobody", "the owner", "another worker"])
def test_a_cancelled_task_goes_whoever_holds_it(desk: Desk, worker: WorkerId, other: WorkerId, holder: str) -> None:
    run = with_task(desk, worker, claimed=holder == "the owner")
    if holder == "another worker":
        desk.take_one(other)
    running = [(by, task) for by in (worker, other) for task in desk.journal.tasks.held(by)]
    desk.write(worker, run, event(EventType.ACTIVITY_CANCELLED, command=0), cancelled=[0])
    assert desk.journal.tasks.of_run(run.run_id) == []
    for by, task in running:
        assert not desk.journal.tasks.progress(by, task, details=None)
        assert not desk.journal.tasks.finish(by, succeeded(task))
    assert desk.mail(worker).messages == []


def test_cancelling_a_task_that_is_gone_is_no_error(desk: Desk, worker: WorkerId) -> None:
    run = with_task(desk, worker)
    desk.journal.tasks.finish(worker, succeeded(held(desk, worker)))
    desk.write(worker, run, event(EventType.ACTIVITY_CANCELLED, command=0), cancelled=[0, 5])
    assert len(desk.mail(worker).messages) == 1  # its outcome had been posted before


def test_a_commit_touches_only_tasks_of_its_own_run(desk: Desk, worker: WorkerId) -> None:
    first, second = with_task(desk, worker), with_task(desk, worker)
    desk.write(worker, first, DONE, finished=[(0, 1)])
    assert held(desk, worker).run_id == second.run_id
    third = with_task(desk, worker)
    desk.write(worker, third, event(EventType.ACTIVITY_CANCELLED, command=0), cancelled=[0])
    assert held(desk, worker).run_id == second.run_id
    desk.end(worker, desk.regrant(worker, Grant(first.run_id, first.token))[0])
    assert held(desk, worker).run_id == second.run_id


def test_orders_of_a_fenced_commit_do_not_exist(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    late = commit_of(run, event(EventType.ACTIVITY_SCHEDULED, command=0), orders=[order(0)], token=run.token - 1)
    assert desk.commit(worker, late) == frozenset()
    assert desk.journal.tasks.of_run(run.run_id) == []
