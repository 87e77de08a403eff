"""What searches and attributes wait for on Postgres, and what they leave behind."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from continuum.errors import JournalBusy
from continuum.journal.postgres import search
from continuum.model.ids import RunId
from continuum.model.search import Query
from tests.support.eventually import eventually
from tests.support.journals import Desk

BLOCKED = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@contextmanager
def holding(url: str, sql: str, *values: Any) -> Iterator[Callable[[], int]]:
    """Hold what a statement locks; yield what counts the sessions of this database that wait for a lock."""
    with closing(psycopg2.connect(url)) as holder, closing(psycopg2.connect(url)) as watcher:
        watcher.autocommit = True
        with holder.cursor() as cursor, watcher.cursor() as look:
            cursor.execute(sql, values)

            def blocked() -> int:
                look.execute(BLOCKED)
                return int(look.fetchone()[0])  # type: ignore[index]

            yield blocked
            holder.rollback()


def merge(desk: Desk, run_id: RunId) -> None:
    desk.journal.runs.set_attributes(run_id, '{"b":2}')


def test_the_first_attributes_wait_for_a_commit_of_the_run(desk: Desk, database_url: str) -> None:
    run_id = desk.make_run()
    with ThreadPoolExecutor(1) as pool:
        held = "select 1 from continuum_runs where id = %s for no key update"
        with holding(database_url, held, run_id) as blocked:
            merging: Future[None] = pool.submit(merge, desk, run_id)
            eventually(lambda: blocked() == 1, 10.0)
            with pytest.raises(TooLate):
                merging.result(timeout=0)
        merging.result(timeout=10)
    assert desk.run(run_id).attributes == {"b": 2}


def test_further_attributes_wait_for_no_run(desk: Desk, database_url: str) -> None:
    run_id = desk.make_run(attributes='{"a":1}')
    with holding(database_url, "select 1 from continuum_runs where id = %s for update", run_id):
        merge(desk, run_id)
        assert desk.run(run_id).attributes == {"a": 1, "b": 2}


def test_a_search_waits_for_nobodys_rows(desk: Desk, database_url: str) -> None:
    run_id = desk.make_run()
    with holding(database_url, "select 1 from continuum_runs for update"):
        assert [run.id for run in desk.journal.runs.search(Query()).runs] == [run_id]


def test_a_search_that_takes_too_long_is_given_up_and_leaves_its_session_as_it_was(
    desk: Desk, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = desk.make_run()
    with monkeypatch.context() as patch, holding(database_url, "lock table continuum_runs in access exclusive mode"):
        patch.setattr(search, "SEARCH_SETTINGS", f"{search.SEARCH_SETTINGS}; set local statement_timeout = 50")
        with pytest.raises(JournalBusy, match="created_at"):
            desk.journal.runs.search(Query())
    # The session goes on being one that commits each statement at once, under our settings.
    for _ in range(3):
        assert [run.id for run in desk.journal.runs.search(Query()).runs] == [run_id]
        merge(desk, run_id)
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute("select attributes from continuum_attributes")
        assert cursor.fetchall() == [({"b": 2},)]
        cursor.execute(
            "select state from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'"
        )
        assert cursor.fetchall() == []
