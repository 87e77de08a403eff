"""Here lives the unwinding of a run whose function has come to its end: what is to be rolled back is, before it ends.

An open saga in a task that nobody awaits any more (its `gather` has raised, say) would be lost with the run. So these
tasks are cancelled, as `asyncio.run` does with all that are left, each once, and the run ends when every rollback has.
That takes as long as it takes: completions go on being delivered meanwhile, and a cancel request changes nothing.
"""

from continuum.replay.compensations import Stack
from continuum.replay.loop import DeterministicLoop
from continuum.replay.rollback import vacate

__all__ = ["left_to_undo", "unwind"]


def unwind(loop: DeterministicLoop) -> bool:
    """Bring what is left of the run to its end, as far as it goes now; return whether the run may end.

    Called whenever a completion has been drained and the main task is done. Deterministic, as everything that runs on
    the loop. Raises the fault of the ledger if unwinding causes one.
    """
    while loop.sagas:
        # Newest first; a task that begins another saga on its way out is cancelled again, until the spin guard speaks.
        found = [stack for stack in reversed(loop.sagas.values()) if isinstance(stack, Stack) and stack.is_occupied]
        if not found:
            return False
        for stack in found:
            vacate(stack, "the run is ending")
        loop.drain()
        if loop.ledger.fault is not None:
            raise loop.ledger.fault
    return True


def left_to_undo(loop: DeterministicLoop) -> bool:
    """Whether anything that was done, or may have been, has a compensation that has not run and may still have to."""
    if loop.undos is not None and loop.undos.entries:
        return True
    return any(not isinstance(saga, Stack) or saga.entries for saga in loop.sagas.values())
