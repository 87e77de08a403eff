"""Counted, not timed: transactions, HOT updates, statements."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, cast

import psycopg2.extras

from continuum.journal.open import open_journal
from continuum.journal.postgres.embedded import EmbeddedPostgres
from continuum.journal.postgres.migrate import upgrade
from continuum.journal.requests import InspectRequest, LookRequest, MailRequest
from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.runs import RunState
from continuum.model.tasks import TaskRef
from tests.support.eventually import eventually
from tests.support.journals import Desk, commit_of, event, order, row_locked, succeeded

Sql = Callable[..., list[Any]]
HOT_AND_ALL = "select n_tup_hot_upd, n_tup_upd from pg_stat_user_tables where relname = 'continuum_runs'"
SENT: dict[str, Any] = {"state": RunState.SUSPENDED}


def steps(desk: Desk, worker: Any, run: Any, count: int) -> Any:
    """Commit ordinary steps of the local pool: a result in, the next task out."""
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


def test_steps_of_an_external_executor_update_the_run_row_in_place_too(own_postgres: EmbeddedPostgres) -> None:
    """On a server of its own: a long transaction in any database of one keeps it from pruning what is updated."""
    upgrade(own_postgres.url)

    def counts() -> tuple[int, int]:
        with closing(psycopg2.connect(own_postgres.url)) as connection, connection.cursor() as cursor:
            cursor.execute(HOT_AND_ALL)
            return cast("tuple[int, int]", cursor.fetchone())

    with closing(open_journal(own_postgres.url)) as journal:
        desk = Desk(journal, wing="postgres", locked=partial(row_locked, own_postgres.url))
        dispatcher, worker = desk.make_worker(), desk.make_worker()
        runs = [desk.began(dispatcher, desk.fresh(dispatcher)) for _ in range(30)]
        before = counts()
        for command in range(1, 21):
            runs = external_step(desk, dispatcher, worker, runs, command)
        desk.close()

        def counted() -> bool:
            hot, updated = (now - then for now, then in zip(counts(), before, strict=True))
            assert updated >= 2 * 30 * 20
            return bool(hot >= 0.85 * updated)

        eventually(counted)


def external_step(desk: Desk, dispatcher: WorkerId, worker: WorkerId, runs: list[Any], command: int) -> list[Any]:
    """Commit a dispatched task for each run, let it be claimed and ended, and commit its result."""
    scheduled = event(EventType.ACTIVITY_SCHEDULED, command=command, payload="[]")
    wanted = order(command, executor="celery")
    runs = [desk.write(dispatcher, run, scheduled, orders=[wanted], **SENT, dispatched={command}) for run in runs]
    refs = [TaskRef(run.run_id, command, 1) for run in runs]
    claimed = desk.journal.tasks.claim_dispatched(worker, refs)
    assert desk.journal.tasks.finish_many(worker, [succeeded(task) for task in claimed]) == set(refs)
    arrived = event(EventType.ACTIVITY_COMPLETED, command=command, payload="1")
    mail = {message.run_id: message.id for message in desk.mail(dispatcher).messages}
    return [desk.write(dispatcher, run, arrived, consumed=(mail[run.run_id],), **SENT) for run in runs]


def test_a_dispatched_task_comes_in_the_transaction_of_its_step(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    scheduled = event(EventType.ACTIVITY_SCHEDULED, command=1, payload="[]")
    run = desk.began(worker, desk.fresh(worker))
    desk.write(worker, run, scheduled, orders=[order(1, executor="celery")], **SENT, dispatched={1})
    [(of_task, state, times)] = sql("select xmin::text, state, dispatch_no from continuum_tasks")
    assert (state, times) == ("dispatched", 1)
    assert sql("select xmin::text from continuum_runs") == [(of_task,)]


def test_many_outcomes_are_one_transaction(desk: Desk, sql: Sql) -> None:
    dispatcher, worker = desk.make_worker(), desk.make_worker()
    orders = [order(command, executor="celery") for command in range(20)]
    run = desk.parked(dispatcher, orders=orders, dispatched=frozenset(range(20)))
    refs = [TaskRef(run.run_id, command, 1) for command in range(20)]
    claimed = desk.journal.tasks.claim_dispatched(worker, refs)
    assert sql("select count(distinct xmin::text) from continuum_tasks") == [(1,)]
    assert len(desk.journal.tasks.finish_many(worker, [succeeded(task) for task in claimed])) == 20
    assert sql("select count(*), count(distinct xmin::text) from continuum_inbox") == [(20, 1)]


def hot_and_all(sql: Sql) -> tuple[int, int]:
    [(hot, updated)] = sql(HOT_AND_ALL)
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
            LookRequest(worker, (("order", 1),), None, 100, ("celery",)),
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
