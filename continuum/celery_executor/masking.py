"""Here lives holding back the pool's signals while our own statements run.

A prefork pool sends its children SIGUSR1 for the soft time limit, whose handler raises ``SoftTimeLimitExceeded``, and
SIGTERM or SIGQUIT to end them, whose handlers raise ``SystemExit``; either wherever the main thread happens to be, a
claim or a commit of ours included. So around them the signals' handlers are replaced by one that makes a note. The
system's signal mask would not do: it is a thread's own, and a signal for the process then lands in any other thread
(an exporter's, say), upon which Python runs its handler in the main thread all the same.

What was noted is handed to the real handlers when the shield is lowered, at the latest then: before the body, so that
the body's own error handling sees it; after the report a soft limit has lost its meaning and is dropped.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import soft_timeout_sighandler

__all__ = ["Shield", "in_pool_child", "soft_limit_calls"]

_SOFT: Final = getattr(signal, "SIGUSR1", None)
# The pool's wish to end goes first: whoever leaves need not be told of a limit.
_HELD: Final = tuple(
    number for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGQUIT", "SIGUSR1")) if number
)

_Handler = Callable[[int, FrameType | None], Any]


def in_pool_child() -> bool:
    """Whether this is the main thread of a prefork child, where the pool's signals raise."""
    return (
        _SOFT is not None
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(_SOFT) is soft_timeout_sighandler
    )


class Shield:
    """Raised inside a ``with`` block; does nothing where the pool's signals do not raise.

    :ivar late: ``SystemExit`` that came when nobody could use it; leaving the block raises it.
    """

    def __init__(self) -> None:
        self._active = in_pool_child()
        self._real: dict[int, _Handler] = {}
        self._noted: set[int] = set()
        self.late: BaseException | None = None

    def __enter__(self) -> Self:
        if self._active:
            self._raise()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(SoftTimeLimitExceeded):  # it was meant for a body, and there is none any more
            self.lower()
        if self.late is not None:
            raise self.late

    @contextmanager
    def lowered(self) -> Iterator[None]:
        """Let signals through for the block: what was noted, at once, as an exception from entering it."""
        try:
            self.lower()
            yield
        finally:
            if self._active:
                self._raise()

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Hold signals back for a block within a lowered one, on whichever thread that is."""
        if not self._active or self._real or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._raise()
        try:
            yield
        finally:
            self.lower()

    def sleep(self, seconds: float) -> None:
        """Sleep, hearing what comes meanwhile: a ``SystemExit`` ends the sleep and becomes :attr:`late`."""
        try:
            with self.lowered():
                time.sleep(seconds)
        except SoftTimeLimitExceeded:
            pass
        except SystemExit as error:
            self.late = error

    def lower(self) -> None:
        """Put the real handlers back and give them what was noted. Raises what they raise."""
        real, self._real = self._real, {}
        for number, handler in real.items():
            signal.signal(number, handler)  # what is pending was sent to us, and is noted by this call
        noted, self._noted = self._noted, set()
        for number in _HELD:
            if number in noted:
                real[number](number, None)

    def _raise(self) -> None:
        for number in _HELD:
            handler = signal.getsignal(number)
            if not callable(handler) or isinstance(handler, signal.Handlers):
                continue
            while True:
                try:
                    signal.signal(number, self._note)  # runs the handlers of what is pending first
                except SoftTimeLimitExceeded:
                    continue  # the body has just ended
                except SystemExit as error:
                    self.late = error
                    continue
                break
            self._real[number] = handler

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted.add(number)


@contextmanager
def soft_limit_calls(function: Callable[[], None]) -> Iterator[None]:
    """Call a function at the soft limit instead of raising ``SoftTimeLimitExceeded``; only where it would be raised.

    An event loop swallows exceptions that a signal raises in the midst of its own work.
    """
    if not in_pool_child() or _SOFT is None:
        yield
        return
    signal.signal(_SOFT, lambda _number, _frame: function())
    try:
        yield
    finally:
        signal.signal(_SOFT, soft_timeout_sighandler)
