"""Here lives the one place that chooses a wing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from continuum.errors import ConfigError
from continuum.journal.memory.journal import MemoryJournal
from continuum.journal.postgres.embedded import EmbeddedPostgres, start_embedded
from continuum.journal.protocol import Journal
from continuum.model.codec import PayloadWrapper

__all__ = [
    "load_wing",
    "make_scratch_databases",
    "migrate_database",
    "open_journal",
    "open_memory",
    "start_embedded_database",
]

_MEMORY = "memory://"
_POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg2://")
_ADVICE = "write postgresql://user:password@host:5432/database, or memory://name for one that is gone with the process"


def load_wing(url: str | None) -> None:
    """Import what a journal at this URL will need. Children of a process that has done so share it.

    Not done where the package is imported: SQLAlchemy takes longer to load than all the rest of it together, and every
    ``celery`` command imports the package, whatever it is about.
    """
    if not (isinstance(url, str) and url.startswith(_MEMORY)):
        import continuum.journal.postgres.journal  # noqa: F401, PLC0415 - see above


def open_journal(
    url: str,
    *,
    schema: str = "public",
    engine: Any = None,
    wrapper: PayloadWrapper | None = None,
    application_name: str = "continuum",
) -> Journal:
    """Return the journal a URL names; nothing is connected before it is used.

    :param schema: Postgres schema of the tables.
    :param engine: a SQLAlchemy engine (psycopg2) of the caller's whose way to connect is used instead of the URL's.
    :param wrapper: what payloads pass through on their way into the tables; a memory journal stores them plain.
    :param application_name: how the connections appear in ``pg_stat_activity``.
    :raises ConfigError: if the URL or the schema makes no sense.
    """
    if not isinstance(url, str):
        raise ConfigError(f"the database URL is {type(url).__name__}, not text: {_ADVICE}")
    if url.startswith(_MEMORY):
        return MemoryJournal(url.removeprefix(_MEMORY))
    if url.startswith(_POSTGRES):
        from continuum.journal.postgres.journal import PostgresJournal  # noqa: PLC0415 - SQLAlchemy, see load_wing

        return PostgresJournal(url, schema=schema, engine=engine, wrapper=wrapper, application_name=application_name)
    scheme = url.partition("://")[0] if "://" in url else url[:20]
    raise ConfigError(f"no journal understands the database URL {scheme!r}…: {_ADVICE}")


def open_memory(*, now: Callable[[], int]) -> MemoryJournal:
    """Return an empty memory journal with a clock of the caller's: microseconds since the epoch. For the test kit."""
    return MemoryJournal(now=now)


def migrate_database(url: str, *, schema: str = "public") -> str:
    """Bring a database to this release's tables and return the revision reached. Raises ``JournalUnavailable``."""
    from continuum.journal.postgres.migrate import upgrade  # noqa: PLC0415 - Alembic takes a while to load

    return upgrade(url, schema)


def make_scratch_databases(url: str, *, session: str) -> Any:
    """Return a maker of databases for tests (see ``journal.postgres.scratch``). Raises ``ConfigError``."""
    from continuum.journal.postgres.scratch import ScratchDatabases  # noqa: PLC0415 - SQLAlchemy, see load_wing

    return ScratchDatabases(url, session=session)


def start_embedded_database(
    directory: Path | None = None, *, persistent: bool = False, fast: bool = False
) -> EmbeddedPostgres:
    """Start a Postgres of our own, or join the one in that directory (see ``journal.postgres.embedded``)."""
    return start_embedded(directory, persistent=persistent, fast=fast)
