"""Here lives the way to the database: sessions of ours, and the one place where driver errors become our own.

Two kinds of sessions:

- *pooled* ones, from one SQLAlchemy engine made at the first use (`Database.engine`), for everything that is asked
  from any thread. They are autocommitted, know our prepared statements (`Database.session`), and are told to be dead
  before they are used: a server that restarted has closed its end, which is one system call to see.
- *pinned* ones (`Database.connect`, `Database.connect_async`), owned by a line, by ears, or by the hints.

# Invariant: no connection crosses a fork. A child starts with a new pool and leaves its parent's sockets alone.
"""

import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import URL

from continuum.errors import (
    ConfigError,
    ContinuumError,
    JournalBusy,
    JournalError,
    JournalUnavailable,
    SchemaOutdated,
)
from continuum.journal.postgres.forks import forget_after_fork
from continuum.journal.postgres.names import Names, Statement
from continuum.journal.postgres.sessions import Kept, Lent, Session, speaks

__all__ = [
    "IDENTITY",
    "LINE_LOCK_TIMEOUT",
    "QUERY_CANCELLED",
    "SETTINGS",
    "STORE_LOCK_TIMEOUT",
    "UNSET",
    "Database",
    "Session",
    "as_configured",
    "execute_plain",
    "place_of",
    "translate",
    "translated",
]

# Seconds for a server to answer at all; a black hole must not hold a thread for the kernel's two minutes.
CONNECT_TIMEOUT: Final = 10

# Prepared statements are planned once, for any arguments. What the plan must be is pinned by the form of each
# statement; these settings take away the choices that a generic estimate gets wrong (see tests/plans).
SETTINGS: Final = (
    "set plan_cache_mode = force_generic_plan; set jit = off; set enable_seqscan = off; set enable_mergejoin = off;"
    " set enable_bitmapscan = off; set max_parallel_workers_per_gather = 0;"
    " set default_transaction_isolation = 'read committed'; set standard_conforming_strings = on;"
)
# For statements of the caller's own in a session of ours, until its transaction ends.
UNSET: Final = "; ".join(
    f"set local {name} to default"
    for name in (
        "plan_cache_mode",
        "jit",
        "enable_seqscan",
        "enable_mergejoin",
        "enable_bitmapscan",
        "max_parallel_workers_per_gather",
        "lock_timeout",
    )
)
# A commit waits for nobody; if a statement of ours ever did, it gives up after this. Stores have more patience.
LINE_LOCK_TIMEOUT: Final = "set lock_timeout = '1s';"
STORE_LOCK_TIMEOUT: Final = "set lock_timeout = '10s';"

# The kernel probes only a connection that is idle. What was sent and not acknowledged it sends again, for a quarter of
# an hour, unless told otherwise: a host that vanishes under a heartbeat would hold its sender for that long.
_KNOWN_SINCE: Final = 120_000  # the libpq that learned the word
PATIENCE_WITH_PEERS: Final = {"tcp_user_timeout": 60_000} if psycopg2.extensions.libpq_version() >= _KNOWN_SINCE else {}

POOL_SIZE: Final = 8  # sessions kept; more are opened when more threads ask at the same moment
POOL_OVERFLOW: Final = 24
POOL_PATIENCE: Final = 30.0  # seconds a thread waits for one

# Two servers may have a database of one name; the moment at which the tables came about they do not share.
IDENTITY: Final = """
    select current_database()::text, (extract(epoch from migrated_at) * 1000000)::bigint from continuum_schema
"""

_BUSY_CLASSES: Final = frozenset({"40", "53", "55"})
_CONNECTION_CLASSES: Final = frozenset({"08", "57"})
QUERY_CANCELLED: Final = "57014"
_READ_ONLY: Final = "25006"  # a standby, or a primary that has become one
# The server is there and does not let us in: the name, the password or the database is wrong, or pg_hba.conf says no.
_NOT_LET_IN: Final = frozenset({"28000", "28P01", "3D000"})
# libpq gives no code for what is refused while connecting, only the server's words.
_REFUSALS: Final = (
    (re.compile(r"FATAL:  (?:password|Peer|Ident) authentication failed for |fe_sendauth: no password"), "28P01"),
    (re.compile(r'FATAL:  role ".*" does not exist|FATAL:  no pg_hba.conf entry for '), "28000"),
    (re.compile(r'FATAL:  database ".*" does not exist'), "3D000"),
)
_NO_TABLES: Final = frozenset({"42P01", "42703", "3F000"})


