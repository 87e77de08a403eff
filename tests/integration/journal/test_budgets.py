"""Counted, not timed: transactions, HOT updates, statements."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2.extras

from continuum.journal.requests import InspectRequest, LookRequest, MailRequest
from continuum.model.events import EventType
from continuum.model.runs import RunState
from tests.support.eventually import eventually
from tests.support.journals import Desk, commit_of, event, order, succeeded

Sql = Callable[..., list[Any]]


def steps(desk: Desk, worker: Any, run: Any, count: int) -> Any:
    """Commit ordinary steps: a result in, the next task out."""
    for command in range(1, count + 1):
        arrived = [event(EventType.ACTIVITY_COMPLETED, command=command - 1, payload="1")] if command > 1 else []
        run = desk.write(
            worker,
            run,
            *arrived,
            event(EventType.ACTIVITY_SCHEDULED, command=command, payload="[]"),
            orders=[order(command)],
            claimed={command},
            finished=((command - 1, 1),) if command > 1 else (),
            state=RunState.SUSPENDED,
        )
    return run


def test_ordinary_steps_update_the_run_row_in_place(desk: Desk, sql: Sql) -> None:
    """HOT: a step may not touch an index of the run, or a busy table is all garbage."""
    worker = desk.make_worker()
    runs = [desk.began(worker, desk.fresh(worker)) for _ in range(30)]
    before = hot_and_all(sql)
    runs = [steps(desk, worker, run, 20) for run in runs]
    desk.close()  # a session reports what it did when it ends, at the latest

    def counted() -> bool:
        hot, updated = (now - then for now, then in zip(hot_and_all(sql), before, strict=True))
        assert updated >= 30 * 20
        return bool(hot >= 0.85 * updated)

    eventually(counted)


def hot_and_all(sql: Sql) -> tuple[int, int]:
    [(hot, updated)] = sql("select n_tup_hot_upd, n_tup_upd from pg_stat_user_tables where relname = 'continuum_runs'")
    return hot, updated


def test_a_step_is_one_transaction(desk: Desk, sql: Sql) -> None:
    """A row says which transaction wrote it."""
    worker = desk.make_worker()
    run = steps(desk, worker, desk.began(worker, desk.fresh(worker)), 30)
    written = "from continuum_events where run_id = %s and seq > 2"
    assert sql(f"select count(*), count(distinct xmin::text) {written}", run.run_id) == [(59, 30)]
    [(of_run,)] = sql("select xmin::text from continuum_runs where id = %s", run.run_id)
    [(of_task,)] = sql("select xmin::text from continuum_tasks where run_id = %s", run.run_id)
    [(of_last,)] = sql(f"select xmin::text {written} order by seq desc limit 1", run.run_id)
    assert of_run == of_task == of_last


def test_a_batch_is_one_transaction(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    runs = [desk.fresh(worker) for _ in range(20)]
    assert len(desk.commit(worker, *(commit_of(run, event(EventType.RUN_BEGAN)) for run in runs))) == 20
    assert sql("select count(distinct xmin::text) from continuum_events where seq = 2") == [(1,)]


def test_a_start_is_one_transaction(desk: Desk, sql: Sql) -> None:
    desk.journal.runs.start(desk.new_run(idempotency_key="key", attributes='{"a": 1}'))
    tables = ("runs", "events", "attributes", "ingress_keys")
    assert len({row for table in tables for row in sql(f"select xmin::text from continuum_{table}")}) == 1


def test_an_outcome_is_one_transaction(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    desk.write(worker, desk.fresh(worker), event(EventType.RUN_BEGAN), orders=[order(1)], state=RunState.SUSPENDED)
    task = desk.take_one(worker)
    assert desk.journal.tasks.finish(worker, succeeded(task))
    assert sql("select count(*) from continuum_tasks") == [(0,)]
    assert sql("select count(distinct xmin::text) from continuum_inbox") == [(1,)]


def test_looking_and_reading_write_and_lock_nothing(desk: Desk) -> None:
    """Not even a row lock would pass in a transaction that may only read."""
    worker = desk.make_worker()
    run = desk.parked(worker)
    desk.signal(run.run_id)
    with closing(desk.journal.open_line()) as line:
        connection = line._connection  # type: ignore[attr-defined]
        with connection.cursor() as cursor:
            cursor.execute("set default_transaction_read_only = on")
            psycopg2.extras.wait_select(connection)
        for request in (
            LookRequest(worker, (("order", 1),), None, 100),
            MailRequest(worker, 100),
            InspectRequest((run.run_id,)),
        ):
            line.send(request)
            assert line.wait(20)


def test_pooled_sessions_are_few_and_named(desk: Desk, sql: Sql) -> None:
    for _ in range(20):
        desk.make_run()
    names = [
        name for (name,) in sql("select application_name from pg_stat_activity where datname = current_database()")
    ]
    assert names.count("continuum client") == 1
    assert names.count("continuum line") == 1
