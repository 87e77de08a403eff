"""Here lives the line: a pinned connection of a turns thread, on which a request is sent and not awaited.

Everything a line can be asked is prepared when it is opened. A request then is one text, ``EXECUTE name(…)``, handed
to libpq's asynchronous send; the reply is fetched when the descriptor is readable.

After an error that the server reported, the connection is as good as before and the request was refused as a whole.
After any other the line is dead, and nobody knows what became of its request.
"""

import contextlib
import select
import time
from collections.abc import Callable
from typing import Any, Final, assert_never

import psycopg2
import psycopg2.extensions

from continuum.errors import JournalUnavailable
from continuum.journal.postgres import claims, look
from continuum.journal.postgres.commit import commit_call
from continuum.journal.postgres.commit_texts import (
    COMMIT,
    COMMIT_DOOMED,
    COMMIT_FAMILY,
    COMMIT_MAIL,
    COMMIT_SINGLE,
    COMMIT_STEP,
)
from continuum.journal.postgres.database import LINE_LOCK_TIMEOUT, Database, translate
from continuum.journal.postgres.literals import whole
from continuum.journal.postgres.notify import hints_call
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.requests import (
    ClaimReply,
    ClaimRequest,
    CommitReply,
    CommitRequest,
    HintRequest,
    InspectReply,
    InspectRequest,
    LookRequest,
    MailReply,
    MailRequest,
    RegrantRequest,
    ReleaseReply,
    ReleaseRequest,
    Reply,
    Request,
    StickRequest,
)
from continuum.model.clock import DatabaseClock
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun

__all__ = ["PostgresLine"]

_STATEMENTS: Final = (
    COMMIT,
    COMMIT_MAIL,
    COMMIT_DOOMED,
    COMMIT_FAMILY,
    COMMIT_SINGLE,
    COMMIT_STEP,
    claims.CLAIM,
    claims.REGRANT,
    claims.LOAD,
    look.MAIL,
    look.LOOK,
    claims.INSPECT,
    claims.RELEASE,
    claims.STICK,
)
_OK: Final = psycopg2.extensions.POLL_OK
_WRITE: Final = psycopg2.extensions.POLL_WRITE
# A text that does not fit into the socket's buffers has to be pushed on, or a line would wait for the reply to a
# request that never left. Any socket takes this much at once.
_FITS: Final = 16 * 1024


