"""Here lives the rollback: it runs the compensations of a block, or some of them.

It first waits: for calls that are in flight, because they may yet succeed; for compensations that somebody else has
taken; and, if a whole block is rolled back, for blocks nested in it that other tasks are still in, which it cancels.
Then it schedules what is armed, newest first, one after the other or all at once.

It is made of callbacks, and no task, so that nothing can cancel it. Whoever waits for it may leave; the run does not
end before it is done (``loop.sagas``, `unwinding`).

On failure: a compensation that fails is logged, told to the exception that caused the rollback, and does not keep the
others from running. After a crash nothing is special here: the history holds what was asked for.
"""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from continuum.errors import ActivityError
from continuum.replay.compensations import Compensation, Stack, Stage, State
from continuum.replay.locations import caller
from continuum.replay.loop import DeterministicLoop
from continuum.replay.outcomes import Compensated, Rollback

__all__ = ["Undoing", "roll_back", "vacate"]


class Undoing:
    """Compensations on their way, in ``loop.sagas`` until the last one has its outcome.

    :ivar outcome: what has been done; None until all is.
    """

    __slots__ = (
        "_block",
        "_due",
        "_entries",
        "_error",
        "_key",
        "_loop",
        "_open",
        "_parallel",
        "_place",
        "_raises",
        "_steps",
        "_waiter",
        "_waiting",
        "outcome",
    )

    def __init__(
        self,
        loop: DeterministicLoop,
        entries: dict[int, Compensation],
        *,
        block: Stack | None = None,
        parallel: bool = False,
        error: BaseException | None = None,
        raises: bool = False,
    ) -> None:
        """Begin. What can be scheduled at once is.

        :param entries: what it is about; those of a block become more while blocks in it end.
        :param block: the block that ends with it.
        :param error: the exception that is told of compensations that fail.
        :param raises: whether whoever waits raises what went wrong, so that nobody else has to be told.
        """
        self._loop = loop
        self._entries = entries
        self._block = block
        self._parallel = parallel
        self._error = error
        self._raises = raises
        self._place = caller()
        self._waiting: set[int] = set()
        self._due: list[Compensation] = []
        self._steps: list[Compensated | None] = []
        self._open = 0
        self._waiter: asyncio.Future[None] | None = None
        self.outcome: Rollback | None = None
        self._key = loop.next_serial() if block is None else block.key
        loop.sagas.setdefault(self._key, self)
        if block is None:
            for entry in entries.values():
                entry.wanted = True
        self._look()

    async def wait(self) -> Rollback:
        """Wait until all has been done. Who is cancelled meanwhile goes, and the rollback goes on."""
        if self.outcome is None:
            self._waiter = self._loop.create_future()
            await self._waiter
        assert self.outcome is not None
        return self.outcome

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        for entry in list(self._entries.values()):
            if entry.watch(self._freed):
                self._waiting.add(entry.key)
        if self._block is not None:
            # Also those that a task has begun on its way out of another one.
            for stack in self._block.nested():
                vacate(stack, "the saga around this one is rolled back")
            for stack in self._block.nested():
                stack.watchers.append(self._freed)
                self._waiting.add(stack.key)
        if not self._waiting:
            self._undo()

    def _freed(self, key: int) -> None:
        if self._loop.dead:
            return
        self._waiting.discard(key)
        if not self._waiting:
            self._look()

    # -- undoing -------------------------------------------------------------------------------------------------------

    def _undo(self) -> None:
        armed = [entry for entry in self._entries.values() if entry.stage is Stage.ARMED]
        armed.sort(key=lambda entry: entry.armed)  # the newest one last, to be popped first
        for entry in armed:
            entry.take(self)
        self._due = armed
        self._go_on()

    def _go_on(self) -> None:
        ledger = self._loop.ledger
        while self._due and (self._parallel or not self._open):
            entry = self._due.pop()
            ledger.place = self._place
            try:
                call = entry.plan(entry.command)
            finally:
                ledger.place = None
            self._open += 1
            self._steps.append(None)
            call.add_done_callback(partial(self._undone, entry, len(self._steps) - 1))
        if not self._open:
            self._finish()

    def _undone(self, entry: Compensation, index: int, call: Any) -> None:
        if self._loop.dead:
            return
        error = call.exception()
        assert error is None or isinstance(error, ActivityError)
        result = call.result() if error is None else None
        self._steps[index] = Compensated(call.target, entry.target, entry.command, result, error)
        if error is not None:
            self._tell(call.target, entry, error)
        entry.finish()
        self._open -= 1
        self._go_on()

    def _tell(self, activity: str, entry: Compensation, error: ActivityError) -> None:
        if self._raises and self._waiter is not None and not self._waiter.done():
            return
        whose = "" if entry.target is None else f" of {entry.target} (command {entry.command})"
        what = f"compensation {activity}{whose} failed"
        self._loop.report(what, error)
        if self._error is not None:
            # Exceptions need not take notes: those of a frozen dataclass do not.
            with suppress(Exception):
                self._error.add_note(f"{what}: {error}")

    def _finish(self) -> None:
        self.outcome = Rollback(tuple(step for step in self._steps if step is not None))
        self._error = None
        if self._block is not None:
            self._block.close(self.outcome)
        else:
            self._loop.sagas.pop(self._key, None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def roll_back(stack: Stack, *, parallel: bool = False, error: BaseException | None = None) -> Undoing:
    """Close an open block, cancel what other tasks are doing in blocks nested in it, and begin its rollback."""
    stack.state = State.UNDOING
    return Undoing(stack.loop, stack.entries, block=stack, parallel=parallel, error=error)


def vacate(stack: Stack, why: str) -> None:
    """Make the task in a block leave it: cancel it, once. If it is gone, roll back in its place."""
    if stack.asked or stack.state is not State.OPEN:
        return
    holder = stack.holder
    if holder is None or holder.done() or holder is asyncio.current_task(stack.loop):
        stack.asked = True
        roll_back(stack)
        return
    left: Stack | None = stack
    while left is not None:
        # On its way out it leaves them all; newer ones it has been asked to leave before.
        left.asked = left.asked or left.holder is holder
        left = left.outer
    holder.cancel(why)
