"""Here lives the one place that chooses a wing."""

from typing import Any

from continuum.errors import ConfigError
from continuum.journal.memory.journal import MemoryJournal
from continuum.journal.postgres.journal import PostgresJournal
from continuum.journal.protocol import Journal
from continuum.model.codec import PayloadWrapper

__all__ = ["open_journal"]

_POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg2://")
_ADVICE = (
    "write postgresql://user:password@host:5432/database, or memory://name for one that is gone with the process"
)


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
    if url.startswith("memory://"):
        return MemoryJournal(url.removeprefix("memory://"))
    if url.startswith(_POSTGRES):
        return PostgresJournal(
            url, schema=schema, engine=engine, wrapper=wrapper, application_name=application_name
        )
    scheme = url.partition("://")[0] if "://" in url else url[:20]
    raise ConfigError(f"no journal understands the database URL {scheme!r}…: {_ADVICE}")
