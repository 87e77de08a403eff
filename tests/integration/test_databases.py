"""The databases tests get: each its own, migrated once, and none left in use."""

from contextlib import closing

import psycopg2
import pytest

from tests.support.databases import Databases


@pytest.fixture
def made(postgres_url: str, request: pytest.FixtureRequest):
    """Databases with a migration of our own, which counts."""

    def migrate(url: str) -> None:
        migrated.append(url)
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("create table migrated (id int)")

    migrated: list[str] = []
    databases = Databases(postgres_url, prefix=f"continuum_self_{abs(hash(request.node.nodeid)):x}", migrate=migrate)
    yield databases, migrated
    databases.drop_template()


def ask(url: str, query: str):
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall() if cursor.description else None


def test_each_database_is_migrated_and_apart_from_the_others(made) -> None:
    databases, migrated = made
    with databases.fresh() as first, databases.fresh() as second:
        ask(first, "insert into migrated values (1)")
        assert ask(second, "select * from migrated") == []
    assert len(migrated) == 1


def test_a_database_is_dropped_after_its_test(made, postgres_url: str) -> None:
    databases, _ = made
    with databases.fresh() as url:
        name = url.rsplit("/", 1)[1]
    assert ask(postgres_url, f"select 1 from pg_database where datname = '{name}'") == []


def test_a_connection_left_open_fails_the_test_and_is_named(made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.databases.SETTLE_SECONDS", 0.1)
    databases, _ = made
    kept = []
    with pytest.raises(AssertionError, match=r"(?s)1 connection.*'the-leak'"):
        with databases.fresh() as url:
            kept.append(psycopg2.connect(url, application_name="the-leak"))
    kept[0].close()


def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    assert ask(empty_database_url, "select 1 from pg_tables where schemaname = 'public'") == []
