"""Here live databases for tests: each is new, migrated, and dropped afterwards.

The first is migrated once and kept as a template, which the others are copies of: a copy takes some tens of
milliseconds. Several processes of one test session share the template; whoever comes first makes it.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from continuum.journal.postgres.database import translate
from continuum.journal.postgres.migrate import upgrade
from continuum.journal.postgres.urls import parse_url

__all__ = ["ScratchDatabases"]

# Any number of our own: one process migrates the template, the others wait.
_LOCK: Final = 7_203_114_911
_BYTES: Final = 6


@final
class ScratchDatabases:
    """Makes databases on a server; ``url``'s user must be allowed to. ``session`` is shared by those who share it.

    Raises ``ConfigError``, ``JournalUnavailable``.
    """

    def __init__(self, url: str, *, session: str) -> None:
        self._url = parse_url(url)
        self._prefix = f"continuum_pytest_{session}"
        self._template = f"{self._prefix}_template"

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Yield the URL of a new, migrated database; it is dropped at the end, whoever is still connected."""
        self._make_template()
        name = f"{self._prefix}_{secrets.token_hex(_BYTES)}"
        with self._connection() as connection:
            connection.exec_driver_sql(f'create database "{name}" template "{self._template}"')
        try:
            yield _text(self._url.set(database=name))
        finally:
            self._drop(name)

    def drop_template(self) -> None:
        """Drop what the others are copies of: the session is over."""
        self._drop(self._template)

    def _make_template(self) -> None:
        with self._connection() as connection:
            connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": _LOCK})
            known = text("select 1 from pg_database where datname = :name")
            if connection.execute(known, {"name": self._template}).first():
                return
            raw = f"{self._template}_raw"
            connection.exec_driver_sql(f'drop database if exists "{raw}" with (force)')
            connection.exec_driver_sql(f'create database "{raw}" template template0')
            upgrade(_text(self._url.set(database=raw)), "public")
            # Renamed only when whole: a migration that failed is tried, and reported, again.
            connection.exec_driver_sql(f'alter database "{raw}" rename to "{self._template}"')

    def _drop(self, name: str) -> None:
        with self._connection() as connection:
            connection.exec_driver_sql(f'drop database if exists "{name}" with (force)')

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        # Databases cannot be made inside a transaction. Closing the connection lets go of the lock.
        engine = create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT", use_native_hstore=False)
        try:
            with engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise translate(error) from error
        finally:
            engine.dispose()


def _text(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
