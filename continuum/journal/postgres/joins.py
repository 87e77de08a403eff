"""Here lives the joining of a caller's own transaction: ``connection=`` of start, post and their kin.

A joined statement is an ordinary one with plain parameters, sent over the caller's connection. It never commits, never
rolls back, prepares nothing and changes no setting, and it raises nothing that a retry of ours could have avoided.
"""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection, Engine, exc, text
from sqlalchemy.orm import Session, scoped_session

from continuum.errors import ConfigError, JournalError, SchemaOutdated
from continuum.journal.postgres.database import IDENTITY, Database, translate
from continuum.journal.postgres.literals import whole
from continuum.journal.postgres.names import Names

__all__ = ["Joined", "check_same_database", "join"]

_PARAMETER: Final = re.compile(r"\$(\d+)")
# Every colon of ours is escaped for SQLAlchemy's text(), and `:p1::text` means nothing to it.
_CAST: Final = re.compile(r"\$(\d+)\\:\\:(\w+)")
_ADVICE: Final = (
    "pass a SQLAlchemy Connection or Session, a psycopg2 or psycopg 3 connection, or Django's `connection`; it must"
    " belong to the database of this journal"
)


class Joined(Protocol):
    """A caller's open transaction.

    :ivar physical: the driver's connection, one and the same as long as it stays open.
    """

    physical: Any

    def run(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute one statement with numbered parameters (``$1``), its tables not qualified, and return its rows."""


def join(connection: Any, names: Names) -> Joined:
    """Return the way to execute statements on a caller's connection. Raises ``ConfigError`` if there is none."""
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    types = {f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}" for cls in type(connection).__mro__}
    if isinstance(connection, (Session, scoped_session)):
        return _SQLAlchemy(connection.connection(), names)
    if isinstance(connection, Connection):
        return _SQLAlchemy(connection, names)
    if any("Async" in name for name in types) or types & {"asyncpg.Connection"}:
        raise ConfigError(
            f"connection= is asynchronous ({kind}), and starting is not: with SQLAlchemy write"
            " `await connection.run_sync(lambda sync: continuum.start(..., connection=sync))`, else open another one"
        )
    if isinstance(connection, Engine) or "psycopg_pool.ConnectionPool" in types:
        raise ConfigError(f"connection= is {kind}, which has no transaction of its own: {_ADVICE}")
    if isinstance(connection, (psycopg2.extensions.connection, psycopg2.extensions.cursor)):
        return _Driver(*_psycopg2_cursors(connection), names)
    if types & {"psycopg.Connection", "psycopg.Cursor"}:
        return _Driver(*_psycopg3_cursors(connection), names)
    if types & {"sqlalchemy.PoolProxiedConnection", "sqlalchemy._ConnectionFairy"}:
        return join(connection.driver_connection, names)
    if type(connection).__module__.startswith("django.") and hasattr(connection, "cursor"):
        return _Driver(connection.cursor, connection, names)
    raise ConfigError(f"connection= is {kind}, which cannot be joined: {_ADVICE}")


def _psycopg2_cursors(given: Any) -> tuple[Callable[[], Any], Any]:
    connection = given.connection if isinstance(given, psycopg2.extensions.cursor) else given
    if connection.async_:
        raise ConfigError("connection= is an asynchronous psycopg2 connection: pass one opened without async_=1")
    # A caller's cursor_factory may return dicts; ours must return tuples.
    return lambda: connection.cursor(cursor_factory=psycopg2.extensions.cursor), connection


def _psycopg3_cursors(given: Any) -> tuple[Callable[[], Any], Any]:
    # psycopg 3 is the caller's: it is loaded if there is such a connection, and we never import it ourselves.
    psycopg = sys.modules["psycopg"]
    connection = given if isinstance(given, psycopg.Connection) else given.connection
    # A cursor of the plain class: a caller's cursor_factory may bind on the client, its row_factory return dicts.
    return lambda: psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row), connection


class _Driver:
    """A connection of a driver with ``%(name)s`` parameters."""

    def __init__(self, cursors: Callable[[], Any], physical: Any, names: Names) -> None:
        self.physical = physical
        self._cursors = cursors
        self._names = names

    def run(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute and fetch."""
        _check(values)
        call = _PARAMETER.sub(r"%(p\1)s", sql.replace("%", "%%"))
        call = self._names.qualify(call, self._names.quoted.replace("%", "%%"))
        try:
            with self._cursors() as cursor:
                cursor.execute(call, _numbered(values))
                return [tuple(_plain(value) for value in row) for row in cursor.fetchall()]
        except Exception as error:
            if _is_driver_error(error):
                raise _refused(error, self._names) from error
            raise


class _SQLAlchemy:
    """A SQLAlchemy connection, whatever synchronous driver is below it."""

    def __init__(self, connection: Connection, names: Names) -> None:
        if connection.dialect.name != "postgresql":
            raise ConfigError(f"connection= belongs to a {connection.dialect.name} database: {_ADVICE}")
        self.physical = connection.connection.driver_connection
        self._connection = connection
        self._names = names

    def run(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute and fetch."""
        _check(values)
        call = _CAST.sub(r"cast(:p\1 as \2)", sql.replace(":", r"\:"))
        call = self._names.qualify(call, self._names.quoted.replace(":", r"\:"))
        try:
            rows = self._connection.execute(text(call), _numbered(values))
            return [tuple(_plain(value) for value in row) for row in rows]
        except exc.DBAPIError as error:
            raise _refused(error, self._names) from error


def check_same_database(joined: Joined, database: Database) -> None:
    """Raise ``ConfigError`` if the caller's transaction is one of another database, where the write would be lost."""
    found = joined.run(IDENTITY, ())
    theirs = tuple(found[0]) if found else ()
    # Tables that have been migrated meanwhile are still ours.
    if theirs != tuple(database.identity()) and theirs != tuple(database.identity(again=True)):
        where = f"database {theirs[0]!r}" if theirs and theirs[0] != database.identity()[0] else "another server"
        raise ConfigError(f"connection= belongs to {where}, and this journal is at {database.place}: {_ADVICE}")


def _refused(error: Exception, names: Names) -> JournalError:
    """Return the error to raise: what a caller's own transaction cannot do, it cannot do later either."""
    known = translate(error, names)
    match known.fields.get("sqlstate"):
        case "25P02":
            message = "your transaction has failed before, and Postgres executes nothing more in it: roll it back"
            return JournalError(message, sqlstate="25P02")
        case "25006":
            message = "your transaction is read-only, or on a standby: pass the connection of one that may write"
            return JournalError(message, sqlstate="25006")
        case _ if isinstance(known, SchemaOutdated):
            return SchemaOutdated(f"{known.message}; or connection= belongs to another database", **known.fields)
        case _:
            return known


def _numbered(values: Sequence[Any]) -> dict[str, Any]:
    return {f"p{number}": str(value) if isinstance(value, str) else value for number, value in enumerate(values, 1)}


def _check(values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, str):
            whole(value)


def _plain(value: Any) -> Any:
    # psycopg 3 returns uuid.UUID, psycopg2 text.
    return str(value) if type(value).__name__ == "UUID" else value


def _is_driver_error(error: Exception) -> bool:
    # Every driver has an `Error` of its own at the root (PEP 249); Django's wrapper raises the driver's with its own.
    return any(cls.__name__ in {"Error", "DatabaseError"} for cls in type(error).__mro__)
