"""What a journal is opened with: URLs, schemas, and messages that say what to write instead."""

import pytest

from continuum.errors import ConfigError
from continuum.journal.memory import MemoryJournal
from continuum.journal.open import open_journal
from continuum.journal.postgres import tables
from continuum.journal.postgres.journal import PostgresJournal
from continuum.journal.postgres.names import Names, Statement
from continuum.journal.postgres.urls import parse_url


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_spelling_of_postgres_opens_the_postgres_wing(scheme: str) -> None:
    journal = open_journal(f"{scheme}://me:secret@db.example:6543/shop")
    assert isinstance(journal, PostgresJournal)
    journal.close()


def test_memory_opens_the_memory_wing() -> None:
    journal = open_journal("memory://")
    assert isinstance(journal, MemoryJournal)
    journal.close()


@pytest.mark.parametrize("url", ["mysql://db/shop", "sqlite://", "db.example/shop", "", "postgresql+asyncpg://db/shop"])
def test_any_other_url_is_answered_with_what_to_write(url: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://user:password@host:5432/database"):
        open_journal(url)


def test_a_url_that_is_no_text_is_answered_with_what_to_write() -> None:
    with pytest.raises(ConfigError, match="NoneType"):
        open_journal(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@db:port/shop", "postgresql://me:secret@db", "postgresql://me:secret@db/"]
)
def test_a_broken_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_journal(url)
    assert "secret" not in str(refused.value)


def test_a_password_with_special_characters_is_kept() -> None:
    assert parse_url("postgresql://me:p%40ss%2Fword@db/shop").password == "p@ss/word"


@pytest.mark.parametrize("schema", ["", "a\0b", "x" * 64])
def test_a_schema_that_postgres_could_not_name_is_refused(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema="):
        Names(schema)


def test_every_table_is_qualified_and_nothing_else() -> None:
    names = Names('odd "one')
    sql = "select 'continuum' from continuum_runs r join continuum_events_default e on r.continuum_runs_due"
    assert names.qualify("continuum_inbox, continuum_tasks") == (
        '"odd ""one".continuum_inbox, "odd ""one".continuum_tasks'
    )
    assert '"odd ""one".continuum_events_default e' in names.qualify(sql)
    for table in tables.metadata.tables:
        assert names.qualify(table) == f'"odd ""one".{table}'


def test_a_statement_is_prepared_under_its_name_and_called_with_literals() -> None:
    statement = Statement("one", "select $1::int from continuum_runs")
    assert Names("public").prepare(statement) == 'prepare continuum_one as select $1::int from "public".continuum_runs'
    assert statement.call("1") == "execute continuum_one(1)"
    assert Statement("none", "select 1").call() == "execute continuum_none"


def test_channels_of_two_schemas_differ_and_fit_into_a_name() -> None:
    long_one, other = Names("s" * 63), Names("s" * 62 + "t")
    channels = {long_one.work_channel, long_one.done_channel, other.work_channel, other.done_channel}
    assert len(channels) == 4
    assert all(len(channel.encode()) <= 63 for channel in channels)
    assert Names("public").work_channel == "continuum_public_work"
