"""Whoever gets a message claims by name: once, and only what nobody has begun. Then it is an attempt like any other."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_run_id, new_worker_id
from continuum.model.tasks import ClaimedTask, TaskRef, TaskState
from tests.support.dispatches import celery, deliver, letters, mark, published, ref_of, row_of, waiting
from tests.support.journals import FAILURE, HOUR, NOW, Desk, event, order, succeeded


def claim(desk: Desk, worker: WorkerId, *refs: TaskRef) -> list[ClaimedTask]:
    return desk.journal.tasks.claim_dispatched(worker, refs)


def test_a_claim_by_name_gets_all_that_the_order_said(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    wanted = celery(
        0, arguments='[[{"b": 1,  "a": 2}],{}]', idempotency_key="k1", attempts=9, priority=-3, queue="mail"
    )
    run = published(desk, worker, wanted)
    before = desk.now_us()
    task = deliver(desk, other, run)
    assert task == ClaimedTask(run.run_id, 0, 1, "charge", wanted.arguments, wanted.policy, "k1", None)
    row = row_of(desk, run)
    assert (row.state, row.claimed_by, row.attempt, row.dispatch_no) == (TaskState.LEASED, other, 1, 1)
    assert row.claimed_at is not None
    assert before - 1 <= row.claimed_at <= desk.now_us() + 1
    assert desk.journal.tasks.held(other) == [task]
    assert desk.journal.tasks.held(worker) == []


def test_several_are_claimed_at_once_and_the_stale_among_them_are_missing(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    first, second = published(desk, worker, celery(0), celery(1)), published(desk, worker)
    refs = [ref_of(first, 1), ref_of(first, 5), ref_of(second), ref_of(second, attempt=2), ref_of(first, 0)]
    assert {(task.run_id, task.command, task.attempt) for task in claim(desk, other, *refs)} == {
        (first.run_id, 0, 1),
        (first.run_id, 1, 1),
        (second.run_id, 0, 1),
    }
    assert claim(desk, other) == []


def test_a_message_that_comes_three_times_is_obeyed_once(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker, celery(0), celery(1))
    assert len(claim(desk, other, ref_of(run), ref_of(run), ref_of(run))) == 1
    assert claim(desk, other, ref_of(run)) == []
    assert claim(desk, worker, ref_of(run)) == []
    assert len(claim(desk, worker, ref_of(run, 1))) == 1
    assert claim(desk, other, ref_of(run, 1), ref_of(run)) == []
    assert row_of(desk, run, 1).claimed_by == worker


def test_workers_at_once_share_no_attempt(desk: Desk, worker: WorkerId) -> None:
    run = published(desk, worker, *(celery(n) for n in range(30)))
    workers = [desk.make_worker() for _ in range(4)]
    together = Barrier(4)

    def take(claimant: WorkerId) -> list[int]:
        together.wait()
        return [task.command for n in range(30) for task in claim(desk, claimant, ref_of(run, n), ref_of(run, 29 - n))]

    with ThreadPoolExecutor(4) as pool:
        taken = [command for mine in pool.map(take, workers) for command in mine]
    assert sorted(taken) == list(range(30))


@pytest.mark.parametrize("attempt", [0, 2])
def test_another_attempt_is_not_claimed(desk: Desk, worker: WorkerId, other: WorkerId, attempt: int) -> None:
    run = published(desk, worker)
    assert claim(desk, other, ref_of(run, attempt=attempt)) == []
    assert row_of(desk, run).state == TaskState.DISPATCHED


def test_an_attempt_that_is_over_is_not_claimed(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    assert desk.journal.tasks.retry(other, task, failure=FAILURE, delay=NOW)
    assert claim(desk, other, ref_of(run)) == []
    [again] = mark(desk, worker).tasks
    assert (again.ref, again.dispatch_no) == (ref_of(run, attempt=2), 1)
    assert claim(desk, other, ref_of(run)) == []
    assert deliver(desk, other, run, attempt=2).attempt == 2


def test_a_task_that_is_free_again_is_claimed_by_its_old_message(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    # Late, but the same attempt: nobody has begun it, and whoever publishes it anew will find it gone.
    run = waiting(desk, worker)
    mark(desk, other)
    desk.bury(other)
    assert row_of(desk, run).state == TaskState.AVAILABLE
    assert deliver(desk, worker, run).attempt == 1
    assert mark(desk, worker).tasks == []


def test_a_message_of_an_earlier_dispatch_is_as_good_as_the_last(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    desk.journal.tasks.defer([ref_of(run)], delay=NOW)
    assert [task.dispatch_no for task in mark(desk, worker).tasks] == [2]
    deliver(desk, other, run)
    assert claim(desk, other, ref_of(run)) == []


def test_a_deferred_task_is_claimed_by_name_before_its_time(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    desk.journal.tasks.defer([ref_of(run)], delay=HOUR)
    assert desk.take(other, executor="celery") == []
    assert deliver(desk, other, run).attempt == 1


def test_a_task_put_back_is_claimed_again_at_the_same_attempt(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    assert desk.journal.tasks.put_back(other, [deliver(desk, other, run)]) == 1
    row = row_of(desk, run)
    assert (row.state, row.claimed_by, row.attempt, row.dispatch_no) == (TaskState.AVAILABLE, None, 1, 1)
    assert deliver(desk, worker, run).attempt == 1


@pytest.mark.parametrize("state", ["dispatched", "available"])
def test_a_dead_or_unknown_worker_claims_nothing(desk: Desk, worker: WorkerId, other: WorkerId, state: str) -> None:
    run = published(desk, worker) if state == "dispatched" else waiting(desk, worker)
    desk.kill(other)
    assert claim(desk, other, ref_of(run)) == []
    assert claim(desk, new_worker_id(), ref_of(run)) == []
    assert row_of(desk, run).state == state


def test_a_run_nobody_knows_has_no_tasks(desk: Desk, worker: WorkerId) -> None:
    assert claim(desk, worker, TaskRef(new_run_id(desk.now_us()), 0, 1)) == []
    assert claim(desk, worker, ref_of(desk.parked(worker))) == []


# ------------------------------------------------------------------ nobody waits any more


@pytest.mark.parametrize("how", ["cancelled", "ended", "terminated"])
@pytest.mark.parametrize("begun", [False, True], ids=["dispatched", "begun"])
def test_a_task_nobody_waits_for_goes_whoever_has_it(
    desk: Desk, worker: WorkerId, other: WorkerId, how: str, begun: bool
) -> None:
    run = published(desk, worker, celery(0), celery(1))
    tasks = [deliver(desk, other, run, n) for n in range(2)] if begun else []
    if how == "cancelled":
        desk.write(worker, run, event(EventType.ACTIVITY_CANCELLED, command=0), cancelled=[0, 1])
    elif how == "ended":
        desk.end(worker, run)
    else:
        desk.journal.runs.terminate(run.run_id, namespace=None, reason="")
    assert desk.journal.tasks.of_run(run.run_id) == []
    assert claim(desk, other, ref_of(run), ref_of(run, 1)) == []
    assert desk.journal.tasks.undelivered(worker, executor="celery") == []
    for task in tasks:
        assert not desk.journal.tasks.progress(other, task, details=None)
        assert desk.journal.tasks.finish_many(other, [succeeded(task)]) == frozenset()
        assert not desk.journal.tasks.abandon(other, TaskRef(task.run_id, task.command, task.attempt), failure=FAILURE)
    assert letters(desk, worker) == []


# ------------------------------------------------------------------ beside other pools


def test_no_pool_takes_what_is_dispatched(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    published(desk, worker)
    for executor in ("local", "celery"):
        assert desk.take(other, executor=executor) == []
        assert desk.journal.tasks.claim(other, queues=None, limit=10, executor=executor) == []


def test_the_local_pool_leaves_free_tasks_of_executors_alone(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = waiting(desk, worker, celery(0), order(1))
    assert [task.command for task in desk.take(other)] == [1]
    assert [task.ref for task in mark(desk, worker).tasks] == [ref_of(run, 0)]


# ------------------------------------------------------------------ an attempt like any other


def test_a_begun_task_is_retried_like_any_other(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    assert not desk.journal.tasks.retry(worker, task, failure=FAILURE, delay=HOUR)
    assert desk.journal.tasks.retry(other, task, failure=FAILURE, delay=HOUR)
    row = row_of(desk, run)
    assert (row.state, row.attempt, row.last_error) == (TaskState.AVAILABLE, 2, FAILURE)
    answer = mark(desk, worker)
    assert (answer.tasks, answer.next_due_us) == ([], row.available_at)


def test_a_begun_task_ends_with_its_key_or_in_a_transaction(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker, celery(0), celery(1))
    keyed, transactional = (deliver(desk, other, run, n) for n in range(2))
    assert desk.journal.tasks.finish_keyed(other, succeeded(keyed, "1"), key="k") == (True, "1")
    with desk.journal.tasks.transaction(other) as transaction:
        assert transaction.finish(succeeded(transactional, "2"))
    assert letters(desk, worker) == [("activity_completed", 0, "1"), ("activity_completed", 1, "2")]


def test_the_next_attempt_gets_what_the_last_reported(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    assert desk.journal.tasks.progress(other, task, details='{"row": 7}')
    desk.journal.tasks.retry(other, task, failure=FAILURE, delay=NOW)
    mark(desk, worker)
    assert deliver(desk, worker, run, attempt=2).heartbeat == '{"row": 7}'
