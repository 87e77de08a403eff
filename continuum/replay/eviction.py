"""Here lives eviction: taking a run out of memory so that nothing of its code is left to run.

A suspended coroutine that is merely dropped gets ``GeneratorExit`` when the garbage collector finds it: its
``finally:`` blocks then run on whatever thread collects, in the middle of whatever that thread does, another run's turn
perhaps. So every coroutine of a run is ended here, on the calling thread, while effects raise `RunEvicted`:

1. cancel all tasks, newest first, and run callbacks; twice, since a ``finally:`` may have caught the first one;
2. throw `RunEvicted` into what is still suspended, such as a loop that swallows ``CancelledError``;
3. close async generators left open;
4. what swallows even that (``while True: try: … except BaseException: pass``) is kept for the life of the process, and
   longer: at its end Python would throw into every coroutine it finds, and this one would hang it.

# Invariant: nothing a run does while it is evicted reaches its history.
"""

import asyncio
import ctypes
from collections.abc import Coroutine
from typing import Any, Final

from continuum.replay.ledger import RunEvicted
from continuum.replay.loop import DeterministicLoop

__all__ = ["count_immortals", "evict_loop"]

_ROUNDS: Final = 20
_CANCELS: Final = 2
_MAX_CALLBACKS: Final = 10_000
_MAX_THROWS: Final = 100


class _Immortals:
    count = 0


def count_immortals() -> int:
    """Return how many coroutines of this process refused to end; each holds its memory for good."""
    return _Immortals.count


def _keep_for_ever(coroutine: object) -> None:
    # A reference that nobody can drop, not even the interpreter when it clears its modules.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))
    _Immortals.count += 1


def evict_loop(loop: DeterministicLoop) -> None:
    """End everything that runs on the loop. Harmless if it has been done before."""
    if loop.dead:
        return
    host = loop.enter()
    loop.dead = True
    loop.ledger.evict()
    loop.ledger.fault = None
    try:
        # What ends may create tasks and drop async generators on its way, so look again until nothing is left.
        for _ in range(_ROUNDS):
            for _ in range(_CANCELS):
                for task in _newest_first(loop):
                    task.cancel()
                _run_callbacks(loop)
            for task in _newest_first(loop):
                _end(task.get_coro())
            loop.tasks.clear()
            for agen in loop.take_agens():
                _end(agen.aclose())
            _run_callbacks(loop)
            if not loop.tasks:
                break
        for task in _newest_first(loop):
            _keep_for_ever(task.get_coro())
    finally:
        loop.leave(host)
        loop.forget()


def _newest_first(loop: DeterministicLoop) -> list[asyncio.Task[Any]]:
    return [task for task in reversed(loop.tasks.values()) if not task.done()]


def _run_callbacks(loop: DeterministicLoop) -> None:
    # The budget ends loops over sleep(0); the spin it reports is no fault of a dead run.
    loop.refill(_MAX_CALLBACKS)
    loop.drain()
    loop.ledger.fault = None


def _end(coroutine: Any) -> None:
    """Throw into a suspended coroutine until it ends."""
    if coroutine is None:
        return
    target: Coroutine[Any, Any, Any] = coroutine
    for _ in range(_MAX_THROWS):
        try:
            target.throw(RunEvicted("the run is being taken out of memory"))
        except BaseException:  # noqa: BLE001 - it ended, with whatever
            return
    _keep_for_ever(target)
