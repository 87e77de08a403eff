"""Here live the things the turns thread sleeps on: a bell for other threads, and lines that break and come back."""

import contextlib
import ctypes
import logging
import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from continuum.errors import ContinuumError, JournalUnavailable
from continuum.journal.protocol import Ears, Line
from continuum.journal.requests import Hint, Reply, Request

__all__ = ["Bell", "Listener", "Wire"]

logger = logging.getLogger("continuum.runtime")

T = TypeVar("T")
C = TypeVar("C")

# os.write gives up the GIL, and the reader would wake for the first result of a burst. This keeps it, so that the
# others are there as well when the reader comes to look: batches are twice as large for it.
_write = ctypes.PyDLL(None).write
_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_write.restype = ctypes.c_ssize_t

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


class Bell(Generic[T]):
    """Many writers, one reader that sleeps in a selector.

    Items are appended first; the descriptor is written only if the reader sleeps. So a burst of results costs one
    wake-up, and what arrives while the reader works costs none.
    """

    __slots__ = ("_asleep", "_read", "_write", "items")

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self._asleep = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """Return the descriptor to sleep on."""
        return self._read

    def put(self, item: T) -> None:
        """Leave an item for the reader, and wake it if it sleeps. Any thread."""
        self.items.append(item)
        if self._asleep:
            self.ring()

    def ring(self) -> None:
        """Wake the reader. Any thread."""
        self._asleep = False
        # A full pipe is rung already.
        _write(self._write, b"x", 1)

    def sleeping(self) -> bool:
        """Say that the reader is about to sleep; False if there is an item already."""
        self._asleep = True
        # Invariant: the flag is set before the last look. A writer that appends after this look sees the flag.
        if self.items:
            self._asleep = False
            return False
        return True

    def stirred(self) -> None:
        """Say that the reader is awake for another reason: whoever puts something now need not ring."""
        self._asleep = False

    def awake(self) -> None:
        """Say that the reader is awake, and swallow what was rung."""
        self._asleep = False
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def __del__(self) -> None:
        # Not before: a thread that still holds the bell might write into whatever got the descriptor's number next.
        os.close(self._read)
        os.close(self._write)


class _Reconnecting:
    """Something with a descriptor that may break, and is opened again after a growing pause."""

    def __init__(self, selector: selectors.BaseSelector, name: str) -> None:
        self._selector = selector
        self._name = name
        self._pause = _FIRST_PAUSE
        # Remembered, because a broken connection does not tell its descriptor any more.
        self._fileno: int | None = None
        self.reopen_at: float | None = None

    def _failed(self, error: Exception) -> None:
        logger.warning("%s: %s; reconnecting in %.2f s", self._name, error, self._pause)
        self.reopen_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _opened(self, fileno: int, handler: Callable[[], None]) -> None:
        self._pause = _FIRST_PAUSE
        self.reopen_at = None
        self._fileno = fileno
        self._selector.register(fileno, selectors.EVENT_READ, handler)

    def _due(self) -> bool:
        return self.reopen_at is not None and time.monotonic() >= self.reopen_at

    def _forget(self) -> None:
        fileno, self._fileno = self._fileno, None
        if fileno is not None:
            self._selector.unregister(fileno)


