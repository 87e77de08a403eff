"""Attempts in external executors that nobody ends: dead workers, wedged and crashed processes, silence."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from continuum.journal.protocol import ATTEMPT_GRACE
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun, Reaped
from continuum.model.tasks import TaskRef, TaskState
from tests.support.dispatches import MINUTE, SECOND, celery, deliver, letters, mark, published, ref_of, row_of
from tests.support.journals import FAILURE, HOUR, NOW, Desk, order, succeeded

Age = Callable[[timedelta], None]

DIED = Failure("WorkerLostError", "signal 11 (SIGSEGV)", kind=FailureKind.WORKER_DIED, attempts=1)


def only_failure(desk: Desk, owner: WorkerId) -> Failure:
    [(kind, command, payload)] = letters(desk, owner)
    assert (kind, command) == ("activity_failed", 0)
    assert payload is not None
    return Failure.parse(payload)


def offered(desk: Desk, run: ClaimedRun) -> tuple[str, str | None, int | None, int]:
    row = row_of(desk, run)
    return row.state, row.claimed_by, row.claimed_at, row.attempt


# ------------------------------------------------------------------ limits


def test_an_attempt_may_last_its_timeout_and_a_grace(desk: Desk, worker: WorkerId, other: WorkerId, age: Age) -> None:
    run = published(desk, worker, celery(0, timeout=MINUTE))
    task = deliver(desk, other, run)
    age(MINUTE + ATTEMPT_GRACE - 5 * SECOND)
    assert not desk.look(worker).dead
    assert desk.journal.workers.reap() == Reaped()
    age(10 * SECOND)
    assert desk.look(worker).dead
    assert desk.journal.workers.reap() == Reaped(requeued=1)
    assert offered(desk, run) == (TaskState.AVAILABLE, None, None, 2)
    assert not desk.journal.tasks.progress(other, task, details=None)
    assert not desk.journal.tasks.retry(other, task, failure=FAILURE, delay=NOW)
    assert not desk.look(worker).dead
    assert letters(desk, worker) == []
    assert [again.ref for again in mark(desk, worker).tasks] == [ref_of(run, attempt=2)]


def test_what_ended_an_attempt_is_kept_with_the_task(desk: Desk, worker: WorkerId, other: WorkerId, age: Age) -> None:
    run = published(desk, worker, celery(0, timeout=MINUTE))
    deliver(desk, other, run)
    age(2 * MINUTE)
    desk.journal.workers.reap()
    error = row_of(desk, run).last_error
    assert error is not None
    assert (error.kind, error.attempts) == (FailureKind.TIMED_OUT, 1)
    deliver(desk, other, run, attempt=2)
    desk.bury(other)
    error = row_of(desk, run).last_error
    assert error is not None
    assert (error.kind, error.attempts) == (FailureKind.WORKER_DIED, 2)


def test_the_last_attempt_past_its_timeout_fails_the_task(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age
) -> None:
    run = published(desk, worker, celery(0, attempts=1, timeout=MINUTE))
    deliver(desk, other, run)
    age(2 * MINUTE)
    assert desk.journal.workers.reap() == Reaped(exhausted=1)
    assert desk.journal.tasks.of_run(run.run_id) == []
    failure = only_failure(desk, worker)
    assert (failure.kind, failure.attempts) == (FailureKind.TIMED_OUT, 1)


def test_an_attempt_may_be_silent_for_its_heartbeat_timeout_and_a_grace(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age
) -> None:
    run = published(desk, worker, celery(0, attempts=1, timeout=HOUR, heartbeat_timeout=20 * SECOND))
    task = deliver(desk, other, run)
    for _ in range(3):
        age(25 * SECOND)
        assert desk.journal.workers.reap() == Reaped()
        assert desk.journal.tasks.progress(other, task, details=None)
    age(35 * SECOND)
    assert desk.journal.workers.reap() == Reaped(exhausted=1)
    failure = only_failure(desk, worker)
    assert (failure.kind, failure.attempts) == (FailureKind.HEARTBEAT_TIMED_OUT, 1)


def test_silence_costs_an_attempt(desk: Desk, worker: WorkerId, other: WorkerId, age: Age) -> None:
    run = published(desk, worker, celery(0, timeout=HOUR, heartbeat_timeout=20 * SECOND))
    task = deliver(desk, other, run)
    desk.journal.tasks.progress(other, task, details='{"row": 7}')
    age(35 * SECOND)
    assert desk.journal.workers.reap() == Reaped(requeued=1)
    assert offered(desk, run) == (TaskState.AVAILABLE, None, None, 2)
    assert deliver(desk, worker, run, attempt=2).heartbeat == '{"row": 7}'


def test_heartbeats_do_not_carry_an_attempt_past_its_timeout(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age
) -> None:
    run = published(desk, worker, celery(0, attempts=1, timeout=MINUTE, heartbeat_timeout=40 * SECOND))
    task = deliver(desk, other, run)
    for _ in range(2):
        age(30 * SECOND)
        assert desk.journal.tasks.progress(other, task, details=None)
    age(5 * SECOND)
    assert desk.journal.workers.reap() == Reaped()
    assert desk.journal.tasks.progress(other, task, details=None)
    age(10 * SECOND)
    assert desk.journal.workers.reap() == Reaped(exhausted=1)
    assert only_failure(desk, worker).kind == FailureKind.TIMED_OUT


def test_heartbeats_without_a_bound_on_silence_change_no_limit(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age
) -> None:
    run = published(desk, worker, celery(0, timeout=MINUTE))
    task = deliver(desk, other, run)
    age(MINUTE)
    assert desk.journal.tasks.progress(other, task, details="1")
    assert desk.journal.workers.reap() == Reaped()
    age(15 * SECOND)
    assert desk.journal.workers.reap() == Reaped(requeued=1)


def test_each_attempt_has_limits_of_its_own(desk: Desk, worker: WorkerId, other: WorkerId, age: Age) -> None:
    run = published(desk, worker, celery(0, timeout=MINUTE))
    deliver(desk, other, run)
    age(2 * MINUTE)
    desk.journal.workers.reap()
    second = deliver(desk, other, run, attempt=2)
    age(MINUTE)
    assert desk.journal.workers.reap() == Reaped()
    assert desk.journal.tasks.finish_many(other, [succeeded(second)]) == {ref_of(run, attempt=2)}


@pytest.mark.parametrize("how", ["retried", "put back"])
def test_a_free_task_has_no_limit(desk: Desk, worker: WorkerId, other: WorkerId, age: Age, how: str) -> None:
    run = published(desk, worker, celery(0, timeout=MINUTE))
    task = deliver(desk, other, run)
    if how == "retried":
        desk.journal.tasks.retry(other, task, failure=FAILURE, delay=NOW)
    else:
        desk.journal.tasks.put_back(other, [task])
    before = row_of(desk, run)
    age(HOUR)
    assert not desk.look(worker).dead
    assert desk.journal.workers.reap() == Reaped()
    assert (row_of(desk, run).state, row_of(desk, run).attempt) == (before.state, before.attempt)


def test_a_pool_that_looks_after_its_own_limits_is_left_alone(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age
) -> None:
    orders = [order(n, timeout=SECOND, heartbeat_timeout=SECOND) for n in range(2)]
    desk.parked(worker, orders=orders, claimed=[0])
    [task] = desk.take(other)
    assert desk.journal.tasks.progress(other, task, details=None)
    age(HOUR)
    assert not desk.look(worker).dead
    assert desk.journal.workers.reap() == Reaped()
    assert desk.journal.tasks.held(other) == [task]


def test_attempts_past_their_limit_are_ended_in_chunks(desk: Desk, worker: WorkerId, other: WorkerId, age: Age) -> None:
    run = published(desk, worker, *(celery(n, timeout=MINUTE, attempts=1 + n % 2) for n in range(6)))
    for n in range(6):
        deliver(desk, other, run, n)
    age(2 * MINUTE)
    requeued, exhausted, passes, more = 0, 0, 0, True
    while more:
        reaped = desk.journal.workers.reap(limit=2)
        assert reaped.requeued + reaped.exhausted <= 2
        requeued, exhausted = requeued + reaped.requeued, exhausted + reaped.exhausted
        passes, more = passes + 1, reaped.more
        assert passes < 10
    assert (requeued, exhausted) == (3, 3)
    assert sorted(command or 0 for _, command, _ in letters(desk, worker)) == [0, 2, 4]


@pytest.mark.parametrize("silence", [None, 20 * SECOND])
def test_a_task_that_gives_up_is_not_tried_again_after_a_timeout(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age, silence: timedelta | None
) -> None:
    run = published(desk, worker, celery(0, timeout=MINUTE, heartbeat_timeout=silence, gives_up=True))
    deliver(desk, other, run)
    age(35 * SECOND if silence else 2 * MINUTE)
    assert desk.journal.workers.reap() == Reaped(exhausted=1)
    failure = only_failure(desk, worker)
    assert failure.kind == (FailureKind.HEARTBEAT_TIMED_OUT if silence else FailureKind.TIMED_OUT)
    assert (failure.attempts, failure.permanent) == (1, True)


def test_a_task_that_gives_up_is_tried_again_after_its_worker_died(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = published(desk, worker, celery(0, gives_up=True))
    deliver(desk, other, run)
    desk.kill(other)
    assert desk.journal.workers.reap() == Reaped(workers=(other,), requeued=1)
    deliver(desk, worker, run, attempt=2)
    assert desk.journal.tasks.abandon(worker, ref_of(run, attempt=2), failure=DIED)
    assert offered(desk, run) == (TaskState.AVAILABLE, None, None, 3)


# ------------------------------------------------------------------ dead workers


@pytest.mark.parametrize("attempts", [1, 3])
def test_what_a_dead_worker_has_begun_costs_an_attempt(
    desk: Desk, worker: WorkerId, other: WorkerId, attempts: int
) -> None:
    run = published(desk, worker, celery(0, attempts=attempts))
    deliver(desk, other, run)
    desk.kill(other)
    last = attempts == 1
    reaped = desk.journal.workers.reap()
    assert reaped == Reaped(workers=(other,), requeued=int(not last), exhausted=int(last))
    if last:
        failure = only_failure(desk, worker)
        assert (failure.kind, failure.attempts) == (FailureKind.WORKER_DIED, 1)
        assert desk.journal.tasks.of_run(run.run_id) == []
    else:
        assert offered(desk, run) == (TaskState.AVAILABLE, None, None, 2)


def test_one_pass_tells_apart_what_was_begun_and_what_was_only_published(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    # One worker may be both: a dispatcher, and the claimant of what it got back.
    run = desk.parked(worker, orders=[celery(n) for n in range(3)])
    assert len(mark(desk, other).tasks) == 3
    deliver(desk, other, run, 1)
    desk.kill(other)
    assert desk.journal.workers.reap() == Reaped(workers=(other,), requeued=1, reoffered=2)
    assert [row.attempt for row in desk.journal.tasks.of_run(run.run_id)] == [1, 2, 1]


# ------------------------------------------------------------------ abandoned


def test_an_abandoned_attempt_is_followed_by_the_next_at_once(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    assert desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    assert offered(desk, run) == (TaskState.AVAILABLE, None, None, 2)
    assert row_of(desk, run).last_error == DIED
    assert desk.journal.tasks.held(other) == []
    assert not desk.journal.tasks.progress(other, task, details=None)
    assert letters(desk, worker) == []
    assert [again.ref for again in mark(desk, worker).tasks] == [ref_of(run, attempt=2)]


def test_the_last_attempt_abandoned_fails_the_task_as_the_caller_says(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = published(desk, worker, celery(0, attempts=1))
    deliver(desk, other, run)
    assert desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    assert only_failure(desk, worker) == DIED
    assert desk.journal.tasks.of_run(run.run_id) == []


def test_a_task_that_gives_up_ends_with_a_timeout_but_not_with_a_death(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = published(desk, worker, celery(0, gives_up=True))
    deliver(desk, other, run)
    assert desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    deliver(desk, other, run, attempt=2)
    passed = msgspec.structs.replace(DIED, kind=FailureKind.TIMED_OUT, attempts=2)
    assert desk.journal.tasks.abandon(other, ref_of(run, attempt=2), failure=passed)
    assert only_failure(desk, worker) == passed
    assert desk.journal.tasks.of_run(run.run_id) == []


def test_the_next_attempt_is_dispatched_with_a_first_deadline(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker, celery(0, attempts=9))
    assert desk.journal.tasks.defer([ref_of(run)], delay=NOW) == 1
    ends = (
        lambda task: desk.journal.tasks.retry(other, task, failure=FAILURE, delay=NOW),
        lambda task: desk.journal.tasks.abandon(other, TaskRef(task.run_id, task.command, task.attempt), failure=DIED),
        lambda _task: desk.bury(other),
    )
    numbers = []
    for attempt, end in enumerate(ends, 1):
        numbers += [again.dispatch_no for again in mark(desk, worker).tasks]
        end(deliver(desk, other, run, attempt=attempt))
    numbers += [again.dispatch_no for again in mark(desk, worker).tasks]
    assert numbers == [2, 1, 1, 1]


@pytest.mark.parametrize("attempts", [1, 3])
def test_an_attempt_is_abandoned_once(desk: Desk, worker: WorkerId, other: WorkerId, attempts: int) -> None:
    # A time limit is told twice by some workers, and the reaper may have been quicker.
    run = published(desk, worker, celery(0, attempts=attempts))
    deliver(desk, other, run)
    assert desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    assert not desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    assert [row.attempt for row in desk.journal.tasks.of_run(run.run_id)] == ([] if attempts == 1 else [2])
    assert len(letters(desk, worker)) == int(attempts == 1)


def test_only_the_claimant_abandons_and_only_its_attempt(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    assert not desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    assert not desk.journal.tasks.abandon(worker, ref_of(run), failure=DIED)
    task = deliver(desk, other, run)
    assert not desk.journal.tasks.abandon(worker, ref_of(run), failure=DIED)
    assert not desk.journal.tasks.abandon(other, ref_of(run, attempt=2), failure=DIED)
    assert not desk.journal.tasks.abandon(other, ref_of(run, 1), failure=DIED)
    assert desk.journal.tasks.held(other) == [task]


def test_an_earlier_attempt_of_mine_is_not_abandoned_any_more(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    desk.journal.tasks.retry(other, deliver(desk, other, run), failure=FAILURE, delay=NOW)
    second = deliver(desk, other, run, attempt=2)
    assert not desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    assert desk.journal.tasks.held(other) == [second]


def test_an_attempt_that_has_ended_is_not_abandoned(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    assert desk.journal.tasks.finish_many(other, [succeeded(task, "1")])
    assert not desk.journal.tasks.abandon(other, ref_of(run), failure=DIED)
    assert letters(desk, worker) == [("activity_completed", 0, "1")]
