"""Here lives the call: a future of what workflow code asked somebody else to do, an activity or a child.

A call with a compensation is never abandoned while it may still have happened: cancelling it lets the code that awaited
it go on at once, and leaves the command open until its outcome is known, because a rollback has to know it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, ParamSpec, Self, TypeVar

from continuum.errors import CodecError
from continuum.replay.compensations import Compensation, attach
from continuum.replay.loop import DeterministicLoop
from continuum.replay.primitives import Task
from continuum.replay.undo import Undo

__all__ = ["Call"]

P = ParamSpec("P")
T = TypeVar("T")

_current_task: Final = asyncio.current_task
_future_await: Final = asyncio.Future.__await__

if TYPE_CHECKING:

    class _Future(asyncio.Future[T], Coroutine[Any, Any, T]):
        """To a type checker a call is a coroutine as well: `TaskGroup.create_task` takes it, on this loop."""

        def send(self, value: Any, /) -> Any: ...
        def throw(self, *args: Any) -> Any: ...
        def close(self) -> None: ...
        def __await__(self) -> Generator[Any, None, T]: ...
else:
    # Only the name is generic: a future takes no parameters when a class is made of it with slots.
    _Future = asyncio.Future


class Call(_Future[T], Generic[T]):
    """The outcome of a command that somebody else carries out: await it, gather it, shield it, or cancel it.

    :ivar command: number of the command.
    :ivar target: name of the activity or workflow.
    :ivar decode: payload of the result to its value.
    :ivar undo: its compensation, None if it has none (any more).
    """

    __slots__ = ("command", "decode", "serial", "target", "undo")
    command: int
    target: str
    decode: Callable[[str], Any]
    serial: int
    undo: Compensation | None

    what: ClassVar[str] = "call"
    success: ClassVar[str]

    def __hash__(self) -> int:
        return self.serial

    def __repr__(self) -> str:
        return f"<{self.what} {self.target} (command {self.command}) {self._state.lower()}>"

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the outcome, or take it from the history at once if waiting could let nothing else happen.

        The inline rule: nothing is ready, no condition waits, this future has no callbacks, the current task has no
        cancellation pending and is not an eager task's first step, no failure, cancellation or end of a task has been
        handed on in this drain, the run is not being unwound, and the next recorded completion is this one's success.
        Suspending would then resume exactly this task next. Fuzzed: with any of the conditions taken away, random
        programs replay differently.
        """
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        ledger = loop.ledger
        cursor = ledger.cursor
        if cursor < ledger.inline_due:
            event = ledger.completions[cursor]
            if (
                event.command == self.command
                and event.type == self.success
                and loop.is_quiet()
                and not self.done()
                and not self._callbacks
            ):
                task = _current_task(loop)
                if type(task) is Task and not task._must_cancel and ledger.barred is None:  # type: ignore[attr-defined] # noqa: SLF001
                    ledger.cursor = cursor + 1
                    loop.settle(event)
        return _future_await(self)

    __iter__ = __await__

    def compensate(self, undo: Undo[P], /, *args: P.args, **kwargs: P.kwargs) -> Self:
        """Say which activity undoes this call once it has succeeded, and return the call.

        It runs if the innermost saga block around this place is left by an exception or a cancellation; outside of
        blocks, when ``compensate()`` or ``compensate_all()`` asks for it. Its arguments are taken down here and now.
        From here on, cancelling the call stops the waiting, and not the call: it may have happened already, and a
        rollback has to know.

        Raises what calling ``undo`` would raise: ``TypeError``, ``CodecError``, ``DeclarationError``; and
        ``CompensationError`` if the call was cancelled before, or the block has ended. The call itself is withdrawn
        then. ``CompensationError``, too, if it has a compensation.
        """
        attach(self, undo, args, kwargs)
        return self

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop waiting. Return False if it has its outcome."""
        self._loop.holding = True  # type: ignore[attr-defined]  # it is ours
        return super().cancel(msg)

    def withdraw(self) -> None:
        """Give up the outcome of a call that workflow code has cancelled."""
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        loop.children.pop(self.command, None)

    def ask_to_stop(self) -> None:
        """Say to whoever carries it out that its result will only be undone. An activity is left to run to its end."""

    def settle(self, kind: str, payload: str | None) -> None:
        """Take in the outcome. Raises ``CodecError`` if it cannot be decoded."""
        if self.undo is not None:
            self.undo.settled(succeeded=kind == self.success)
        if self.done():
            return
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        try:
            if kind == self.success:
                self.set_result(self.decode(payload if payload is not None else "null"))
                return
            failure = self._failed(kind, payload)
        except Exception as error:
            raise loop.ledger.fail(self._undecodable(error)) from error
        unheard = not self._callbacks
        loop.holding = True
        self.set_exception(failure)
        if unheard:
            loop.watch(self)

    def _failed(self, kind: str, payload: str | None) -> Exception:
        """Return what workflow code gets to see of a failure: the same from every history, live or replayed."""
        raise NotImplementedError

    def _undecodable(self, error: Exception) -> CodecError:
        message = f"the outcome of {self.what} {self.target} (command {self.command}) cannot be decoded: {error}"
        return CodecError(message, path=getattr(error, "path", "") or "result")
