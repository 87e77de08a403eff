"""Here live hints: NOTIFY on connections of their own, after whatever they are about has been committed.

NOTIFY takes a lock of the whole database at commit, so it never rides in a transaction that writes. Losing every hint
costs time and nothing else.
"""

import contextlib
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import psycopg2
import psycopg2.extensions

from continuum.errors import JournalError, JournalUnavailable
from continuum.journal.postgres.database import Database, translate
from continuum.journal.postgres.literals import text
from continuum.journal.postgres.names import Names, quoted
from continuum.journal.requests import Hint, HintKind

__all__ = ["PostgresEars", "Speaker", "hints_call"]

_MOST_IDS: Final = 200  # of 36 characters: a payload ends at 8,000 bytes
_PATIENCE: Final = 0.05  # seconds to wait for the answer to the hint before this one
_PAUSE: Final = 1.0  # seconds without hints after the database could not be reached
_OK: Final = psycopg2.extensions.POLL_OK


def hints_call(names: Names, hints: Iterable[Hint]) -> str:
    """Return the text that sends hints, the same one once."""
    payloads: dict[tuple[str, str], None] = {}
    for hint in hints:
        channel = _channel(names, hint.kind)
        for at in range(0, len(hint.run_ids) or 1, _MOST_IDS):
            ids = ",".join(hint.run_ids[at : at + _MOST_IDS])
            payloads[channel, f"{hint.kind}:{ids}" if ids else str(hint.kind)] = None
    return "; ".join(f"notify {quoted(channel)}, {text(payload)}" for channel, payload in payloads) or "select"


def _gather(hints: Iterable[Hint]) -> list[Hint]:
    """Return one hint for each kind, with the runs of all."""
    runs: dict[HintKind, dict[str, None]] = {}
    for hint in hints:
        runs.setdefault(hint.kind, {}).update(dict.fromkeys(hint.run_ids))
    return [Hint(kind, tuple(ids)) for kind, ids in runs.items()]


def _channel(names: Names, kind: HintKind) -> str:
    return names.done_channel if kind == HintKind.DONE else names.work_channel


class PostgresEars:
    """A pair of :class:`~continuum.journal.protocol.Ears`."""

    def __init__(self, database: Database, kinds: Sequence[HintKind], *, on_close: Callable[[Any], None]) -> None:
        self._kinds = frozenset(kinds)
        self._on_close = on_close
        channels = sorted({_channel(database.names, kind) for kind in kinds})
        listen = "; ".join(f"listen {quoted(channel)}" for channel in channels)
        self._connection: Any = database.connect_async("ears", preamble=listen)

    def fileno(self) -> int:
        """Return the socket."""
        return int(self._open().fileno())

    def hear(self) -> list[Hint]:
        """Return what has been heard."""
        connection = self._open()
        try:
            connection.poll()
        except psycopg2.Error as error:
            raise JournalUnavailable(f"the ears' connection is gone: {translate(error).message}") from error
        heard = [_parse(notice.payload) for notice in connection.notifies]
        connection.notifies.clear()
        return [hint for hint in heard if hint is not None and hint.kind in self._kinds]

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._on_close(self)
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def _open(self) -> Any:
        if self._connection is None:
            raise JournalUnavailable("these ears are closed: open new ones")
        return self._connection


def _parse(payload: str) -> Hint | None:
    kind, _, ids = payload.partition(":")
    try:
        return Hint(HintKind(kind), tuple(ids.split(",")) if ids else ())
    except ValueError:
        return None  # somebody else's words on our channel, or a later release's


class Speaker:
    """Sends hints from any thread over one connection, not waiting for the answer.

    While one is on its way, those of other threads gather and leave together.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Hint] = deque()
        self._lock = threading.Lock()
        self._connection: Any = None
        self._cursor: Any = None
        self._answered = True
        self._silent_until = 0.0

    def say(self, hint: Hint) -> None:
        """Send a hint, or lose it."""
        self._waiting.append(hint)
        with self._lock:
            hints = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not hints or time.monotonic() < self._silent_until:
                return  # another thread has taken it along, or nobody could hear it
            call = hints_call(self._database.names, _gather(hints))
            try:
                if self._is_ready():
                    self._send(call)
            except (psycopg2.Error, JournalError, ValueError):
                self._forget()
                self._silent_until = time.monotonic() + _PAUSE

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._forget()

    def _send(self, call: str) -> None:
        if self._connection is None:
            self._connection = self._database.connect_async("hints", preamble="")
        self._answered = False
        # Kept: psycopg2 refuses to fetch the answer once the cursor it was asked with is gone.
        self._cursor = self._connection.cursor()
        self._cursor.execute(call)

    def _is_ready(self) -> bool:
        """Whether a hint can be sent; an old connection that turns out to be dead is dropped."""
        connection = self._connection
        if connection is None:
            return True
        watch = select.poll()
        watch.register(connection.fileno(), select.POLLIN)
        try:
            if self._answered and not watch.poll(0):
                return True
            deadline = time.monotonic() + _PATIENCE
            # The answer may be followed by the end of the connection: only a silent one is alive.
            while connection.poll() != _OK or watch.poll(0):
                if not watch.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    return False
        except psycopg2.Error:
            self._forget()
        self._answered = True
        return True

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        self._answered = True
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()
