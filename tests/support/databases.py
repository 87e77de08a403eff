"""Here lives a fresh database for each test, and the check that no connection to it is left open."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql
from sqlalchemy.engine import make_url

__all__ = ["Databases"]

SETTLE_SECONDS = 3.0  # a backend ends a moment after its client has closed the socket
TEMPLATE_LOCK = 7_203_114_905  # any number of our own: one xdist worker migrates, the others wait
LEFT_OPEN = """
    select pid, application_name, state, query from pg_stat_activity
    where datname = %s and backend_type = 'client backend' and pid <> pg_backend_pid()
"""


class Databases:
    """The databases one test session makes on one server; their names begin with `prefix`."""

    def __init__(self, url: str, *, prefix: str, migrate: Callable[[str], None]) -> None:
        self.url = url
        self.prefix = prefix
        self.template = f"{prefix}_template"
        self._migrate = migrate

    def url_of(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    @contextmanager
    def fresh(self, *, migrated: bool = True) -> Iterator[str]:
        """Yield the URL of a new database; drop it afterwards, and fail if connections to it are left."""
        if migrated:
            self._make_template()
        name = f"{self.prefix}_{secrets.token_hex(6)}"
        self._create(name, template=self.template if migrated else "template0")
        try:
            yield self.url_of(name)
            left = self._left_open(name)
        finally:
            self._drop(name)
        if left:
            lines = "\n".join(f"  pid {pid} {app!r}, {state}: {query[:200]}" for pid, app, state, query in left)
            msg = f"{len(left)} connection(s) to the test's database were left open:\n{lines}"
            raise AssertionError(msg)

    def drop_template(self) -> None:
        """Drop what `fresh` copies from; other sessions on the same server have their own."""
        self._drop(self.template)

    def _make_template(self) -> None:
        """Make and migrate the template once per session, whichever xdist worker comes first."""
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(%s)", (TEMPLATE_LOCK,))
            cursor.execute("select 1 from pg_database where datname = %s", (self.template,))
            if cursor.fetchone():
                return
            scratch = f"{self.template}_new"
            self._drop(scratch)
            self._create(scratch, template="template0")
            self._migrate(self.url_of(scratch))
            # Renamed only when whole, so that a failed migration is tried, and reported, again.
            left = self._left_open(scratch)
            assert not left, f"the migration left connections open: {left}"
            rename = sql.SQL("alter database {} rename to {}")
            cursor.execute(rename.format(sql.Identifier(scratch), sql.Identifier(self.template)))

    def _create(self, name: str, *, template: str) -> None:
        statement = sql.SQL("create database {} template {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _drop(self, name: str) -> None:
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def _left_open(self, name: str) -> list[tuple[Any, ...]]:
        deadline = time.monotonic() + SETTLE_SECONDS
        with self._connection() as connection, connection.cursor() as cursor:
            while True:
                cursor.execute(LEFT_OPEN, (name,))
                left = cursor.fetchall()
                if not left or time.monotonic() > deadline:
                    return left
                time.sleep(0.02)

    def _execute(self, statement: sql.Composable) -> None:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        with closing(psycopg2.connect(self.url, application_name="continuum-tests")) as connection:
            connection.autocommit = True  # databases cannot be created inside a transaction
            yield connection
