"""Here live the saga effects: a block that is undone as a whole, and compensating by hand."""

import sys
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, ParamSpec, Self

from continuum.errors import CompensationError
from continuum.replay.calls import Call
from continuum.replay.compensations import Compensation, Stack, Stage, current_stack
from continuum.replay.effects.base import current_loop, get_running
from continuum.replay.loop import DeterministicLoop
from continuum.replay.outcomes import Rollback
from continuum.replay.rollback import Undoing, roll_back
from continuum.replay.undo import Undo, bind, check_admitted, refusal

__all__ = ["Saga", "compensate", "compensate_all", "saga"]

P = ParamSpec("P")


def saga(*, parallel: bool = False) -> "Saga":
    """Begin what is undone as a whole: a block of ``async with``.

    An exception that leaves the block, or a cancellation, first lets every compensation registered in it run, newest
    first, and then goes on. Calls in flight are waited for, since they may succeed yet. A compensation that fails is
    logged and noted on the exception, and the others run. Whoever is cancelled while waiting for a rollback goes at
    once; it continues, and the run does not end before it has.

    A block in a block that ended well is undone with the one around it. The outermost one that ends well keeps what it
    did: its compensations are forgotten, and calls that were cancelled in it are withdrawn.

    :param parallel: run all compensations at once.

    Raises ``NotInWorkflow``, ``TypeError``.
    """
    loop = current_loop("saga()")
    return Saga(loop, parallel=_check_parallel(parallel, "saga"))


class Saga:
    """A block that is undone as a whole. Made by `saga()`; entered once."""

    __slots__ = ("_loop", "_parallel", "_stack")

    def __init__(self, loop: DeterministicLoop, *, parallel: bool) -> None:
        self._loop = loop
        self._parallel = parallel
        self._stack: Stack | None = None

    @property
    def outcome(self) -> Rollback | None:
        """What the rollback did, compensation by compensation; None if there was none, or it is not over."""
        return None if self._stack is None else self._stack.outcome

    def add(self, undo: Undo[P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Register a compensation that belongs to no call.

        Raises what calling the activity would raise, ``CompensationError`` if the block is not open.
        """
        stack = self._stack
        if self._loop.dead:
            return
        check_admitted(self._loop)
        plan = bind(undo, args, kwargs)
        if stack is None or not stack.is_open:
            message = "undo.add() works inside of its `async with saga() as undo:` block only."
            raise refusal(message, self._loop.run.workflow)
        stack.add(plan)

    async def __aenter__(self) -> Self:
        """Enter the block."""
        if self._loop.dead:
            return self
        if self._stack is not None:
            message = "a saga is entered once: write `async with saga():` again for another one"
            raise RuntimeError(message)
        self._stack = Stack.enter(self._loop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the block: keep what it did, or undo it."""
        stack, loop = self._stack, self._loop
        if stack is None or loop.dead or get_running() is not loop:
            # Taken out of memory in the middle: wherever the run is replayed next, it is still in the block.
            return
        stack.leave()
        if error is None:
            stack.end_well()
        elif stack.is_open:
            undoing = roll_back(stack, parallel=self._parallel, error=error)
            if undoing.outcome is None and not isinstance(error, GeneratorExit):
                await undoing.wait()


def compensate_all(*, parallel: bool = False) -> Coroutine[Any, Any, Rollback]:
    """Undo what has been registered in the innermost saga block around this place, else in the run; newest first.

    Calls in flight are waited for first. Compensations that fail do not raise: they are in what this returns, logged,
    and noted on the exception being handled. The block, or the run, goes on, with nothing registered.

    :param parallel: run all compensations at once.

    Raises ``NotInWorkflow``, ``TypeError``; ``CompensationError`` if the block has ended.
    """
    loop = current_loop("compensate_all()")
    return _all(loop, sys.exception(), parallel=_check_parallel(parallel, "compensate_all"))


async def _all(loop: DeterministicLoop, error: BaseException | None, *, parallel: bool) -> Rollback:
    await _admit(loop)
    entries = current_stack(loop).entries
    return await Undoing(loop, dict(entries), parallel=parallel, error=error).wait() if entries else Rollback()


def compensate(call: Call[Any]) -> Coroutine[Any, Any, Any]:
    """Undo one call that succeeded, and return what its compensation returned. No rollback undoes it again.

    A call that was cancelled is waited for first. Raises ``ActivityFailed`` (or another ``ActivityError``) if the
    compensation fails; ``CompensationError`` if the call has no compensation, has not succeeded, was compensated
    before, or belongs to a saga that has ended well; ``NotInWorkflow``, ``TypeError``.
    """
    loop = current_loop("compensate()")
    if not isinstance(call, Call):
        message = f"compensate() takes a call, not {call!r:.100}: keep what `charge(...).compensate(refund)` returns"
        raise TypeError(message)
    return _one(loop, call)


async def _one(loop: DeterministicLoop, call: Call[Any]) -> Any:
    await _admit(loop)
    entry = call.undo
    if entry is None:
        raise refusal(f"{call!r} has no compensation: give it one with .compensate(undo, ...).", call.target)
    if not (entry.stage is Stage.ARMED or (entry.stage is Stage.WAITING and call.cancelled())):
        raise _refusal(entry, call.target)
    rollback = await Undoing(loop, {entry.key: entry}, raises=True).wait()
    if not rollback.steps:
        raise _refusal(entry, call.target)
    (step,) = rollback.steps
    if step.error is not None:
        raise step.error
    return step.result


def _refusal(entry: Compensation, target: str) -> CompensationError:
    return refusal(f"{target} (command {entry.command}) cannot be compensated: it {entry.stage.value}.", target)


async def _admit(loop: DeterministicLoop) -> None:
    """Refuse the effect where effects are refused."""
    if loop.dead:
        # Code that swallows what it gets and tries again must suspend here, so that it can be ended.
        await loop.create_future()
    check_admitted(loop)


def _check_parallel(parallel: object, what: str) -> bool:
    if not isinstance(parallel, bool):
        message = f"{what}(parallel={parallel!r:.100}) is not valid: write True or False"
        raise TypeError(message)
    return parallel