def translate(error: BaseException, names: Names | None = None) -> JournalError:
    """Return the error to raise for one of psycopg2, of SQLAlchemy, or of a caller's own driver.

    With ``names`` a message about missing tables says in which schema they were looked for.
    """
    cause = getattr(error, "orig", None) or error
    code: str | None = getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)
    first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    if isinstance(error, exc.TimeoutError):
        return JournalBusy("every pooled connection is in use; use fewer threads, or ask again")
    if code is None:
        if isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)) or (
            type(cause).__name__ in {"OperationalError", "InterfaceError"}
        ):
            refused = next((code for words, code in _REFUSALS if words.search(str(cause))), None)
            what = "cannot be reached" if refused is None else "lets nobody in like this"
            return JournalUnavailable(f"the database {what}: {first}", sqlstate=refused)
        return JournalError(f"the driver refused a statement: {first}", sqlstate=None)
    if code in _NO_TABLES:
        place = "" if names is None else f" in schema {names.quoted}"
        advice = "run `continuum migrate`" if names is None else names.migrate_advice
        message = f"the database lacks Continuum's tables{place}, or has older ones ({first}): {advice}"
        return SchemaOutdated(message, sqlstate=code)
    if code[:2] in _BUSY_CLASSES or code == QUERY_CANCELLED:
        return JournalBusy(f"the database refused for now ({code}): {first}", sqlstate=code)
    if code[:2] in _CONNECTION_CLASSES or code == _READ_ONLY or code in _NOT_LET_IN:
        return JournalUnavailable(f"the database cannot answer now ({code}): {first}", sqlstate=code)
    return JournalError(f"the database refused a statement ({code}): {first}", sqlstate=code)


def as_configured(error: JournalError, place: str) -> ContinuumError:
    """Return the error to raise when a database is used for the first time: a refused login is no outage then.

    Later on it may be one (a password is being changed, a database restored), and is waited for.
    """
    if error.fields.get("sqlstate") in _NOT_LET_IN:
        return ConfigError(f"{error.message}: check the user, the password and the database in the URL ({place})")
    return error


def place_of(url: URL) -> str:
    """Return where the database is, without a password."""
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


@contextmanager
def translated(names: Names | None = None) -> Iterator[None]:
    """Let no driver error out of the block."""
    try:
        yield
    except (psycopg2.Error, exc.DBAPIError, exc.TimeoutError) as error:
        raise translate(error, names) from error


def execute_plain(connection: Connection, sql: str) -> None:
    """Execute a statement without parameters over SQLAlchemy, to whose driver a bare percent sign is one."""
    connection.exec_driver_sql(sql.replace("%", "%%"))


