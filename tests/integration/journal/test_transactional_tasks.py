"""Transactional activities work in a transaction of ours, under the settings of theirs."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text

from continuum.errors import JournalUnavailable
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.runs import RunState
from continuum.model.tasks import ClaimedTask, TaskOutcome
from tests.support.journals import Desk, event, order, succeeded


def task_of(desk: Desk, worker: Any) -> ClaimedTask:
    run = desk.fresh(worker)
    desk.write(worker, run, event(EventType.RUN_BEGAN), orders=[order(1)], state=RunState.SUSPENDED)
    return desk.take_one(worker)


def test_what_it_writes_and_its_outcome_come_together(desk: Desk, sql: Any) -> None:
    sql("create table sums (n int)")
    worker = desk.make_worker()
    task = task_of(desk, worker)
    with desk.journal.tasks.transaction(worker) as transaction:
        transaction.connection.execute(text("insert into sums values (1)"))
        assert transaction.finish(succeeded(task))
        assert sql("select * from sums") == []
        assert desk.mail(worker).messages == []
    assert sql("select * from sums") == [(1,)]
    assert len(desk.mail(worker).messages) == 1


def test_a_lost_claim_undoes_what_it_wrote(desk: Desk, sql: Any) -> None:
    sql("create table sums (n int)")
    worker = desk.make_worker()
    task = task_of(desk, worker)
    stale = TaskOutcome(task.run_id, task.command, task.attempt + 1, task.activity, "1")
    with desk.journal.tasks.transaction(worker) as transaction:
        transaction.connection.execute(text("insert into sums values (1)"))
        assert not transaction.finish(stale)
    assert sql("select * from sums") == []
    assert len(desk.journal.tasks.held(worker)) == 1


def test_its_own_errors_are_its_own(desk: Desk) -> None:
    worker = desk.make_worker()
    with (
        pytest.raises(sqlalchemy.exc.ProgrammingError, match="nowhere"),
        desk.journal.tasks.transaction(worker) as transaction,
    ):
        transaction.connection.execute(text("select * from nowhere"))
    desk.make_run()


def test_its_statements_are_planned_and_wait_as_the_database_says(desk: Desk, sql: Any) -> None:
    names = ("plan_cache_mode", "enable_seqscan", "enable_mergejoin", "enable_bitmapscan", "jit", "lock_timeout")
    usual = [sql(f"show {name}")[0][0] for name in names]
    worker = desk.make_worker()
    with desk.journal.tasks.transaction(worker) as transaction:
        there = [transaction.connection.execute(text(f"show {name}")).scalar_one() for name in names]
    assert there == usual


def test_a_connection_that_breaks_inside_is_not_used_again(desk: Desk, sql: Any) -> None:
    worker = desk.make_worker()
    task = task_of(desk, worker)
    with (  # noqa: PT012 - the block is what breaks
        pytest.raises(JournalUnavailable),
        desk.journal.tasks.transaction(worker) as transaction,
    ):
        pid = transaction.connection.execute(text("select pg_backend_pid()")).scalar_one()
        sql("select pg_terminate_backend(%s)", pid)
        transaction.finish(succeeded(task))
    assert len(desk.journal.tasks.held(worker)) == 1


def test_the_last_errors_of_a_task_are_kept_and_no_more(desk: Desk, sql: Any) -> None:

    worker = desk.make_worker()
    run = desk.fresh(worker)
    desk.write(worker, run, event(EventType.RUN_BEGAN), orders=[order(1, attempts=100)], state=RunState.SUSPENDED)
    for number in range(1, 16):
        task = desk.take_one(worker)
        assert desk.journal.tasks.retry(worker, task, failure=Failure("E", f"number {number}"), delay=timedelta(0))
    [(messages,)] = sql("select array_agg(e ->> 'message') from continuum_tasks, json_array_elements(errors) e")
    assert messages == [f"number {number}" for number in range(6, 16)]
    [record] = desk.journal.tasks.of_run(run.run_id)
    assert record.last_error == Failure("E", "number 15")
