"""Here live pooled sessions: what a thread is lent, and the few that are kept at hand.

A checkout of SQLAlchemy's pool and the checkin take longer than a short statement. So a session that comes back in good
order is kept checked out, for the next thread that asks. Only what went wrong, and what is one too many, goes back to
the pool, which sees to the rest.
"""

import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg2
import psycopg2.extensions

from continuum.journal.postgres.literals import whole
from continuum.journal.postgres.names import Names, Statement

__all__ = ["KEPT", "Kept", "Lent", "Session", "speaks"]

KEPT: Final = 4

_UUID_TEXT: Final = psycopg2.extensions.new_type((2950,), "CONTINUUM_UUID", psycopg2.STRING)


class Session:
    """A connection for one thread at a time that remembers which statements it has prepared."""

    __slots__ = ("connection", "names", "prepared")

    def __init__(self, connection: Any, names: Names, prepared: set[str]) -> None:
        self.connection = connection
        self.names = names
        self.prepared = prepared

    def run(self, statement: Statement, *arguments: str) -> list[tuple[Any, ...]]:
        """Execute a prepared statement (arguments are literals, see `literals`) and return its rows."""
        if statement.name not in self.prepared:
            self.execute(self.names.prepare(statement))
            self.prepared.add(statement.name)
        return self.execute(statement.call(*arguments))

    def execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute one statement as it is and return its rows."""
        with self.connection.cursor() as cursor:
            # SQLAlchemy makes its connections return uuid.UUID; ids are text here.
            psycopg2.extensions.register_type(_UUID_TEXT, cursor)
            cursor.execute(whole(sql), values)
            return cursor.fetchall() if cursor.description is not None else []


class Lent(Session):
    """A session checked out of the pool."""

    __slots__ = ("fairy", "speaks")

    def __init__(self, fairy: Any, names: Names) -> None:
        super().__init__(fairy.dbapi_connection, names, fairy.info.setdefault("prepared", set()))
        self.fairy = fairy
        # Whether there is something to read: an idle session that says something says farewell.
        self.speaks = speaks(self.connection.fileno())


class Kept:
    """Sessions checked out and unused, the last one used on top. For any thread: each step is one of a list's own."""

    def __init__(self) -> None:
        self._sessions: list[Lent] = []
        self._closed = False

    def take(self) -> Lent | None:
        """Return a session that is alive, as far as can be seen without asking the server."""
        while self._sessions:
            try:
                session = self._sessions.pop()
            except IndexError:  # another thread was faster
                break
            if not (session.connection.closed or session.speaks(0)):
                return session
            session.fairy.invalidate()
            session.fairy.close()
        return None

    def put(self, session: Lent) -> None:
        """Take a session back that is in good order."""
        if len(self._sessions) >= KEPT or session.connection.closed:
            session.fairy.close()
            return
        self._sessions.append(session)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Give all back to the pool, now and henceforth."""
        self._closed = True
        while self._sessions:
            with suppress(IndexError):
                self._sessions.pop().fairy.close()


def speaks(descriptor: int) -> Callable[[int], Any]:
    """Return what tells, within so many milliseconds, whether the server has said something."""
    watcher = select.poll()
    watcher.register(descriptor, select.POLLIN | select.POLLERR | select.POLLHUP)
    return watcher.poll
