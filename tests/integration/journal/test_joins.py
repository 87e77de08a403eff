"""`connection=`: every door of a caller's own transaction, and what is no door."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import psycopg.rows
import psycopg2
import psycopg2.extras
import pytest
import sqlalchemy
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from continuum.errors import ConfigError, JournalError, JournalUnavailable, RunNotFound, SchemaOutdated
from continuum.journal.open import migrate_database, open_journal
from continuum.journal.postgres.joins import check_same_database, join
from continuum.journal.postgres.names import Names
from continuum.journal.protocol import PostResult
from continuum.model.events import EventType
from continuum.model.messages import NewMessage
from tests.support.databases import Databases
from tests.support.journals import Desk

NAMES = Names("public")


def engine_of(url: str, driver: str = "psycopg2", **options: Any) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{driver}:"), poolclass=NullPool, **options)


def psycopg2_plain(url: str) -> Any:
    connection = psycopg2.connect(url)
    return connection, connection


def psycopg2_dicts(url: str) -> Any:
    connection = psycopg2.connect(url, cursor_factory=psycopg2.extras.RealDictCursor)
    psycopg2.extras.register_uuid(conn_or_curs=connection)
    return connection, connection


def psycopg2_cursor(url: str) -> Any:
    connection = psycopg2.connect(url)
    return connection, connection.cursor()


def psycopg3_plain(url: str) -> Any:
    connection = psycopg.connect(url)
    return connection, connection


def psycopg3_dicts(url: str) -> Any:
    connection = psycopg.connect(url, row_factory=psycopg.rows.dict_row, cursor_factory=psycopg.ClientCursor)
    return connection, connection


def psycopg3_cursor(url: str) -> Any:
    connection = psycopg.connect(url)
    return connection, connection.cursor()


def sqlalchemy_connection(url: str) -> Any:
    connection = engine_of(url).connect()
    return connection, connection


def sqlalchemy_on_psycopg3(url: str) -> Any:
    connection = engine_of(url, "psycopg").connect()
    return connection, connection


def sqlalchemy_session(url: str) -> Any:
    session = Session(engine_of(url))
    return session, session


def sqlalchemy_scoped_session(url: str) -> Any:
    session = scoped_session(sessionmaker(engine_of(url)))
    return session, session


def sqlalchemy_raw(url: str) -> Any:
    raw = engine_of(url).raw_connection()
    return raw, raw


DOORS = [
    psycopg2_plain,
    psycopg2_dicts,
    psycopg2_cursor,
    psycopg3_plain,
    psycopg3_dicts,
    psycopg3_cursor,
    sqlalchemy_connection,
    sqlalchemy_on_psycopg3,
    sqlalchemy_session,
    sqlalchemy_scoped_session,
    sqlalchemy_raw,
]
each_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)


@contextmanager
def opened(door: Callable[[str], Any], url: str) -> Iterator[tuple[Any, Any]]:
    transaction, connection = door(url)
    try:
        yield transaction, connection
    finally:
        transaction.rollback()
        transaction.close()


@each_door
def test_start_and_post_ride_in_the_callers_transaction(desk: Desk, database_url: str, door: Any) -> None:
    new, keyed = desk.new_run(), desk.new_run(idempotency_key="o'1 %s :x", attributes='{"a": "%(b)s"}')
    with opened(door, database_url) as (transaction, connection):
        assert desk.journal.runs.start(new, connection=connection) == (new.id, True)
        assert desk.journal.runs.start(keyed, connection=connection) == (keyed.id, True)
        again = desk.new_run(idempotency_key="o'1 %s :x")
        assert desk.journal.runs.start(again, connection=connection) == (keyed.id, False)
        message = NewMessage(new.id, EventType.SIGNAL_RECEIVED, "go", '{"p": "%s :q \'"}', None, "once")
        assert desk.journal.runs.post(message, connection=connection) == PostResult.DELIVERED
        assert desk.journal.runs.post(message, connection=connection) == PostResult.DUPLICATE
        assert desk.journal.runs.find(new.id) is None
        transaction.commit()
    assert desk.run(keyed.id).attributes == {"a": "%(b)s"}
    worker = desk.make_worker()
    [first] = [run for run in desk.claim(worker) if run.run_id == new.id]
    assert first.mail[0].payload == '{"p": "%s :q \'"}'


@each_door
def test_what_a_caller_rolls_back_never_was(desk: Desk, database_url: str, door: Any) -> None:
    new = desk.new_run(idempotency_key="key")
    with opened(door, database_url) as (transaction, connection):
        desk.journal.runs.start(new, connection=connection)
        transaction.rollback()
    assert desk.journal.runs.find(new.id) is None
    assert desk.journal.runs.start(desk.new_run(idempotency_key="key"))[1]


@each_door
def test_a_refusal_leaves_the_transaction_usable(desk: Desk, database_url: str, door: Any) -> None:
    new = desk.new_run()
    with opened(door, database_url) as (transaction, connection):
        with pytest.raises(RunNotFound):
            desk.journal.runs.post(NewMessage(new.id, EventType.SIGNAL_RECEIVED, "go", None), connection=connection)
        with pytest.raises(JournalError, match="NUL"):
            desk.journal.runs.start(desk.new_run(workflow="a\0b"), connection=connection)
        desk.journal.runs.start(new, connection=connection)
        transaction.commit()
    assert desk.run(new.id)


@each_door
def test_errors_of_the_callers_driver_are_translated(empty_database_url: str, desk: Desk, door: Any) -> None:
    with opened(door, empty_database_url) as (_, connection), pytest.raises(SchemaOutdated):
        desk.journal.runs.start(desk.new_run(), connection=connection)


@pytest.mark.parametrize(
    "door", [psycopg2_plain, psycopg3_plain, sqlalchemy_connection], ids=lambda door: door.__name__
)
@pytest.mark.parametrize("schema", ["percent %s", "colon :p1", 'quote "x"', "dollar $1"])
def test_any_schema_name_survives_the_callers_parameters(database_url: str, door: Any, schema: str) -> None:
    migrate_database(database_url, schema=schema)
    with closing(open_journal(database_url, schema=schema)) as journal:
        desk = Desk(journal, wing="postgres", locked=lambda _: None)  # type: ignore[arg-type,return-value]
        new = desk.new_run(idempotency_key="key")
        with opened(door, database_url) as (transaction, connection):
            journal.runs.start(new, connection=connection)
            journal.runs.post(NewMessage(new.id, EventType.CANCEL_REQUESTED, None, None), connection=connection)
            transaction.commit()
        assert desk.run(new.id)
        desk.close()


def test_an_autocommitted_connection_writes_at_once(desk: Desk, connect: Any) -> None:
    new = desk.new_run()
    desk.journal.runs.start(new, connection=connect(autocommit=True))
    assert desk.run(new.id)


def test_a_closed_connection_is_unavailable(desk: Desk, connect: Any) -> None:
    closed = connect()
    closed.close()
    with pytest.raises(JournalUnavailable):
        desk.journal.runs.start(desk.new_run(), connection=closed)


def test_djangos_connection_is_joined_by_its_cursor(desk: Desk, connect: Any) -> None:
    """Django wraps psycopg; what counts is that its cursors take ``%(name)s``."""
    inner = connect()
    fake = type("DatabaseWrapper", (), {"cursor": lambda _: inner.cursor(), "__module__": "django.db.backends.base"})()
    new = desk.new_run()
    assert desk.journal.runs.start(new, connection=fake) == (new.id, True)
    inner.commit()
    assert desk.run(new.id)


# -- no doors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["a text", 7, object()])
def test_what_is_no_connection_is_refused_with_what_to_pass(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="SQLAlchemy Connection or Session"):
        join(wrong, NAMES)


def test_an_engine_has_no_transaction(database_url: str) -> None:
    with pytest.raises(ConfigError, match="no transaction"):
        join(engine_of(database_url), NAMES)


def test_an_asynchronous_psycopg2_connection_is_refused(database_url: str) -> None:
    connection = psycopg2.connect(database_url, async_=1)
    psycopg2.extras.wait_select(connection)
    with closing(connection), pytest.raises(ConfigError, match="asynchronous"):
        join(connection, NAMES)


def test_an_asynchronous_psycopg3_connection_is_refused(database_url: str) -> None:
    async def attempt() -> None:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            with pytest.raises(ConfigError, match="asynchronous"):
                join(connection, NAMES)

    asyncio.run(attempt())


def test_an_asynchronous_sqlalchemy_connection_is_told_of_run_sync() -> None:
    # A real one needs greenlet, which nothing else here does.
    for name in ("AsyncSession", "AsyncConnection"):
        kind = type(name, (), {"__module__": "sqlalchemy.ext.asyncio"})
        with pytest.raises(ConfigError, match="run_sync"):
            join(kind(), NAMES)


def test_a_connection_to_another_kind_of_database_is_refused() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(ConfigError, match="sqlite"):
        join(connection, NAMES)
    engine.dispose()


@each_door
def test_a_connection_of_another_database_is_refused_before_anything_is_written(
    desk: Desk, databases: Databases, door: Any
) -> None:
    with databases.fresh() as elsewhere, opened(door, elsewhere) as (transaction, connection):
        new = desk.new_run()
        with pytest.raises(ConfigError, match=r"connection= belongs to database"):
            desk.journal.runs.start(new, connection=connection)
        transaction.commit()
        with closing(open_journal(elsewhere)) as journal:
            assert journal.runs.find(new.id) is None


def test_a_database_of_the_same_name_on_another_server_is_another(desk: Desk, database_url: str) -> None:
    with opened(psycopg2_plain, database_url) as (_, connection):
        database = desk.journal._database  # type: ignore[attr-defined]
        name, _ = database.identity()
        joined = join(connection, NAMES)
        database._identity = (name, 1)
        check_same_database(joined, database)  # they have been migrated since: asked again, and the same
        elsewhere = type("Elsewhere", (), {"identity": lambda *_, **__: (name, 1), "place": "db:5432/shop"})()
        with pytest.raises(ConfigError, match="another server"):
            check_same_database(joined, elsewhere)


def test_a_connection_without_the_tables_may_be_the_wrong_one(desk: Desk, empty_database_url: str) -> None:
    with (
        opened(psycopg2_plain, empty_database_url) as (_, connection),
        pytest.raises(SchemaOutdated, match="or connection= belongs to another database"),
    ):
        desk.journal.runs.start(desk.new_run(), connection=connection)


@each_door
def test_a_transaction_that_has_failed_is_to_be_rolled_back(desk: Desk, database_url: str, door: Any) -> None:
    with opened(door, database_url) as (_, connection):
        desk.journal.runs.start(desk.new_run(), connection=connection)
        with pytest.raises(Exception, match=r"nowhere|aborted"):  # the driver's own error
            execute_badly(connection)
        with pytest.raises(JournalError, match="roll it back") as refused:
            desk.journal.runs.start(desk.new_run(), connection=connection)
        assert not refused.value.transient


def test_a_read_only_transaction_is_no_outage(desk: Desk, database_url: str) -> None:
    with opened(psycopg2_plain, database_url) as (_, connection):
        connection.set_session(readonly=True)
        with pytest.raises(JournalError, match="read-only") as refused:
            desk.journal.runs.start(desk.new_run(), connection=connection)
        assert not refused.value.transient


def execute_badly(connection: Any) -> None:
    statement = "select * from nowhere"
    if hasattr(connection, "get_bind") or isinstance(connection, sqlalchemy.Connection):
        connection.execute(sqlalchemy.text(statement))
    elif hasattr(connection, "cursor"):
        connection.cursor().execute(statement)
    else:
        connection.execute(statement)
