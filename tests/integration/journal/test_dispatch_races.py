"""Tasks of external executors: two that meet at one row, and who waits for whom."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from continuum.journal.postgres.task_rows import expiry, times_out_at
from continuum.model.events import EventType
from continuum.model.ids import RunId, WorkerId
from continuum.model.leases import ClaimedRun
from continuum.model.policies import ActivityPolicy
from continuum.model.runs import RunState
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRef
from tests.support.eventually import eventually
from tests.support.journals import FAILURE, HOUR, NOW, Desk, commit_of, event, order

Connect = Callable[..., Any]
Sql = Callable[..., list[Any]]
Meets = Callable[..., Any]

OFFERED = "update continuum_tasks set state = 'available', claimed_by = null, lease_expires_at = null"
SWEPT = f"{OFFERED}, attempt = attempt + 1, claimed_at = null"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def dispatcher(desk: Desk) -> WorkerId:
    return desk.make_worker()


@pytest.fixture
def worker(desk: Desk) -> WorkerId:
    return desk.make_worker()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def dispatched(desk: Desk, dispatcher: WorkerId, count: int = 1, **fields: Any) -> ClaimedRun:
    """Return a run of the dispatcher's that waits for tasks it has dispatched."""
    orders = [order(n, executor="celery", **fields) for n in range(1, count + 1)]
    return desk.parked(dispatcher, orders=orders, dispatched=frozenset(range(1, count + 1)))


def ref_of(run: ClaimedRun, command: int = 1, attempt: int = 1) -> TaskRef:
    return TaskRef(run.run_id, command, attempt)


def success(ref: TaskRef) -> TaskOutcome:
    return TaskOutcome(ref.run_id, ref.command, ref.attempt, "charge", "1")


def failure(ref: TaskRef) -> TaskOutcome:
    return TaskOutcome(ref.run_id, ref.command, ref.attempt, "charge", None, FAILURE)


def claim(desk: Desk, worker: WorkerId, *refs: TaskRef) -> list[TaskRef]:
    claimed = desk.journal.tasks.claim_dispatched(worker, refs)
    return sorted(TaskRef(task.run_id, task.command, task.attempt) for task in claimed)


def held_open(connect: Connect, statement: str, *values: Any) -> Any:
    """Return a connection whose transaction has executed the statement."""
    holder = connect()
    holder.cursor().execute(statement, values)
    return holder


def locked(connect: Connect, run: ClaimedRun, command: int = 1) -> Any:
    return held_open(
        connect, "select 1 from continuum_tasks where run_id = %s and command = %s for update", run.run_id, command
    )


@pytest.fixture
def meets(connect: Connect, sql: Sql, pool: ThreadPoolExecutor) -> Callable[..., Any]:
    """Call something while a statement of somebody else's is about to commit; it has to wait for that."""

    def run(statement: str, call: Callable[[], Any], *, meanwhile: Callable[[], None] | None = None) -> Any:
        other = held_open(connect, statement)
        answer = pool.submit(call)
        eventually(lambda: sql("select 1 from pg_locks where not granted"))
        assert not answer.done()
        if meanwhile is not None:
            meanwhile()
        other.commit()
        return answer.result(20)

    return run


def row_of(desk: Desk, run_id: RunId, command: int = 1) -> Any:
    return next(row for row in desk.journal.tasks.of_run(run_id) if row.command == command)


# ------------------------------------------------------------------ claims


def test_of_many_copies_of_a_message_one_claims(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, pool: ThreadPoolExecutor
) -> None:
    runs = [dispatched(desk, dispatcher) for _ in range(10)]
    together = threading.Barrier(8)

    def receive(_: int) -> list[TaskRef]:
        mine = [ref_of(run) for run in runs]
        random.shuffle(mine)
        together.wait(20)
        return [got for ref in mine for got in claim(desk, worker, ref)]

    claimed = [ref for mine in pool.map(receive, range(8)) for ref in mine]
    assert sorted(claimed) == sorted(ref_of(run) for run in runs)


def test_batches_of_the_same_messages_in_any_order_do_not_deadlock(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, pool: ThreadPoolExecutor
) -> None:
    runs = [dispatched(desk, dispatcher, 20) for _ in range(3)]
    refs = [ref_of(run, command) for run in runs for command in range(1, 21)]
    together = threading.Barrier(8)

    def receive(_: int) -> list[TaskRef]:
        mine = random.sample(refs, len(refs))
        together.wait(20)
        got = claim(desk, worker, *mine)
        together.wait(20)
        random.shuffle(mine)
        ended = desk.journal.tasks.finish_many(worker, [success(ref) for ref in mine])
        together.wait(20)
        return [*got, *ended]

    done = [ref for mine in pool.map(receive, range(8)) for ref in mine]
    assert sorted(done) == sorted(refs * 2)


