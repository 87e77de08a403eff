"""Who waits for whom. A commit waits for nobody, whatever users and workers hold open."""

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from continuum.errors import JournalBusy
from continuum.journal.requests import ClaimRequest, CommitRequest, RegrantRequest
from continuum.model.events import EventType
from continuum.model.messages import NewMessage
from continuum.model.runs import RunState
from tests.support.eventually import eventually
from tests.support.journals import Desk, commit_of, event, grant_of, order, succeeded

BEGAN = event(EventType.RUN_BEGAN)
Connect = Callable[..., Any]
Sql = Callable[..., list[Any]]


def test_a_users_foreign_key_to_a_run_does_not_hold_up_its_commit(desk: Desk, connect: Connect, sql: Sql) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker)
    sql("create table orders (id int, run uuid references continuum_runs (id))")
    open_one = connect()
    open_one.cursor().execute("insert into orders values (1, %s)", (run.run_id,))
    assert desk.commit(worker, commit_of(run, BEGAN)) == {run.run_id}
    open_one.rollback()
    sql("drop table orders")


@pytest.mark.parametrize("mode", ["for update", "for no key update", "for share"])
def test_a_run_row_that_somebody_locks_is_left_out_and_the_others_are_written(
    desk: Desk, connect: Connect, mode: str
) -> None:
    worker = desk.make_worker()
    locked, free = desk.fresh(worker), desk.fresh(worker)
    holder = connect()
    holder.cursor().execute(f"select 1 from continuum_runs where id = %s {mode}", (locked.run_id,))
    assert desk.commit(worker, commit_of(locked, BEGAN), commit_of(free, BEGAN)) == {free.run_id}
    holder.rollback()
    assert desk.commit(worker, commit_of(locked, BEGAN)) == {locked.run_id}


def with_tasks(desk: Desk, worker: Any, *commands: int) -> Any:
    """Return a run of the worker's whose tasks are free."""
    run = desk.fresh(worker)
    return desk.write(worker, run, BEGAN, orders=[order(command) for command in commands], state=RunState.SUSPENDED)


def lock_task(connect: Connect, run_id: str, command: int) -> Any:
    holder = connect()
    holder.cursor().execute(
        "select 1 from continuum_tasks where run_id = %s and command = %s for update", (run_id, command)
    )
    return holder


def test_a_cancelled_task_that_is_being_claimed_makes_its_run_wait_for_the_next_commit(
    desk: Desk, connect: Connect
) -> None:
    worker = desk.make_worker()
    run, other = with_tasks(desk, worker, 1, 2), with_tasks(desk, worker, 1)
    holder = lock_task(connect, run.run_id, 1)
    cancelled = commit_of(run, event(EventType.ACTIVITY_CANCELLED, command=1), cancelled=[1])
    also = commit_of(other, event(EventType.ACTIVITY_CANCELLED, command=1), cancelled=[1])
    assert desk.commit(worker, cancelled, also) == {other.run_id}
    assert len(desk.journal.tasks.of_run(run.run_id)) == 2
    holder.rollback()
    assert desk.commit(worker, cancelled) == {run.run_id}
    assert [task.command for task in desk.journal.tasks.of_run(run.run_id)] == [2]


