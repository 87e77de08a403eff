"""Months of events: made ahead, filled from the default partition, found by the run's id."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from continuum.errors import JournalError
from continuum.journal.open import open_journal
from continuum.journal.postgres.partitions import months_from
from continuum.model.events import EventType
from continuum.model.ids import new_run_id, run_id_floor
from continuum.model.runs import NewRun
from tests.support.journals import Desk, commit_of, event

Sql = Callable[..., list[Any]]


def in_days(desk: Desk, days: int) -> datetime:
    return desk.now() + timedelta(days=days)


def start_at(desk: Desk, moment: datetime) -> Any:
    """Start a run whose id says that it was created then."""
    run_id = new_run_id(int(moment.timestamp() * 1_000_000))
    started = '{"input":[],"seed":"5eed"}'
    run = NewRun(id=run_id, namespace="default", workflow="order", version=1, version_hash="hash", started=started)
    assert desk.journal.runs.start(run) == (run_id, True)
    return run_id


def partition_of(sql: Sql, run_id: str) -> str:
    [(name,)] = sql("select distinct tableoid::regclass::text from continuum_events where run_id = %s", run_id)
    return str(name)


@pytest.mark.parametrize(
    ("now", "names"),
    [
        (datetime(2026, 1, 31, 23, 59, tzinfo=UTC), ["2026_01", "2026_02", "2026_03"]),
        (datetime(2026, 11, 1, tzinfo=UTC), ["2026_11", "2026_12", "2027_01"]),
        (datetime(2028, 2, 29, tzinfo=UTC), ["2028_02", "2028_03", "2028_04"]),
    ],
)
def test_months_follow_each_other_without_a_gap(now: datetime, names: list[str]) -> None:
    months = list(months_from(now, 2))
    assert [month.name for month in months] == [f"continuum_events_{name}" for name in names]
    assert [month.end for month in months[:-1]] == [month.first for month in months[1:]]
    first = int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert months[0].first == run_id_floor(first)


def test_missing_months_are_created_once(desk: Desk) -> None:
    upkeep = desk.journal.upkeep
    made = upkeep.ensure_partitions(months_ahead=5)
    assert len(made) == 2  # the migration has made the first four
    assert upkeep.ensure_partitions(months_ahead=5) == []


def test_a_run_lies_in_the_month_of_its_id_with_all_its_events(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    run = desk.parked(worker)
    desk.end(worker, run)
    assert partition_of(sql, run.run_id) == f"continuum_events_{desk.now():%Y_%m}"


def test_events_without_a_month_are_counted_and_moved_when_it_is_made(desk: Desk, sql: Sql) -> None:
    months = list(months_from(desk.now(), 6))
    far = datetime.strptime(months[5].name[-7:], "%Y_%m").replace(tzinfo=UTC) + timedelta(days=3)
    stray, here = start_at(desk, far), desk.make_run()
    assert partition_of(sql, stray) == "continuum_events_default"
    assert desk.journal.upkeep.misplaced_events() == 1
    assert months[5].name in desk.journal.upkeep.ensure_partitions(months_ahead=6)
    assert desk.journal.upkeep.misplaced_events() == 0
    assert partition_of(sql, stray) == months[5].name
    assert partition_of(sql, here) == months[0].name
    assert desk.types(stray) == ["run_started"]


def test_misplaced_events_are_counted_up_to_a_thousand(desk: Desk, sql: Sql) -> None:
    sql(
        "insert into continuum_events (run_id, seq, type, at_us) select %s, n, 'x', 1 from generate_series(1, 1500) n",
        str(run_id_floor(1)),
    )
    assert desk.journal.upkeep.misplaced_events() == 1000


def test_a_default_partition_that_was_dropped_comes_back(desk: Desk, sql: Sql) -> None:
    sql("drop table continuum_events_default")
    assert desk.journal.upkeep.ensure_partitions(months_ahead=3) == []
    assert desk.journal.upkeep.misplaced_events() == 0
    assert start_at(desk, in_days(desk, 3000))


def test_several_may_make_the_same_months_at_once(desk: Desk, database_url: str, sql: Sql) -> None:
    def ensure(_: int) -> int:
        with closing(open_journal(database_url)) as journal:
            return len(journal.upkeep.ensure_partitions(months_ahead=8))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ensure, range(4))) == 5


def test_commits_go_on_while_months_are_made(desk: Desk, connect: Callable[..., Any]) -> None:
    """Somebody who reads a history for long holds up neither; making a month holds up no commit."""
    worker = desk.make_worker()
    run = desk.fresh(worker)
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(desk.journal.upkeep.ensure_partitions, months_ahead=12)
        for _ in range(20):
            run = desk.write(worker, run, event(EventType.VALUE_RECORDED, command=1, payload="1"))
        assert len(making.result(30)) == 9
    assert desk.commit(worker, commit_of(run, event(EventType.RUN_BEGAN))) == {run.run_id}


def test_a_month_is_dropped_without_tearing_a_history(desk: Desk, sql: Sql) -> None:
    old = start_at(desk, datetime(2020, 5, 17, tzinfo=UTC))
    assert partition_of(sql, old) == "continuum_events_default"
    kept = desk.make_run()
    sql("delete from continuum_events where run_id = %s", old)
    assert desk.types(kept) == ["run_started"]


def test_a_role_that_may_only_write_rows_finds_the_months_that_are_there(database_url: str, sql: Sql) -> None:
    role = f"writer_{make_url(database_url).database}"
    sql(f"create role {role} login password 'test'")
    try:
        sql(f"grant select, insert, update, delete on all tables in schema public to {role}")
        url = make_url(database_url).set(username=role, password="test").render_as_string(hide_password=False)
        with closing(open_journal(url)) as journal:
            assert journal.upkeep.ensure_partitions(months_ahead=3) == []
            with pytest.raises(JournalError, match="42501"):
                journal.upkeep.ensure_partitions(months_ahead=4)
            assert journal.upkeep.discard_dead_mail() == 0
    finally:
        sql(f"drop owned by {role}")
        sql(f"drop role {role}")


def test_the_outcome_of_a_chain_is_found_in_the_month_of_its_tip(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    first, other, tip = start_at(desk, desk.now()), start_at(desk, desk.now()), start_at(desk, in_days(desk, 40))
    for run in desk.claim(worker):
        if run.run_id != first:
            desk.end(worker, run)
    sql("update continuum_runs set is_tip = false, state = 'continued' where id = %s", first)
    sql("update continuum_runs set chain_id = %s where id = %s", first, tip)
    assert partition_of(sql, first) != partition_of(sql, tip)
    outcomes = desk.journal.runs.outcomes
    assert outcomes([first]).keys() == {first}
    assert outcomes([first])[first] == outcomes([tip])[tip]
    assert outcomes([first, other, tip]).keys() == {first, other, tip}