class Wire(_Reconnecting, Generic[C]):
    """A line with the context of the request in flight.

    ``on_reply(context, reply)``, ``on_refused(context, error)``: the request was refused whole; ``on_lost(context)``:
    nobody knows what became of it. That is also said of a request without an answer for ``patience`` seconds.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        name: str,
        open_line: Callable[[], Line],
        *,
        on_reply: Callable[[C, Reply], None],
        on_refused: Callable[[C, ContinuumError], None],
        on_lost: Callable[[C], None],
        patience: float = 30.0,
    ) -> None:
        super().__init__(selector, name)
        self._open_line = open_line
        self._on_reply = on_reply
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._patience = patience
        self._sent_at = 0.0
        self._line: Line | None = None
        self._context: C | None = None

    @property
    def idle(self) -> bool:
        """Whether a request can be sent now."""
        return self._line is not None and self._context is None

    @property
    def busy(self) -> bool:
        """Whether a request is in flight."""
        return self._context is not None

    def open(self) -> None:
        """Open the line. Raises ``JournalUnavailable``."""
        line = self._open_line()
        self._line = line
        self._opened(line.fileno(), self.pump)

    def look_after(self) -> None:
        """Open a broken line again once its pause is over; give up one that does not answer."""
        if self._context is not None and time.monotonic() - self._sent_at > self._patience:
            self._broke(JournalUnavailable(f"no answer within {self._patience:g} s"))
        if not self._due():
            return
        try:
            self.open()
        except (ContinuumError, ValueError, OSError) as error:
            # Away, busy (a migration locks a table), or of another release for a moment: there is nothing but waiting.
            self._failed(error)

    def send(self, context: C, request: Request) -> None:
        """Send a request; the line must be idle."""
        line = self._line
        assert line is not None
        self._context = context
        self._sent_at = time.monotonic()
        try:
            answered = line.send(request)
        except JournalUnavailable as error:
            self._broke(error)
        except ContinuumError as error:
            self._context = None
            self._on_refused(context, error)
        else:
            if answered:
                self.pump()

    def pump(self) -> None:
        """Fetch the reply if it is there."""
        line, context = self._line, self._context
        if line is None:
            return
        try:
            reply = line.receive()
        except JournalUnavailable as error:
            self._broke(error)
            return
        except ContinuumError as error:
            self._context = None
            if context is not None:
                self._on_refused(context, error)
            return
        if reply is not None and context is not None:
            self._context = None
            self._on_reply(context, reply)

    def abandon(self) -> None:
        """Close the line; what is in flight is lost without a call."""
        self._close()
        self._context = None
        self.reopen_at = time.monotonic()

    def close(self) -> None:
        """Close for good."""
        self._close()
        self._context = None
        self.reopen_at = None

    def _broke(self, error: Exception) -> None:
        context, self._context = self._context, None
        self._close()
        self._failed(error)
        if context is not None:
            self._on_lost(context)

    def _close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._forget()
            line.close()


class Listener(_Reconnecting):
    """Ears that come back. After each reopening ``on_deaf`` is called: hints may have been missed."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        open_ears: Callable[[], Ears],
        *,
        on_hints: Callable[[Sequence[Hint]], Any],
        on_deaf: Callable[[], Any],
    ) -> None:
        super().__init__(selector, "listener")
        self._open_ears = open_ears
        self._on_hints = on_hints
        self._on_deaf = on_deaf
        self._ears: Ears | None = None
        self.rested_at: float | None = None

    def open(self) -> None:
        """Begin to listen. Raises ``JournalUnavailable``."""
        ears = self._open_ears()
        self._ears = ears
        self.rested_at = None
        self._opened(ears.fileno(), self.pump)
        self._on_deaf()

    def rest(self, seconds: float) -> None:
        """Hear nothing for so long; what is said meanwhile is heard together."""
        if seconds > 0 and self.rested_at is None and self._fileno is not None:
            self._selector.unregister(self._fileno)
            self.rested_at = time.monotonic() + seconds

    def reopen_if_due(self) -> None:
        """Listen again once the rest, or the pause after a failure, is over."""
        if self.rested_at is not None and time.monotonic() >= self.rested_at and self._fileno is not None:
            self.rested_at = None
            self._selector.register(self._fileno, selectors.EVENT_READ, self.pump)
            self.pump()
        if not self._due():
            return
        try:
            self.open()
        except (ContinuumError, ValueError, OSError) as error:
            self._failed(error)

    def pump(self) -> None:
        """Hand on what was heard."""
        ears = self._ears
        if ears is None:
            return
        try:
            hints = ears.hear()
        except JournalUnavailable as error:
            self.close()
            self._failed(error)
            return
        if hints:
            self._on_hints(hints)

    def close(self) -> None:
        """Stop listening."""
        ears, self._ears = self._ears, None
        self.reopen_at = None
        if ears is not None:
            if self.rested_at is None:
                self._forget()
            self._fileno = self.rested_at = None
            ears.close()
