"""Here lives the Postgres server the benchmarks run on, and the databases made and dropped on it.

Without ``CONTINUUM_BENCH_DATABASE_URL`` it is an embedded one with default settings. A server that does not keep what
it has committed (fsync or synchronous_commit off) is refused: durability is not for sale here.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import sql
from sqlalchemy.engine import make_url

from benchmarks.machine import command_of, parent_of
from continuum.journal.postgres.embedded import start_embedded

__all__ = ["URL_VARIABLE", "Server", "open_server"]

URL_VARIABLE = "CONTINUUM_BENCH_DATABASE_URL"


class Server:
    """A server on which databases may be created.

    :ivar postmaster: process id of the server if it is on this machine, else None.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._prefix = f"continuum_bench_{secrets.token_hex(3)}"
        self._template: str | None = None
        self.postmaster = self._find_postmaster()

    def describe(self) -> dict[str, Any]:
        """Return version and settings that matter."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        return {name: self._ask(f"show {name}") for name in names}

    def refuse_if_forgetful(self) -> None:
        """Exit with a message if the server does not keep what it has committed."""
        for name in ("fsync", "synchronous_commit"):
            if self._ask(f"show {name}") == "off":
                raise SystemExit(f"The server runs with {name}=off: benchmarks are for durable servers. Turn it on.")

    @contextmanager
    def database(self, *, migrated: bool) -> Iterator[str]:
        """Yield the URL of a new database, with Continuum's tables in it or empty; drop it afterwards."""
        template = self._migrated_template() if migrated else "template0"
        name = f"{self._prefix}_{secrets.token_hex(4)}"
        self._create(name, template)
        try:
            yield self._url_of(name)
        finally:
            self._drop(name)
            # What the last measurement left to be written is not the next one's to pay.
            self._run(sql.SQL("checkpoint"))

    def close(self) -> None:
        if self._template is not None:
            self._drop(self._template)
            self._template = None

    def _migrated_template(self) -> str:
        if self._template is None:
            name = f"{self._prefix}_template"
            self._create(name, "template0")
            from continuum import Continuum  # peers alone need nothing of it

            with Continuum(self._url_of(name)) as continuum:
                continuum.migrate()
            self._template = name
        return self._template

    def _find_postmaster(self) -> int | None:
        if (urlsplit(self.url).hostname or "") not in {"", "localhost", "127.0.0.1", "::1"}:
            return None
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute("select pg_backend_pid()")
            backend = cursor.fetchone()[0]
            # Another program may have this id if the server is in a container.
            return parent_of(backend) if command_of(backend).startswith("postgres") else None

    def _url_of(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("create database {} template {}")
        self._run(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _drop(self, name: str) -> None:
        self._run(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composable) -> None:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def _ask(self, statement: str) -> str:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return str(cursor.fetchone()[0])

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        with closing(psycopg2.connect(self.url, application_name="continuum-benchmarks")) as connection:
            connection.autocommit = True  # databases cannot be created inside a transaction
            yield connection


@contextmanager
def open_server() -> Iterator[Server]:
    """Yield the server to measure on."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        server = Server(given)
        try:
            yield server
        finally:
            server.close()
        return
    with start_embedded() as embedded:
        server = Server(embedded.url)
        try:
            yield server
        finally:
            server.close()