@pytest.mark.parametrize("change", [OFFERED, "update continuum_tasks set claimed_by = null"])
def test_a_claim_waits_for_a_reaper_or_a_handing_over_and_gets_the_task(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, meets: Meets, change: str
) -> None:
    """Skipped, the message would be lost: the task would wait out a deadline."""
    run = dispatched(desk, dispatcher)
    assert meets(change, lambda: claim(desk, worker, ref_of(run))) == [ref_of(run)]


@pytest.mark.parametrize("change", [SWEPT, "delete from continuum_tasks"])
def test_a_claim_of_what_is_just_cancelled_or_one_attempt_on_gets_nothing(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, meets: Meets, change: str
) -> None:
    run = dispatched(desk, dispatcher)
    assert meets(change, lambda: claim(desk, worker, ref_of(run))) == []


def test_a_claim_by_a_worker_that_dies_meanwhile_is_found_by_the_next_sweep(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, meets: Meets
) -> None:
    """Why the worker's row is looked at and not locked."""
    run = dispatched(desk, dispatcher)
    locking = "select 1 from continuum_tasks for update"
    claimed = meets(locking, lambda: claim(desk, worker, ref_of(run)), meanwhile=lambda: desk.bury(worker))
    assert claimed == [ref_of(run)]
    assert desk.journal.workers.reap().requeued == 1
    assert row_of(desk, run.run_id).attempt == 2


def test_a_dispatch_skips_what_another_one_has_locked(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, connect: Connect
) -> None:
    run = desk.parked(dispatcher, orders=[order(n, executor="celery") for n in (1, 2)])
    other = locked(connect, run)
    found = desk.journal.tasks.dispatch(worker, executor="celery", rooms={}, room=9, limit=9, deadline=MINUTE)
    assert ([task.ref for task in found.tasks], found.more) == ([ref_of(run, 2)], True)
    other.rollback()
    found = desk.journal.tasks.dispatch(worker, executor="celery", rooms={}, room=9, limit=9, deadline=MINUTE)
    assert ([task.ref for task in found.tasks], found.more) == ([ref_of(run, 1)], False)


# ------------------------------------------------------------------ outcomes


def begun(desk: Desk, dispatcher: WorkerId, worker: WorkerId, count: int = 1) -> ClaimedRun:
    run = dispatched(desk, dispatcher, count)
    assert len(claim(desk, worker, *(ref_of(run, n) for n in range(1, count + 1)))) == count
    return run


@pytest.mark.parametrize("outcome", [success, failure])
def test_an_outcome_that_meets_the_sweep_of_its_attempt_is_accepted_only_if_it_is_a_success(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, meets: Meets, outcome: Callable[[TaskRef], TaskOutcome]
) -> None:
    run = begun(desk, dispatcher, worker)
    accepted = outcome is success
    ended = meets(SWEPT, lambda: desk.journal.tasks.finish_many(worker, [outcome(ref_of(run))]))
    assert ended == ({ref_of(run)} if accepted else frozenset())
    assert len(desk.mail(dispatcher).messages) == accepted
    assert [row.attempt for row in desk.journal.tasks.of_run(run.run_id)] == ([] if accepted else [2])


def test_an_outcome_that_meets_the_cancellation_of_its_task_is_stale(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, meets: Meets
) -> None:
    run = begun(desk, dispatcher, worker, 2)
    outcomes = [success(ref_of(run, n)) for n in (1, 2)]
    cancelling = "delete from continuum_tasks where command = 1"
    assert meets(cancelling, lambda: desk.journal.tasks.finish_many(worker, outcomes)) == {ref_of(run, 2)}


def test_a_commit_does_not_wait_for_an_outcome_of_the_task_it_cancels(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, connect: Connect
) -> None:
    run = begun(desk, dispatcher, worker)
    outcome = locked(connect, run)
    cancel = commit_of(run, event(EventType.ACTIVITY_CANCELLED, command=1), cancelled=[1], state=RunState.SUSPENDED)
    assert desk.commit(dispatcher, cancel) == frozenset()
    outcome.rollback()
    assert desk.commit(dispatcher, cancel) == {run.run_id}
    assert claim(desk, worker, ref_of(run)) == []


def test_a_crash_that_is_reported_twice_at_once_costs_one_attempt(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, pool: ThreadPoolExecutor
) -> None:
    run = begun(desk, dispatcher, worker)
    abandon = desk.journal.tasks.abandon
    answers = [pool.submit(abandon, worker, ref_of(run), failure=FAILURE) for _ in range(8)]
    assert sorted(answer.result(20) for answer in answers) == [False] * 7 + [True]
    assert row_of(desk, run.run_id).attempt == 2


# ------------------------------------------------------------------ sweeps


