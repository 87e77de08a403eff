"""Databases for tests: new, migrated, and gone afterwards."""

import secrets
from contextlib import closing

import psycopg2
import pytest

from continuum import Continuum
from continuum.errors import ConfigError, JournalUnavailable
from continuum.journal.open import make_scratch_databases


def names(url: str, session: str) -> list[str]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("select datname from pg_database where datname like %s", (f"continuum_pytest_{session}%",))
        return sorted(name for (name,) in cursor.fetchall())


def test_each_is_new_and_migrated_and_nothing_is_left(postgres_url: str) -> None:
    session = secrets.token_hex(6)
    databases = make_scratch_databases(postgres_url, session=session)
    with databases.fresh() as first, databases.fresh() as second:
        assert first != second
        for url in (first, second):
            with Continuum(url) as instance:
                assert instance.search().runs == []
        # Whoever is still connected does not keep it alive.
        left_open = psycopg2.connect(first)
    left_open.close()
    assert names(postgres_url, session) == [f"continuum_pytest_{session}_template"]
    databases.drop_template()
    assert names(postgres_url, session) == []


def test_a_test_that_fails_leaves_nothing_either(postgres_url: str) -> None:
    session = secrets.token_hex(6)
    databases = make_scratch_databases(postgres_url, session=session)
    with pytest.raises(ZeroDivisionError), databases.fresh():
        raise ZeroDivisionError
    databases.drop_template()
    assert names(postgres_url, session) == []


def test_a_server_that_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match="database URL"):
        make_scratch_databases("mysql://localhost/x", session="s")
    databases = make_scratch_databases("postgresql://nobody@127.0.0.1:1/postgres", session="s")
    with pytest.raises(JournalUnavailable), databases.fresh():
        pass
