"""Counted, not timed: transactions, HOT updates, statements."""

from collections.abc import Callable
from typing import Any

from continuum.model.events import EventType
from continuum.model.runs import RunState
from tests.support.eventually import eventually
from tests.support.journals import Desk, event, order

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
    worker = desk.make_worker()
    run = desk.began(worker, desk.fresh(worker))
    [(xid,)] = sql("select pg_current_xact_id()::text::bigint")
    steps(desk, worker, run, 50)
    [(after,)] = sql("select pg_current_xact_id()::text::bigint")
    assert after - xid == 50 + 1


def test_a_start_is_one_transaction(desk: Desk, sql: Sql) -> None:
    new = [desk.new_run(idempotency_key=f"key{number}", attributes='{"a": 1}') for number in range(20)]
    [(xid,)] = sql("select pg_current_xact_id()::text::bigint")
    for run in new:
        desk.journal.runs.start(run)
    [(after,)] = sql("select pg_current_xact_id()::text::bigint")
    assert after - xid == 20 + 1


def test_looking_and_reading_mail_write_nothing(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    desk.parked(worker)
    [(xid,)] = sql("select pg_current_xact_id()::text::bigint")
    for _ in range(20):
        desk.look(worker)
        desk.mail(worker)
    [(after,)] = sql("select pg_current_xact_id()::text::bigint")
    assert after - xid == 1


def test_pooled_sessions_are_few_and_named(desk: Desk, sql: Sql) -> None:
    for _ in range(20):
        desk.make_run()
    names = [
        name for (name,) in sql("select application_name from pg_stat_activity where datname = current_database()")
    ]
    assert names.count("continuum client") == 1
    assert names.count("continuum line") == 1
