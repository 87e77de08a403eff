"""Here live the tasks, futures and timers of a workflow's event loop.

They are asyncio's own (in C), with one difference: each hashes by the number of its creation. asyncio keeps them in
sets (`wait`, the tasks a TaskGroup aborts), and a set's order follows its hashes, which by default are addresses in
memory: different in every process.

The numbers of a run begin at an offset drawn from its seed. They must not begin at 0: asyncio keeps all tasks of the
process in one set, where ten thousand parked runs would have ten thousand equal hashes.
"""

import asyncio
import contextvars
from collections import deque
from typing import Any, Generic, TypeVar

__all__ = ["Future", "Mailbox", "Task", "Timer"]

T = TypeVar("T")


class Task(asyncio.Task[T], Generic[T]):
    """A task of workflow code."""

    __slots__ = ("serial",)
    serial: int

    def __hash__(self) -> int:
        return self.serial

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it, as asyncio does."""
        self._loop.holding = True  # type: ignore[attr-defined]  # it is ours
        return super().cancel(msg)


class Future(asyncio.Future[T], Generic[T]):
    """A future of workflow code."""

    __slots__ = ("serial",)

    def __init__(self, loop: asyncio.AbstractEventLoop, serial: int) -> None:
        super().__init__(loop=loop)
        self.serial = serial

    def __hash__(self) -> int:
        return self.serial

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it, as asyncio does."""
        self._loop.holding = True  # type: ignore[attr-defined]  # it is ours
        return super().cancel(msg)

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Let it fail, as asyncio does."""
        self._loop.holding = True  # type: ignore[attr-defined]  # it is ours
        super().set_exception(exception)


class Timer(asyncio.TimerHandle):
    """What `call_later` returns: a callback bound to a durable timer.

    :ivar command: number of its ``timer_started`` command.
    :ivar fire_at: microseconds since the epoch.
    """

    __slots__ = ("command", "fire_at")

    def __init__(
        self,
        command: int,
        fire_at: int,
        call: tuple[Any, tuple[Any, ...]],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        # What the constructors of TimerHandle and Handle set, without their calls to get_debug(): a replay makes many.
        self._callback, self._args = call
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = fire_at / 1_000_000
        self._scheduled = True
        self.command = command
        self.fire_at = fire_at


class Mailbox:
    """Signals of one name that were received and not yet consumed, and who waits for them.

    Works as `asyncio.Queue` does: a signal stays here until the waiter resumes and takes it, so a waiter that is
    cancelled after it was woken, and before it ran, loses nothing.

    :ivar payloads: the signals, oldest first.
    """

    __slots__ = ("_loop", "_waiters", "payloads")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # An empty deque takes 760 bytes, and a parked run has a mailbox: what is empty here is an empty tuple.
        self._waiters: list[asyncio.Future[None]] | tuple[()] = ()
        self.payloads: deque[str] | tuple[()] = ()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a signal that has not come."""
        return any(not waiter.done() for waiter in self._waiters)

    def put(self, payload: str) -> None:
        """Add a signal and wake the waiter that came first."""
        if self.payloads:
            self.payloads.append(payload)
        else:
            self.payloads = deque((payload,))
        self._wake()

    async def take(self) -> str:
        """Wait for the oldest signal, remove it and return its payload."""
        while not self.payloads:
            waiter = self._loop.create_future()
            if self._waiters:
                self._waiters.append(waiter)
            else:
                self._waiters = [waiter]
            try:
                await waiter
            except BaseException:
                waiter.cancel()
                if self._waiters and waiter in self._waiters:
                    self._waiters.remove(waiter)
                if self.payloads and not waiter.cancelled():
                    # Woken, and cancelled before it ran: the next one takes the signal.
                    self._wake()
                raise
        payload = self.payloads.popleft()
        if not self.payloads:
            self.payloads = ()
        return payload

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return