class PostgresLine:
    """A :class:`~continuum.journal.protocol.Line`."""

    def __init__(
        self, database: Database, *, clock: DatabaseClock, payloads: Payloads, on_close: Callable[[Any], None]
    ) -> None:
        self._names = database.names
        self._clock = clock
        self._payloads = payloads
        self._on_close = on_close
        self._request: Request | None = None
        self._asked = 0
        # A claim of which some runs had to be loaded a second time.
        self._partial: list[ClaimedRun] | None = None
        preamble = "; ".join(self._names.prepare(statement) for statement in _STATEMENTS)
        self._connection: Any = database.connect_async("line", preamble=LINE_LOCK_TIMEOUT + preamble)
        self._cursor: Any = self._connection.cursor()
        self._fileno: int = self._connection.fileno()
        self._readable = select.poll()
        self._readable.register(self._fileno, select.POLLIN)

    @property
    def request(self) -> Request | None:
        """The request in flight."""
        return self._request

    def fileno(self) -> int:
        """Return the socket."""
        if self._connection is None:
            raise JournalUnavailable("this line is closed: open another")
        return self._fileno

    def send(self, request: Request) -> bool:
        """Send a request; return whether the reply may be here already.

        Raises ``ValueError`` or ``JournalError``, without sending it, if it cannot be written down.
        """
        if self._request is not None:
            raise RuntimeError(f"the line is busy with {type(self._request).__name__}: fetch its reply first")
        self.fileno()
        call = whole(self._call(request))
        self._asked = self._clock.monotonic_us()
        # Crash: from here on the request may be executed, whoever lives to hear of it.
        pushed = self._execute(call)
        self._request = request
        return pushed

    def receive(self) -> Reply | None:
        """Return the reply if it is there."""
        self.fileno()
        request = self._request
        if request is None:
            return None
        try:
            if self._connection.poll() != _OK:
                return None
            rows = self._cursor.fetchall() if self._cursor.description is not None else []
        except psycopg2.Error as error:
            self._request = self._partial = None
            raise self._refused_or_dead(error) from error
        try:
            reply = self._reply(request, rows)
        except BaseException:
            self._request = self._partial = None
            raise
        if reply is not None:
            self._request = None
        return reply

    def wait(self, timeout: float) -> Reply | None:
        """Wait for the reply."""
        deadline = time.monotonic() + timeout
        while (reply := self.receive()) is None and self._request is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not self._readable.poll(left * 1000):
                return None
        return reply

    def close(self) -> None:
        """Close the connection; the server may still finish what is in flight."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._on_close(self)
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    # -------------------------------------------------------------- inside

    def _execute(self, call: str) -> bool:
        """Send a text; return whether that may have swallowed the beginning, or all, of the reply."""
        try:
            self._cursor.execute(call)
            if len(call) <= _FITS:
                return False
            # Not select(): it cannot watch a descriptor beyond 1,023.
            writable = select.poll()
            writable.register(self._fileno, select.POLLOUT)
            # Pushing reads as well: what has arrived meanwhile sits in libpq, and the socket may stay silent.
            while self._connection.poll() == _WRITE:
                writable.poll()
        except psycopg2.Error as error:
            raise self._refused_or_dead(error) from error
        return True

    def _refused_or_dead(self, error: psycopg2.Error) -> Exception:
        known = translate(error)
        if self._connection.closed and not isinstance(known, JournalUnavailable):
            return JournalUnavailable(known.message, **known.fields)
        return known

    def _call(self, request: Request) -> str:
        match request:
            case CommitRequest():
                return commit_call(request, self._payloads)
            case ClaimRequest():
                return claims.claim_call(request)
            case RegrantRequest():
                return claims.regrant_call(request)
            case MailRequest():
                return look.mail_call(request)
            case LookRequest():
                return look.look_call(request)
            case InspectRequest():
                return claims.inspect_call(request)
            case ReleaseRequest():
                return claims.release_call(request)
            case StickRequest():
                return claims.stick_call(request)
            case HintRequest():
                return hints_call(self._names, request.hints)
            case _:
                assert_never(request)

    def _reply(self, request: Request, rows: list[tuple[Any, ...]]) -> Reply | None:
        match request:
            case CommitRequest():
                now, missing = rows[0][:2]
                self._tell_time(now)
                written = (commit.run_id for commit in request.commits)
                if missing is None:
                    return CommitReply(frozenset(written))
                left_out = set(missing)
                return CommitReply(
                    frozenset(run_id for place, run_id in enumerate(written, 1) if place not in left_out)
                )
            case ClaimRequest() | RegrantRequest():
                return self._claimed(request, rows)
            case MailRequest():
                return MailReply(look.read_messages(rows, self._payloads))
            case LookRequest():
                found, now = look.read_look(rows, self._payloads)
                self._tell_time(now)
                return found
            case InspectRequest():
                return InspectReply(claims.read_states(rows))
            case ReleaseRequest() | StickRequest():
                return ReleaseReply(frozenset(RunId(row[0]) for row in rows))
            case HintRequest():
                return ReleaseReply(frozenset())
            case _:
                assert_never(request)

    def _claimed(self, request: ClaimRequest | RegrantRequest, rows: list[tuple[Any, ...]]) -> ClaimReply | None:
        runs, stale, now = claims.read_claimed(rows, self._payloads)
        if now:
            self._tell_time(now)
        if self._partial is not None:
            runs, self._partial = [*self._partial, *runs], None
        elif stale:
            again = {grant.run_id for grant in stale}
            self._partial = [run for run in runs if run.run_id not in again]
            self._asked = self._clock.monotonic_us()
            self._execute(claims.load_call(request.worker, stale))
            return None
        return ClaimReply(runs)

    def _tell_time(self, now: int) -> None:
        self._clock.observe(now, self._asked, self._clock.monotonic_us())
