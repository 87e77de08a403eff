"""Here lives what a compensation is made of: the activity that undoes, and the call it undoes."""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, runtime_checkable

from continuum.errors import CompensationError
from continuum.replay.loop import DeterministicLoop

__all__ = ["Plan", "Undo", "Undoable", "bind", "check_admitted", "refusal"]

P = ParamSpec("P")

Plan = Callable[[int | None], "asyncio.Future[Any]"]
"""Schedules a compensation whose arguments are bound and encoded; takes the number of the command it undoes."""


@runtime_checkable
class Undo(Protocol[P]):
    """What may undo a call: an activity."""

    def plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        """Bind and encode the arguments; raise what a call with them would raise."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Take the arguments that `plan` is given."""


class Undoable(Protocol):
    """A call, as far as its compensation has to know it."""

    command: int
    target: str
    undo: Any

    def done(self) -> bool:
        """Whether workflow code has its outcome, or cancelled it."""

    def cancelled(self) -> bool:
        """Whether workflow code has given it up."""

    def withdraw(self) -> None:
        """Give up the outcome."""

    def ask_to_stop(self) -> None:
        """Say to whoever carries it out that its result will only be undone."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Call this once it is done."""


def refusal(message: str, activity: str) -> CompensationError:
    """Return the error for what cannot be compensated."""
    return CompensationError(message, activity=activity, attempts=0)


def check_admitted(loop: DeterministicLoop) -> None:
    """Raise what bars the code from effects, if anything does."""
    if loop.ledger.barred is not None:
        raise loop.ledger.barred()


def bind(undo: Undo[...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """Return the plan of a compensation. Raises ``TypeError``, ``CodecError``, ``DeclarationError``."""
    if isinstance(undo, Undo):
        return undo.plan(args, kwargs)
    if isinstance(undo, asyncio.Future):
        # `.compensate(refund(order))` has called it. Nothing may come of that.
        undo.cancel()
        message = f"a compensation is given as an activity and its arguments, not as a call of it ({undo!r})"
    else:
        message = f"a compensation is an activity, not {undo!r:.100}: declare the function with @activity"
    raise TypeError(message)
