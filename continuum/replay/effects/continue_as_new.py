"""Here lives the effect that ends a run and goes on in a fresh one, with an empty history.

It is an exception on its way out of the workflow's function, so ``finally`` blocks and context managers on that way run
as always. What they ask for is recorded and ordered before the run ends, as after ``return``.
"""

import asyncio
from typing import Any, Final, NoReturn

from continuum.errors import CompensationError
from continuum.model.codec import check_size, encode_arguments
from continuum.replay.effects.base import current_loop
from continuum.replay.unwinding import left_to_undo

__all__ = ["ContinueAsNew", "continue_as_new", "find_continuation"]

_WHAT: Final = "continue_as_new()"


class ContinueAsNew(BaseException):
    """Raised by `continue_as_new`. Not an error: ``except Exception`` lets it pass.

    :ivar payload: the encoded input of the run that goes on.
    """

    def __init__(self, payload: str) -> None:
        super().__init__("the run continues as a new one; let this exception leave the workflow's function")
        self.payload = payload


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this run, and go on in a new one: the same workflow, its newest loaded version, with these arguments.

    Never returns. The new run has the same chain, parent, namespace and attributes, and the signals that nobody has
    taken; open activities and timers end with this run, children go on. Code that catches ``BaseException`` and does
    not raise it again takes the call back.

    Raises ``TypeError`` and ``CodecError`` for arguments the workflow does not take or that cannot be stored,
    ``RuntimeError`` outside of the workflow's main task, ``CompensationError`` while there is something a rollback
    would have to undo, ``NotInWorkflow``.
    """
    loop = current_loop(_WHAT)
    ledger = loop.ledger
    if ledger.barred is not None:
        raise ledger.barred()
    if asyncio.current_task(loop) is not loop.main:
        message = (
            f"{_WHAT} was called in a task of its own, or in a callback, and only the workflow's main task can end the"
            " run. Return from the task, and call it where the workflow's function awaits the task."
        )
        raise RuntimeError(message)
    encode = loop.encode_input
    payload = encode_arguments(args, kwargs, where="input") if encode is None else encode(args, kwargs)
    check_size(payload, ledger.max_payload, "input")
    if left_to_undo(loop):
        message = (
            f"{_WHAT} would lose what a rollback has to undo: nobody could roll it back from the new run. Call it after"
            " the saga block, or call compensate_all() before."
        )
        raise CompensationError(message, activity=loop.run.workflow, attempts=0)
    raise ContinueAsNew(payload)


def find_continuation(error: BaseException) -> ContinueAsNew | None:
    """Return the continuation that an exception is, or that is all a group (of a ``TaskGroup``, say) consists of."""
    if isinstance(error, ContinueAsNew):
        return error
    found = None
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            found = find_continuation(inner)
            if found is None:
                return None
    return found
