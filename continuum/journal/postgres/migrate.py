"""Here lives the bringing of a database to this release's tables: Alembic, under a lock, with partitions ahead.

Works from a checkout (``migrations/`` beside the package) and from an installed wheel (``continuum/_migrations``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, exc, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import quoted_name

from continuum.errors import ConfigError, JournalError
from continuum.journal.postgres.database import execute_plain, translate
from continuum.journal.postgres.names import Names
from continuum.journal.postgres.partitions import create_partitions
from continuum.journal.postgres.urls import parse_url

__all__ = ["MONTHS_AHEAD", "current", "pending", "upgrade"]

MONTHS_AHEAD: Final = 3
_LOCK: Final = 6_021_714_077_823_451_121  # any number; it keeps two migrations of one database apart


def upgrade(url: str, schema: str = "public", revision: str = "head") -> str:
    """Migrate, create the partitions of this month and the next three, and return the revision reached.

    Creates the schema if it is missing. Safe to run by several at once and again and again.
    Raises ``ConfigError``, ``JournalUnavailable``.
    """
    names = Names(schema)
    with _connection(parse_url(url)) as connection:
        connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": _LOCK})
        execute_plain(connection, f"create schema if not exists {names.quoted}")
        connection.commit()
        configuration = _configuration()
        configuration.attributes.update(connection=connection, schema=schema)
        # Crash: each revision commits by itself, with its number; the next attempt goes on from there.
        command.upgrade(configuration, revision)
        connection.commit()
        if _has_events(connection, names):
            create_partitions(connection, names, months_ahead=MONTHS_AHEAD)
        return _revision(connection, schema) or ""


def current(url: str, schema: str = "public") -> str | None:
    """Return the revision the schema is at; None if it has none of our tables."""
    with _connection(parse_url(url)) as connection:
        return _revision(connection, schema)


def pending(url: str, schema: str = "public") -> list[str]:
    """Return the revisions that `upgrade` would apply, in order."""
    at = current(url, schema)
    if at is None:
        return [revision for revision, _ in reversed(_revisions())]
    known = [revision for revision, _ in _revisions()]
    return list(reversed(known[: known.index(at)])) if at in known else []


@lru_cache(maxsize=1)
def _revisions() -> list[tuple[str, str]]:
    """Return (revision, title), the newest first."""
    return [(script.revision, script.doc) for script in ScriptDirectory.from_config(_configuration()).walk_revisions()]


def _configuration() -> Config:
    package = Path(__file__).resolve().parents[2]
    for place in (package / "_migrations", package.parent / "migrations"):
        if (place / "env.py").exists():
            configuration = Config()
            configuration.set_main_option("script_location", str(place).replace("%", "%%"))
            configuration.set_main_option("path_separator", "os")
            return configuration
    raise ConfigError(f"the migrations are missing from {package}: install Continuum again")


def _revision(connection: Connection, schema: str) -> str | None:
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": "continuum_alembic_version",
            "version_table_schema": quoted_name(schema, quote=True),
        },
    )
    return context.get_current_revision()


def _has_events(connection: Connection, names: Names) -> bool:
    found = connection.execute(text("select to_regclass(:name)"), {"name": f"{names.quoted}.continuum_events"})
    return found.scalar() is not None


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    arguments: dict[str, Any] = {"application_name": "continuum migrate", "connect_timeout": 10}
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments, use_native_hstore=False)
    try:
        with engine.connect() as connection:
            yield connection
    except exc.DBAPIError as error:
        known: JournalError = translate(error)
        raise known from error
