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

from continuum.errors import ConfigError, JournalError, SchemaOutdated
from continuum.journal.postgres.database import as_configured, execute_plain, place_of, translate
from continuum.journal.postgres.names import Names
from continuum.journal.postgres.partitions import create_partitions
from continuum.journal.postgres.tables import FORMAT
from continuum.journal.postgres.urls import parse_url

__all__ = ["MONTHS_AHEAD", "current", "pending", "upgrade"]

MONTHS_AHEAD: Final = 3
_LOCK: Final = 6_021_714_077_823_451_121  # any number; it keeps two migrations of one database apart


def upgrade(url: str, schema: str = "public", revision: str = "head") -> str:
    """Migrate, create the partitions of this month and the next three, and return the revision reached.

    Creates the schema if it is missing. Safe to run by several at once and again and again.
    Raises ``ConfigError``, ``JournalUnavailable``; ``SchemaOutdated`` if the tables are of a later release.
    """
    names = Names(schema)
    with _connection(parse_url(url)) as connection:
        connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": _LOCK})
        if not _has_schema(connection, schema):
            # Not `if not exists`: that asks for the right to create schemas even where there is nothing to create.
            execute_plain(connection, f"create schema {names.quoted}")
        connection.commit()
        _refuse_later_tables(connection, names)
        configuration = _configuration()
        configuration.attributes.update(connection=connection, schema=schema)
        # Crash: each revision commits by itself, with its number; the next attempt goes on from there.
        command.upgrade(configuration, revision)
        connection.commit()
        if _has_events(connection, names):
            create_partitions(connection, names, months_ahead=MONTHS_AHEAD)
        if revision == "head":
            _check_format(connection, names)
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


def _has_schema(connection: Connection, schema: str) -> bool:
    found = connection.execute(text("select 1 from pg_namespace where nspname = :name"), {"name": schema})
    return found.first() is not None


def _refuse_later_tables(connection: Connection, names: Names) -> None:
    at = _revision(connection, names.schema)
    if at is not None and at not in [revision for revision, _ in _revisions()]:
        message = (
            f"the tables in schema {names.quoted} are of a later release (migration {at}), which this one does not"
            " know: upgrade the package continuum-workflows"
        )
        raise SchemaOutdated(message)


def _check_format(connection: Connection, names: Names) -> None:
    """Refuse to call tables up to date that `check` would refuse, whatever wrote the row."""
    sql = f"select format, release from {names.quoted}.continuum_schema"  # noqa: S608 - a quoted name
    row = connection.exec_driver_sql(sql.replace("%", "%%")).first()
    connection.commit()
    if row is not None and row.format > FORMAT:
        message = (
            f"the tables in schema {names.quoted} have format {row.format} (of release {row.release}) and this release"
            f" knows {FORMAT}: upgrade the package continuum-workflows"
        )
        raise SchemaOutdated(message)
    if row is None or row.format < FORMAT:
        says = "is empty" if row is None else f"says {row.format}"
        message = (
            f"all migrations have been applied to schema {names.quoted}, which makes its format {FORMAT}, but its table"
            f" continuum_schema {says}: somebody has changed it. Restore that row; migrating again changes nothing"
        )
        raise SchemaOutdated(message)


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
        configured = as_configured(known, place_of(url))
        raise configured from (error if configured is known else known)
