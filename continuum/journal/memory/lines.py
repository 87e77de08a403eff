"""Here live the memory wing's lines and ears: descriptors that behave like connections.

A request is executed when it is sent and its reply waits in the line until it is fetched, so a test that
closes the line in between has lost an answer, and one that keeps the request and sends it over another line
later has made a ghost.
"""

from collections.abc import Callable, Sequence

from continuum.errors import JournalUnavailable
from continuum.journal.memory.rows import EarsRow, Pipe
from continuum.journal.memory.store import Store
from continuum.journal.requests import Hint, HintKind, Reply, Request

__all__ = ["MemoryEars", "MemoryLine"]


class MemoryLine:
    """A :class:`~continuum.journal.protocol.Line`."""

    def __init__(self, execute: Callable[[Request], Reply]) -> None:
        self._execute = execute
        self._pipe: Pipe | None = Pipe()
        self._request: Request | None = None
        self._answer: Reply | Exception | None = None

    @property
    def request(self) -> Request | None:
        """The request in flight."""
        return self._request

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is a reply."""
        return self._open().fileno()

    def send(self, request: Request) -> bool:
        """Execute the request and keep the reply."""
        pipe = self._open()
        if self._request is not None:
            message = f"the line is busy with {type(self._request).__name__}: fetch its reply first"
            raise RuntimeError(message)
        self._request = request
        try:
            self._answer = self._execute(request)
        except Exception as error:  # noqa: BLE001 - as over a wire: the refusal is the reply
            self._answer = error
        pipe.ring()
        return False

    def receive(self) -> Reply | None:
        """Return the reply, or None if no request is in flight."""
        pipe = self._open()
        answer, self._answer, self._request = self._answer, None, None
        pipe.quiet()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, timeout: float) -> Reply | None:  # noqa: ARG002 - the reply is always there
        """Return the reply at once."""
        return self.receive()

    def close(self) -> None:
        """Forget the reply and close the descriptor."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _open(self) -> Pipe:
        if self._pipe is None:
            message = "this line is closed: open another"
            raise JournalUnavailable(message)
        return self._pipe


class MemoryEars:
    """A pair of :class:`~continuum.journal.protocol.Ears`."""

    def __init__(self, store: Store, kinds: Sequence[HintKind]) -> None:
        self._store = store
        self._row: EarsRow | None = EarsRow(frozenset(kinds), [], Pipe())
        with store.lock:
            store.ears.append(self._row)

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to hear."""
        return self._open().pipe.fileno()

    def hear(self) -> list[Hint]:
        """Return what was said since the last call."""
        with self._store.lock:
            row = self._open()
            heard = list(row.heard)
            row.heard.clear()
            row.pipe.quiet()
            return heard

    def close(self) -> None:
        """Stop listening."""
        with self._store.lock:
            row, self._row = self._row, None
            if row is not None:
                self._store.ears = [ears for ears in self._store.ears if ears is not row]
                row.pipe.close()

    def _open(self) -> EarsRow:
        if self._row is None:
            message = "these ears are closed: open new ones"
            raise JournalUnavailable(message)
        return self._row
