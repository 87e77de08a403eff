"""Pools: claiming tasks by queue, priority and age; trying again; showing signs of life; giving back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from continuum.errors import JournalError
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun
from tests.support.journals import FAILURE, HOUR, HOUR_US, NOW, Desk, order, succeeded


def test_a_free_task_is_claimed_with_all_it_needs(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    wanted = order(3, activity="a.b", arguments="[[1,  2],{}]", idempotency_key="k", attempts=5)
    run = desk.parked(worker, orders=[wanted])
    task = desk.take_one(other)
    assert (task.run_id, task.command, task.attempt, task.activity) == (run.run_id, 3, 1, "a.b")
    assert (task.arguments, task.policy, task.idempotency_key) == (wanted.arguments, wanted.policy, "k")
    assert task.heartbeat is None
    [row] = desk.journal.tasks.of_run(run.run_id)
    assert row.claimed_by == other
    assert desk.journal.tasks.held(other) == [task]
    assert desk.journal.tasks.held(worker) == []


def test_a_claimed_task_is_not_claimed_again(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.parked(worker, orders=[order(0), order(1)], claimed=[0])
    assert [task.command for task in desk.take(other)] == [1]
    assert desk.take(worker) == []


def test_the_highest_priority_is_claimed_first(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(n, priority=p) for n, p in enumerate([-10, 50, 0, 1000])])
    assert [desk.take(worker, limit=1)[0].policy.priority for _ in range(4)] == [1000, 50, 0, -10]


def test_among_equals_the_oldest_is_claimed_first(desk: Desk, worker: WorkerId) -> None:
    runs = [desk.parked(worker, orders=[order(0)]) for _ in range(3)]
    assert [desk.take(worker, limit=1)[0].run_id for _ in runs] == [run.run_id for run in runs]


def test_a_claim_takes_at_most_its_limit(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(n) for n in range(5)])
    assert [len(desk.take(worker, limit=3)) for _ in range(3)] == [3, 2, 0]


def test_a_claim_takes_at_most_each_queues_limit(desk: Desk, worker: WorkerId) -> None:
    orders = [order(n, queue="slow" if n < 2 else "fast", priority=5 if n < 2 else 0) for n in range(4)]
    desk.parked(worker, orders=orders)
    taken = desk.take(worker, limit=3, queues={"slow": 1, "fast": 2})
    assert sorted(task.policy.queue for task in taken) == ["fast", "fast", "slow"]
    assert desk.take(worker, limit=3, queues={"slow": 0, "fast": 2}) == []
    assert [task.policy.queue for task in desk.take(worker, limit=3, queues={"slow": 1})] == ["slow"]


def test_a_full_queue_does_not_stand_in_the_way_of_another(desk: Desk, worker: WorkerId) -> None:
    orders = [order(n, queue="slow", priority=9) for n in range(20)] + [order(20, queue="fast")]
    desk.parked(worker, orders=orders)
    taken = desk.take(worker, limit=2, queues={"slow": 1, "fast": 5})
    assert sorted(task.policy.queue for task in taken) == ["fast", "slow"]


def test_tasks_of_other_queues_are_left_alone(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0, queue="other")])
    assert desk.take(worker, queues={"default": 5}) == []
    assert len(desk.take(worker, queues={"other": 5})) == 1


def test_a_claim_for_any_queue_takes_from_all(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(n, queue=f"q{n}", priority=n) for n in range(3)])
    claimed = desk.journal.tasks.claim(worker, queues=None, limit=2)
    assert [task.policy.queue for task in claimed] == ["q2", "q1"]


def test_a_claim_for_no_queue_takes_nothing(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0)])
    assert desk.take(worker, queues={}) == []


def test_tasks_of_other_executors_are_left_alone(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0, executor="celery"), order(1, executor="local"), order(2)])
    assert [task.command for task in desk.take(worker, executor="celery")] == [0]
    assert sorted(task.command for task in desk.take(worker, executor="local")) == [1, 2]


def test_claimers_at_once_share_no_task(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(n) for n in range(40)])
    workers = [desk.make_worker() for _ in range(4)]
    together = Barrier(4)

    def take(claimant: WorkerId) -> list[int]:
        together.wait()
        return [task.command for _ in range(20) for task in desk.take(claimant, limit=3)]

    with ThreadPoolExecutor(4) as pool:
        taken = [command for mine in pool.map(take, workers) for command in mine]
    taken += [task.command for task in desk.take(worker)]
    assert sorted(taken) == list(range(40))


# ------------------------------------------------------------------ retry


def begun(desk: Desk, worker: WorkerId, **fields: int) -> ClaimedRun:
    return desk.parked(worker, orders=[order(0, **fields)])


def test_a_retried_task_is_free_for_its_next_attempt(desk: Desk, worker: WorkerId) -> None:
    run = begun(desk, worker)
    task = desk.take_one(worker)
    failure = Failure("ValueError", "nö", traceback="line\n", attempts=1)
    assert desk.journal.tasks.retry(worker, task, failure=failure, delay=NOW)
    [row] = desk.journal.tasks.of_run(run.run_id)
    assert (row.attempt, row.claimed_by, row.claimed_at, row.last_error) == (2, None, None, failure)
    assert desk.take_one(worker).attempt == 2
    assert desk.mail(worker).messages == []


def test_a_retried_task_is_not_claimed_before_its_delay(desk: Desk, worker: WorkerId) -> None:
    run = begun(desk, worker)
    before = desk.now_us()
    delay = HOUR + timedelta(microseconds=1)
    desk.journal.tasks.retry(worker, desk.take_one(worker), failure=FAILURE, delay=delay)
    assert desk.take(worker) == []
    [row] = desk.journal.tasks.of_run(run.run_id)
    assert before + HOUR_US + 1 <= row.available_at <= desk.now_us() + HOUR_US + 1


def test_a_retried_attempt_is_over(desk: Desk, worker: WorkerId) -> None:
    begun(desk, worker)
    task = desk.take_one(worker)
    assert desk.journal.tasks.retry(worker, task, failure=FAILURE, delay=NOW)
    assert not desk.journal.tasks.retry(worker, task, failure=FAILURE, delay=NOW)
    assert not desk.journal.tasks.finish(worker, succeeded(task))
    assert desk.journal.tasks.held(worker) == []
    desk.take_one(worker)  # the next attempt, by the same worker
    assert not desk.journal.tasks.finish(worker, succeeded(task))
    assert desk.mail(worker).messages == []


def test_only_the_claimant_can_retry(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = begun(desk, worker)
    task = desk.take_one(worker)
    assert not desk.journal.tasks.retry(other, task, failure=FAILURE, delay=NOW)
    assert [row.attempt for row in desk.journal.tasks.of_run(run.run_id)] == [1]


# ------------------------------------------------------------------ progress


def test_progress_is_recorded_with_its_time(desk: Desk, worker: WorkerId) -> None:
    run = begun(desk, worker)
    task = desk.take_one(worker)
    before = desk.now_us()
    assert desk.journal.tasks.progress(worker, task, details='{"b": 1,  "a": 2}')
    [row] = desk.journal.tasks.of_run(run.run_id)
    assert row.heartbeat == '{"b": 1,  "a": 2}'
    assert row.heartbeat_at is not None
    assert before <= row.heartbeat_at <= desk.now_us()


def test_progress_without_details_keeps_the_old_ones(desk: Desk, worker: WorkerId) -> None:
    run = begun(desk, worker)
    task = desk.take_one(worker)
    desk.journal.tasks.progress(worker, task, details="1")
    [first] = desk.journal.tasks.of_run(run.run_id)
    assert desk.journal.tasks.progress(worker, task, details=None)
    [second] = desk.journal.tasks.of_run(run.run_id)
    assert second.heartbeat == "1"
    assert first.heartbeat_at is not None
    assert second.heartbeat_at is not None
    assert second.heartbeat_at >= first.heartbeat_at


def test_the_next_attempt_gets_the_last_progress(desk: Desk, worker: WorkerId) -> None:
    begun(desk, worker)
    task = desk.take_one(worker)
    desk.journal.tasks.progress(worker, task, details='{"row": 7}')
    desk.journal.tasks.retry(worker, task, failure=FAILURE, delay=NOW)
    assert desk.take_one(worker).heartbeat == '{"row": 7}'


def test_progress_of_a_lost_claim_says_so(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = begun(desk, worker)
    task = desk.take_one(worker)
    assert not desk.journal.tasks.progress(other, task, details="1")
    desk.journal.runs.terminate(run.run_id, namespace=None, reason="")
    assert not desk.journal.tasks.progress(worker, task, details="1")


def test_progress_that_is_no_json_is_refused(desk: Desk, worker: WorkerId) -> None:
    begun(desk, worker)
    task = desk.take_one(worker)
    with pytest.raises(JournalError):
        desk.journal.tasks.progress(worker, task, details="{nonsense")
    assert desk.journal.tasks.progress(worker, task, details=None)


# ------------------------------------------------------------------ put back


def test_tasks_put_back_are_free_at_the_same_attempt(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0), order(1)])
    tasks = desk.take(worker)
    assert desk.journal.tasks.put_back(worker, tasks) == 2
    rows = desk.journal.tasks.of_run(run.run_id)
    assert [(row.attempt, row.claimed_by) for row in rows] == [(1, None)] * 2
    assert {task.attempt for task in desk.take(other)} == {1}


def test_only_my_own_claims_are_put_back(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.parked(worker, orders=[order(0), order(1)])
    mine, theirs = desk.take(worker, limit=1), desk.take(other, limit=1)
    assert desk.journal.tasks.put_back(worker, mine + theirs) == 1
    assert desk.journal.tasks.put_back(worker, mine) == 0
    assert desk.journal.tasks.put_back(worker, []) == 0
    assert desk.journal.tasks.held(other) == theirs