class Database:
    """One database, one schema; makes every session this journal uses."""

    def __init__(self, url: URL, *, schema: str, engine: Engine | None, application_name: str) -> None:
        self.url = url
        self._identity: tuple[Any, ...] | None = None
        self.names = Names(schema)
        self._given = engine
        self._application_name = application_name
        self._engine: Engine | None = None
        self._kept = Kept()
        self._making = threading.Lock()
        self._closed = False
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Start with a new pool. The old one is kept from being collected: its connections are the parent's."""
        self._inherited = (self._engine, self._kept)
        self._engine = None
        self._kept = Kept()
        self._making = threading.Lock()

    @property
    def place(self) -> str:
        """Where the database is, without a password."""
        return place_of(self.url)

    def identity(self, *, again: bool = False) -> tuple[Any, ...]:
        """Return what tells these tables from those of another database or server; asked for once, or again."""
        if self._identity is None or again:
            with self.session() as session:
                self._identity = session.execute(self.names.qualify(IDENTITY))[0]
        return self._identity

    # -------------------------------------------------------------- pinned sessions

    def connect(self, role: str, *, settings: str = STORE_LOCK_TIMEOUT) -> Any:
        """Return a new autocommitted connection. Raises ``JournalUnavailable``."""
        self._refuse_if_closed()
        try:
            connection = self._open(role)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(SETTINGS + settings)
        except (psycopg2.Error, exc.DBAPIError, exc.TimeoutError) as error:
            raise self._unreachable(error) from error
        return connection

    def connect_async(self, role: str, *, preamble: str) -> Any:
        """Return a new non-blocking connection on which the preamble has been executed.

        Raises ``JournalUnavailable``; ``SchemaOutdated`` if the preamble prepares a statement on missing tables.
        """
        self._refuse_if_closed()
        connection = None
        try:
            connection = psycopg2.connect(**self._arguments(role), async_=1)
            _wait(connection)
            with connection.cursor() as cursor:
                cursor.execute(SETTINGS + preamble)
                _wait(connection)
        except psycopg2.Error as error:
            if connection is not None:
                connection.close()
            raise self._unreachable(error) from error
        return connection

    def _open(self, role: str) -> Any:
        if self._given is None:
            return psycopg2.connect(**self._arguments(role))
        fairy = self._given.raw_connection()
        fairy.detach()
        connection: Any = fairy.dbapi_connection
        connection.rollback()
        return connection

    def _arguments(self, role: str) -> dict[str, Any]:
        """Return what psycopg2 connects with. Dead peers are found within a minute, not two hours."""
        if self._given is None:
            arguments = PGDialect_psycopg2().create_connect_args(self.url)[1]  # type: ignore[no-untyped-call]
        else:
            # The caller's engine may find its credentials by itself (a `creator`, an event): ask what it used.
            with self._given.connect() as opened:
                info = opened.connection.driver_connection.info  # type: ignore[union-attr]
                arguments = {**info.dsn_parameters, "password": info.password}
        return {
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            **PATIENCE_WITH_PEERS,
            "connect_timeout": CONNECT_TIMEOUT,
            **arguments,
            "application_name": f"{self._application_name} {role}",
            "client_encoding": "UTF8",
        }

    # -------------------------------------------------------------- pooled sessions

    @property
    def engine(self) -> Engine:
        """The pool, made at the first use and again after a fork."""
        engine = self._engine
        if engine is None:
            with self._making:
                engine = self._engine
                if engine is None:
                    self._refuse_if_closed()
                    engine = self._engine = self._make_engine()
        return engine

    def _make_engine(self) -> Engine:
        engine = create_engine(
            "postgresql+psycopg2://",
            creator=lambda: self.connect("client"),
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_PATIENCE,
            pool_use_lifo=True,
        )
        event.listen(engine, "checkout", _refuse_dead)
        return engine

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Lend a pooled session. Driver errors inside the block are translated."""
        session = None
        try:
            session = self._kept.take() or Lent(self.engine.raw_connection(), self.names)
            yield session
        except (psycopg2.Error, exc.DBAPIError, exc.TimeoutError) as error:
            known = translate(error, self.names)
            if session is not None:
                if isinstance(known, JournalUnavailable):
                    session.fairy.invalidate(error)
                session.fairy.close()
            raise known from error
        except BaseException:
            if session is not None:
                session.fairy.close()
            raise
        self._kept.put(session)

    def run(self, statement: Statement, *arguments: str) -> list[tuple[Any, ...]]:
        """Execute one prepared statement on a pooled session and return its rows."""
        with self.session() as session:
            return session.run(statement, *arguments)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Lend a pooled session inside a transaction, committed at the end of the block."""
        with self.session() as session:
            session.execute("begin")
            try:
                yield session
            except BaseException:
                if not session.connection.closed:
                    session.execute("rollback")
                raise
            session.execute("commit")

    def close(self) -> None:
        """Close the pool; nothing can be opened any more."""
        self._closed = True
        self._kept.close()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise JournalUnavailable("this journal is closed")

    def _unreachable(self, error: Exception) -> JournalError:
        known = translate(error, self.names)
        if isinstance(known, JournalUnavailable):
            return JournalUnavailable(f"Postgres at {self.place}: {known.message}", **known.fields)
        return known


def _refuse_dead(connection: Any, _record: Any, _proxy: Any) -> None:
    """See whether the server has closed its end: an idle connection with something to read is a dead one."""
    if speaks(connection.fileno())(0):
        raise exc.InvalidatePoolError


def _wait(connection: Any) -> None:
    """Wait for an asynchronous connection. psycopg2's own way is blind beyond 1,023 descriptors, and has no limit."""
    watch = select.poll()
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        wanted = select.POLLIN if state == psycopg2.extensions.POLL_READ else select.POLLOUT
        watch.register(connection.fileno(), wanted)
        if not watch.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise psycopg2.OperationalError(f"no answer within {CONNECT_TIMEOUT} s")
