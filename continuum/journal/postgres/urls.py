"""Here lives the reading of a database URL."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from continuum.errors import ConfigError

__all__ = ["parse_url"]

_EXAMPLE = "postgresql://user:password@host:5432/database"


def parse_url(text: str) -> URL:
    """Return a URL for psycopg2. Raises ``ConfigError``, never with the password in it."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(f"the database URL cannot be read: write {_EXAMPLE}, special characters %-encoded") from None
    if url.drivername not in {"postgresql", "postgres", "postgresql+psycopg2"}:
        raise ConfigError(f"the database URL begins with {url.drivername}://: write {_EXAMPLE}")
    if not url.database:
        raise ConfigError(f"the database URL names no database: write {_EXAMPLE}")
    return url.set(drivername="postgresql+psycopg2")