def test_a_run_does_not_end_while_one_of_its_tasks_is_being_claimed(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    run = with_tasks(desk, worker, 1, 2)
    holder = lock_task(connect, run.run_id, 2)
    end = commit_of(run, event(EventType.RUN_COMPLETED, payload="1"), state=RunState.COMPLETED, cancelled=[1, 2])
    assert desk.commit(worker, end) == frozenset()
    assert desk.run(run.run_id).state == RunState.SUSPENDED
    holder.rollback()
    assert desk.commit(worker, end) == {run.run_id}
    assert desk.journal.tasks.of_run(run.run_id) == []


def test_a_local_result_whose_task_row_is_locked_is_left_out_whole(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    run = desk.write(
        worker, desk.fresh(worker), BEGAN, orders=[order(1)], claimed=frozenset({1}), state=RunState.SUSPENDED
    )
    holder = lock_task(connect, run.run_id, 1)
    result = commit_of(run, event(EventType.ACTIVITY_COMPLETED, command=1, payload="1"), finished=((1, 1),))
    assert desk.commit(worker, result) == frozenset()
    holder.rollback()
    assert desk.commit(worker, result) == {run.run_id}


def test_an_open_signal_and_an_open_start_hold_up_no_commit(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker)
    caller = connect()
    started = desk.new_run()
    desk.journal.runs.start(started, connection=caller)
    desk.journal.runs.post(
        NewMessage(run.run_id, EventType.SIGNAL_RECEIVED, "go", "1", None, "once"), connection=caller
    )
    assert desk.commit(worker, commit_of(run, BEGAN)) == {run.run_id}
    assert desk.claim(worker) == []
    caller.commit()
    assert desk.claim_one(worker).run_id == started.id


def test_two_users_who_signal_in_opposite_order_do_not_deadlock(desk: Desk, connect: Connect) -> None:
    first, second = desk.make_run(), desk.make_run()
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def signal_both(*runs: Any) -> None:
        connection = connect()
        try:
            for run_id in runs:
                desk.journal.runs.post(NewMessage(run_id, EventType.SIGNAL_RECEIVED, "go", "1"), connection=connection)
                barrier.wait(20)
            connection.commit()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=signal_both, args=runs) for runs in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_a_statement_that_would_have_to_wait_gives_up_as_busy_and_the_line_goes_on(
    desk: Desk, connect: Connect
) -> None:
    """The backstop: an operator who locks a whole table stops commits, not dispatchers."""
    worker = desk.make_worker()
    run = desk.fresh(worker)
    operator = connect()
    with _opened(desk) as line:
        operator.cursor().execute("lock table continuum_events in access exclusive mode")
        line.send(CommitRequest(worker, [commit_of(run, BEGAN)]))
        with pytest.raises(JournalBusy):
            eventually(line.receive)
        assert line.request is None
        operator.rollback()
        line.send(CommitRequest(worker, [commit_of(run, BEGAN)]))
        assert line.wait(20).written == {run.run_id}


def test_a_regrant_waits_for_the_commit_whose_answer_was_lost(desk: Desk, connect: Connect, sql: Sql) -> None:
    """The ghost holds the row; the new token comes after it, and the history that is loaded includes it."""
    worker = desk.make_worker()
    run = desk.parked(worker)
    ghost = connect()
    with ghost.cursor() as cursor:
        cursor.execute("update continuum_runs set last_seq = last_seq + 1 where id = %s", (run.run_id,))
        cursor.execute(
            "insert into continuum_events (run_id, seq, type, at_us) values (%s, %s, 'timer_fired', 1)",
            (run.run_id, run.last_seq + 1),
        )
    with _opened(desk) as line:
        line.send(RegrantRequest(worker, (grant_of(run),)))
        eventually(lambda: sql("select 1 from pg_locks where not granted"))
        ghost.commit()
        [again] = line.wait(20).runs
    assert again.last_seq == run.last_seq + 1
    assert [item.seq for item in again.events] == list(range(1, run.last_seq + 2))
    assert again.token == run.token + 1


def test_a_claim_whose_snapshot_grew_old_still_brings_the_whole_history(desk: Desk, connect: Connect, sql: Sql) -> None:
    """Between a claim's snapshot and its lock another worker claims, commits and releases the run."""
    slow, quick = desk.make_worker(), desk.make_worker()
    run_id = desk.make_run()
    gate = connect()
    gate.cursor().execute("select 1 from continuum_workers where id = %s for update", (slow,))
    with _opened(desk) as line:
        line.send(ClaimRequest(slow, (("order", 1),), 5))
        eventually(lambda: sql("select 1 from pg_locks where not granted"))
        run = desk.claim_one(quick)
        # Still due: the commit leaves wake_at alone, as a turn does that could not finish.
        run = desk.write(quick, run, BEGAN)
        desk.release(quick, run)
        gate.rollback()
        [claimed] = line.wait(20).runs
    assert claimed.run_id == run_id
    assert [item.seq for item in claimed.events] == [1, 2]
    assert claimed.last_seq == 2


def test_terminate_waits_for_a_commit_under_way_and_fences_the_next(desk: Desk, connect: Connect, sql: Sql) -> None:
    worker = desk.make_worker()
    run = desk.parked(worker)
    owner = connect()
    owner.cursor().execute("select 1 from continuum_runs where id = %s for no key update", (run.run_id,))
    ended: list[str] = []
    thread = threading.Thread(
        target=lambda: ended.append(desk.journal.runs.terminate(run.run_id, namespace=None, reason="enough"))
    )
    thread.start()
    eventually(lambda: sql("select 1 from pg_locks where not granted"))
    assert ended == []
    owner.rollback()
    thread.join(20)
    assert ended == [run.run_id]
    assert desk.commit(worker, commit_of(run, event(EventType.TIMER_FIRED, command=1))) == frozenset()


def test_a_task_that_one_pool_locks_is_skipped_by_another(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    run = with_tasks(desk, worker, 1, 2)
    holder = lock_task(connect, run.run_id, 1)
    assert [task.command for task in desk.take(worker)] == [2]
    holder.rollback()
    assert [task.command for task in desk.take(worker)] == [1]


def test_the_sweep_skips_what_is_locked_and_finds_it_later(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    runs = [desk.parked(worker) for _ in range(3)]
    holder = connect()
    holder.cursor().execute("select 1 from continuum_runs where id = %s for update", (runs[0].run_id,))
    desk.kill(worker)
    assert desk.journal.workers.reap().runs == 2
    assert desk.journal.workers.reap().runs == 0
    holder.rollback()
    assert desk.journal.workers.reap().runs == 1


def test_an_outcome_waits_for_no_lock_on_the_run(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    run = with_tasks(desk, worker, 1)
    task = desk.take_one(worker)
    holder = connect()
    holder.cursor().execute("select 1 from continuum_runs where id = %s for update", (run.run_id,))
    assert desk.journal.tasks.finish(worker, succeeded(task))
    holder.rollback()


def test_a_heartbeat_is_not_held_up_by_a_claim_in_flight(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    claimer = connect()
    claimer.cursor().execute("select 1 from continuum_workers where id = %s for key share", (worker,))
    assert desk.journal.workers.beat(worker, timedelta(seconds=30))
    claimer.rollback()


def _opened(desk: Desk) -> Any:
    return closing(desk.journal.open_line())


@pytest.mark.parametrize("what", ["put back", "terminated"])
def test_who_waits_for_task_rows_takes_them_in_order_of_their_key(
    desk: Desk, connect: Connect, sql: Sql, what: str
) -> None:
    """The others do, and two that wait in different orders wait for each other."""
    worker = desk.make_worker()
    run = with_tasks(desk, worker, 1, 2)
    claimed = sorted(desk.take(worker), key=lambda task: -task.command)
    # The row of the first command comes last in the table.
    sql("update continuum_tasks set heartbeat_at = now() where run_id = %s and command = 1", run.run_id)
    calls: dict[str, Callable[[], object]] = {
        "put back": lambda: desk.journal.tasks.put_back(worker, claimed),
        "terminated": lambda: desk.journal.runs.terminate(run.run_id, namespace=None, reason="enough"),
    }
    holder = lock_task(connect, run.run_id, 1)
    thread = threading.Thread(target=calls[what])
    thread.start()
    eventually(lambda: sql("select 1 from pg_locks where not granted"))
    free = "select command from continuum_tasks where run_id = %s for update skip locked"
    assert sql(free, run.run_id) == [(2,)]
    holder.rollback()
    thread.join(20)
    assert not thread.is_alive()