@pytest.mark.parametrize("state", ["dispatched", "leased"])
def test_the_sweep_of_the_overdue_skips_what_is_just_claimed_or_ended(
    desk: Desk, dispatcher: WorkerId, connect: Connect, sql: Sql, state: str
) -> None:
    run = dispatched(desk, dispatcher) if state == "dispatched" else begun(desk, dispatcher, desk.make_worker())
    sql("update continuum_tasks set lease_expires_at = now() - interval '1 second'")
    other = locked(connect, run)
    reaped = desk.journal.workers.reap()
    assert (reaped.reoffered, reaped.requeued) == (0, 0)
    other.rollback()
    reaped = desk.journal.workers.reap()
    assert (reaped.reoffered, reaped.requeued) == ((1, 0) if state == "dispatched" else (0, 1))


def test_deferring_and_handing_over_skip_what_is_just_claimed(
    desk: Desk, dispatcher: WorkerId, connect: Connect
) -> None:
    run = dispatched(desk, dispatcher, 2)
    other = locked(connect, run)
    assert desk.journal.tasks.hand_over(dispatcher) == 1
    assert desk.journal.tasks.defer([ref_of(run, 1), ref_of(run, 2)], delay=NOW) == 1
    other.rollback()
    assert row_of(desk, run.run_id, 1).state == "dispatched"


def test_nothing_of_this_waits_for_a_run_row(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, connect: Connect
) -> None:
    run = dispatched(desk, dispatcher, 4)
    held_open(connect, "select 1 from continuum_runs where id = %s for update", run.run_id)
    tasks = desk.journal.tasks
    refs = [ref_of(run, n) for n in range(1, 5)]
    assert tasks.defer(refs[:1], delay=NOW) == 1
    assert len(tasks.dispatch(dispatcher, executor="celery", rooms={}, room=9, limit=9, deadline=HOUR).tasks) == 1
    assert tasks.hand_over(dispatcher) == 4
    assert claim(desk, worker, *refs) == refs
    assert tasks.abandon(worker, refs[0], failure=FAILURE)
    assert tasks.finish_many(worker, [success(ref) for ref in refs]) == set(refs)


# ------------------------------------------------------------------ time


@pytest.mark.parametrize(
    ("policy", "silence", "longest"),
    [
        ({}, 3600, 3600),
        ({"timeout": timedelta(hours=24)}, 86_400, 86_400),
        ({"timeout": timedelta(hours=24), "heartbeat_timeout": timedelta.max}, 86_400, 86_400),
        ({"timeout": timedelta(microseconds=1)}, 0.000001, 0.000001),
        ({"timeout": timedelta(hours=2, microseconds=5)}, 7200.000005, 7200.000005),
        ({"heartbeat_timeout": timedelta(seconds=1.5)}, 1.5, 3600),
        ({"timeout": timedelta(hours=20), "heartbeat_timeout": timedelta(days=1)}, 72_000, 72_000),
    ],
)
def test_limits_of_stored_policies_are_read_to_the_microsecond_even_when_clocks_change(
    sql: Sql, connect: Connect, policy: dict[str, timedelta], silence: float, longest: float
) -> None:
    session = connect()
    with session.cursor() as cursor:
        # A day that has 23 hours there.
        cursor.execute("set timezone = 'Europe/Berlin'")
        seconds = "extract(epoch from {} - t.at - interval '10 seconds')::float8"
        cursor.execute(
            f"select {seconds.format(expiry('t.at', 't.at'))}, {seconds.format(times_out_at('t.at'))}"
            " from (select timestamptz '2026-03-28 12:00+01' as at, %s::json as policy) t",
            (ActivityPolicy(**policy).encode(),),  # type: ignore[arg-type]
        )
        assert cursor.fetchone() == (pytest.approx(silence, abs=1e-9), pytest.approx(longest, abs=1e-9))


def test_a_sign_of_life_never_moves_an_attempt_past_its_timeout(
    desk: Desk, dispatcher: WorkerId, worker: WorkerId, sql: Sql
) -> None:
    policy = ActivityPolicy(timeout=MINUTE, heartbeat_timeout=timedelta(seconds=50), queue="default", executor="celery")
    wanted = order(1, executor="celery")
    wanted = type(wanted)(1, "charge", "[]", policy, policy.encode(), None)
    run = desk.parked(dispatcher, orders=[wanted], dispatched=frozenset({1}))
    [task] = desk.journal.tasks.claim_dispatched(worker, [ref_of(run)])
    left = "select extract(epoch from lease_expires_at - claimed_at)::float8 from continuum_tasks"
    assert sql(left) == [(60,)]
    sql("update continuum_tasks set claimed_at = now() - interval '30 seconds'")
    assert desk.journal.tasks.progress(worker, task, details=None)
    assert sql(left) == [(70,)]


def test_a_task_of_the_local_pool_is_given_no_time(desk: Desk, dispatcher: WorkerId, sql: Sql) -> None:
    desk.parked(dispatcher, orders=[order(1)])
    task: ClaimedTask = desk.take_one(dispatcher)
    assert desk.journal.tasks.progress(dispatcher, task, details="1")
    assert sql("select lease_expires_at from continuum_tasks") == [(None,)]
