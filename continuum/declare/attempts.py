"""Here lives what an activity can learn about the attempt it is running in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from continuum.errors import DeclarationError
from continuum.model.codec import check_size, decode, encode
from continuum.model.ids import RunId
from continuum.replay.effects.base import in_workflow

__all__ = ["ATTEMPT", "MAX_HEARTBEAT_BYTES", "Attempt", "current_attempt"]

# Progress is a pointer to where to go on, not a place for data: it is written every second.
MAX_HEARTBEAT_BYTES: Final = 16 * 1024


class Attempt:
    """One try of one activity call. Activities get theirs from :func:`current_attempt`.

    :ivar number: 1 for the first try.
    :ivar run_id: the run that asked; empty in a unit test.
    :ivar command: number of the call within the run.
    :ivar activity: name of the activity.
    :ivar idempotency_key: the key this call was scheduled under, or None.
    """

    __slots__ = ("_beat", "_cancelled", "_earlier", "activity", "command", "idempotency_key", "number", "run_id")

    def __init__(
        self,
        *,
        number: int = 1,
        run_id: RunId = RunId(""),  # noqa: B008 - a text
        command: int = 0,
        activity: str = "",
        idempotency_key: str | None = None,
        earlier: str | None = None,
        beat: Callable[[str | None], None] | None = None,
    ) -> None:
        self.number = number
        self.run_id = run_id
        self.command = command
        self.activity = activity
        self.idempotency_key = idempotency_key
        self._earlier = earlier
        self._beat = beat
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self.activity or 'no activity'}, run {self.run_id or '-'}>"

    def heartbeat(self, details: Any = None) -> None:
        """Say that this attempt is alive, and perhaps how far it has come. Cheap: call it as often as you like.

        Details (at most 16 KiB as JSON) are there for operators to see and, after a failure, for the next attempt in
        :attr:`last_heartbeat`; None leaves the ones reported before. Raises ``CodecError`` if they cannot be stored.
        Restarts the ``heartbeat_timeout``. Look at :attr:`cancelled` now and then.
        """
        payload = None
        if details is not None:
            payload = encode(details, where="heartbeat")
            check_size(payload, MAX_HEARTBEAT_BYTES, "heartbeat")
        if self._beat is not None:
            self._beat(payload)

    @property
    def last_heartbeat(self) -> Any:
        """The details an earlier attempt of this call reported last; None if there are none."""
        return None if self._earlier is None else decode(self._earlier)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this attempt any more: stop when it is convenient, the outcome is thrown away."""
        return self._cancelled

    def cancel(self) -> None:
        """Make :attr:`cancelled` true. For those who run attempts, and for unit tests."""
        self._cancelled = True

    @contextmanager
    def bound(self) -> Iterator["Attempt"]:
        """Make this the current attempt inside the block."""
        token = ATTEMPT.set(self)
        try:
            yield self
        finally:
            ATTEMPT.reset(token)


ATTEMPT: Final[ContextVar[Attempt]] = ContextVar("continuum_attempt")
"""The attempt that the present code runs in."""


def current_attempt() -> Attempt:
    """Return the attempt that this code runs in.

    Where nobody runs an attempt, as in a unit test that calls the function, it is a detached one: number 1, never
    cancelled, its heartbeats are checked and forgotten. Raises ``DeclarationError`` in workflow code.
    """
    attempt = ATTEMPT.get(None)
    if attempt is not None:
        return attempt
    if in_workflow():
        raise DeclarationError("current_attempt() is for activities; workflow code has run_info().")
    return Attempt()
