"""Here live compensations: what undoes a call that succeeded, and the stacks they are kept on.

Stages of a compensation::

    WAITING ──its call succeeds──► ARMED ──a rollback takes it──► TAKEN ──its own outcome──► (gone)
       ├── its call fails ──► VOID
       └── (or ARMED) the outermost block ends well ──► DROPPED

A stack holds the compensations of one saga block; the run has one for those registered outside of every block. An inner
block that ends well hands its compensations to the block around it: it is a part of that one. The outermost one drops
them. What a rollback does with them is in `rollback`.

# Invariant: each compensation is scheduled at most once.
# Invariant: what is waited for is not handed out inline (see `Call.__await__`): a future with a callback never is.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum, auto
from typing import Any, Final

from continuum.replay.loop import DeterministicLoop
from continuum.replay.outcomes import Rollback
from continuum.replay.undo import Plan, Undo, Undoable, bind, check_admitted, refusal

__all__ = ["Compensation", "Stack", "Stage", "State", "attach", "current_stack"]

Watcher = Callable[[int], object]
"""Is called, soon, with the key of what it waited for."""


class Stage(Enum):
    """Where a compensation stands, as the end of a sentence about its call."""

    WAITING = "has no outcome yet: await it first, or cancel it"
    ARMED = "is there to be compensated"
    TAKEN = "has been compensated already, or is being"
    VOID = "did not succeed, so there is nothing to undo"
    DROPPED = "belongs to a saga that has ended well, so it is not undone any more"


class State(Enum):
    """Where a block stands."""

    OPEN = auto()
    UNDOING = auto()
    UNDONE = auto()
    ENDED = auto()


_WARNING: Final = 30  # logging.WARNING

_current: Final[ContextVar["Stack | None"]] = ContextVar("continuum_saga", default=None)


def current_stack(loop: DeterministicLoop) -> "Stack":
    """Return the stack of the innermost block the caller is in, else the run's own.

    Raises ``CompensationError`` if that block has ended without the caller: a task may outlive the block it came from.
    """
    stack = _current.get()
    if stack is None:
        stack = loop.undos
        if stack is None:
            stack = loop.undos = Stack(loop)
        return stack
    if stack.state is not State.OPEN:
        how = "has ended" if stack.state is State.ENDED else "is rolled back"
        message = (
            f"the saga that this task was started in {how}, so nothing more can be added to it. Await the task inside"
            " of the block, or start it outside."
        )
        raise refusal(message, loop.run.workflow)
    return stack


def attach(call: Undoable, undo: Undo[...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Give a call its compensation. If it cannot have one, the call is withdrawn before the error is raised."""
    future: asyncio.Future[Any] = call  # type: ignore[assignment]  # which it is; the protocol says what is ours
    loop: DeterministicLoop = future.get_loop()  # type: ignore[assignment]
    if loop.dead:
        return
    if call.undo is not None:
        message = f"{call!r} has a compensation already; undo.add() of a saga takes more of them."
        raise refusal(message, call.target)
    try:
        check_admitted(loop)
        plan = bind(undo, args, kwargs)
        stack = current_stack(loop)
        _check_wanted(future, call.target)
    except BaseException:
        future.cancel()
        raise
    entry = Compensation(loop.next_serial(), plan, stack, call)
    call.undo = entry
    stack.entries[entry.key] = entry
    if future.done():
        entry.settled(succeeded=future._exception is None)  # noqa: SLF001 - exception() would count as heard


def _check_wanted(future: "asyncio.Future[Any]", target: str) -> None:
    if future.cancelled():
        message = (
            f"{future!r} was cancelled before it had a compensation: whether it happens is not known any more. Give a"
            " call its compensation at once, as in `charge(...).compensate(refund, ...)`."
        )
        raise refusal(message, target)


class Compensation:
    """What undoes one call, or was added to a saga by itself.

    :ivar key: its number; those of a loop ascend.
    :ivar call: the call, as long as it has no outcome in the journal.
    :ivar armed: its place among those that are armed, by number.
    :ivar taken_by: who schedules it.
    :ivar given_up: whether its call had been cancelled when it succeeded.
    :ivar wanted: whether workflow code has asked for it by hand. It is not dropped then, whatever becomes of its block.
    """

    __slots__ = (
        "armed",
        "call",
        "command",
        "given_up",
        "key",
        "plan",
        "stack",
        "stage",
        "taken_by",
        "target",
        "wanted",
        "watchers",
    )

    def __init__(self, key: int, plan: Plan, stack: "Stack", call: Undoable | None) -> None:
        self.key = key
        self.plan = plan
        self.stack = stack
        self.call = call
        self.command = None if call is None else call.command
        self.target = None if call is None else call.target
        self.stage = Stage.ARMED if call is None else Stage.WAITING
        self.armed = key
        self.taken_by: object = None
        self.given_up = False
        self.wanted = False
        self.watchers: list[Watcher] = []

    def settled(self, *, succeeded: bool) -> None:
        """Take in how the call ended, before anybody who awaits it runs."""
        self.given_up = self.call is not None and self.call.cancelled()
        self.call = None
        if succeeded:
            self.stage = Stage.ARMED
            self.armed = self.stack.loop.next_serial()
        else:
            self._leave(Stage.VOID)
        self._tell()

    def take(self, taker: object) -> None:
        """Claim it: the caller schedules it, and nobody else."""
        self.stage = Stage.TAKEN
        self.taken_by = taker

    def finish(self) -> None:
        """Take in that it has been run."""
        self.taken_by = None
        self._leave(Stage.TAKEN)
        self._tell()

    def drop(self) -> None:
        """Forget it: it will never be needed."""
        call = self.call
        if self.wanted or self.stage is Stage.TAKEN:
            return
        self._leave(Stage.DROPPED)
        given_up = self.given_up
        if call is not None:
            self.call = None
            given_up = call.done()
            if given_up:
                call.withdraw()
            # From now on it is cancelled like any other call.
            call.undo = None
        if given_up:
            how = "has succeeded" if call is None else "may succeed"
            self.stack.loop.log(
                _WARNING,
                f"{self.target} (command {self.command}) was cancelled and {how} all the same, and its saga ended well:"
                " it is not undone. `await compensate(call)` undoes it.",
                {},
            )
        self._tell()

    def watch(self, watcher: Watcher) -> bool:
        """Whether somebody who wants to run it has to wait; if so, call them when that may have changed."""
        if self.stage is Stage.WAITING:
            assert self.call is not None
            self.call.ask_to_stop()
            # Whatever it is: with a callback the outcome is delivered, and not handed out inline.
            self.call.add_done_callback(_heed)
        elif self.stage is not Stage.TAKEN or self.taken_by is None:
            return False
        self.watchers.append(watcher)
        return True

    def _leave(self, stage: Stage) -> None:
        self.stage = stage
        self.stack.entries.pop(self.key, None)

    def _tell(self) -> None:
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            self.stack.loop.call_soon(watcher, self.key)


def _heed(_: object) -> None:
    pass


class Stack:
    """The compensations of one saga block, or those of the run outside of all.

    :ivar outer: of a block, the one around it that has not ended.
    :ivar inner: those in it that have not ended, by key.
    :ivar before: of a block, the one its task was in before, ended or not.
    :ivar holder: of a block, the task that is in it.
    :ivar outcome: what its rollback did, once it has.
    """

    __slots__ = (
        "asked",
        "before",
        "entries",
        "holder",
        "inner",
        "key",
        "loop",
        "outcome",
        "outer",
        "state",
        "watchers",
    )

    def __init__(self, loop: DeterministicLoop) -> None:
        self.loop = loop
        self.key = 0
        self.entries: dict[int, Compensation] = {}
        self.state = State.OPEN
        self.outer: Stack | None = None
        self.inner: dict[int, Stack] = {}
        self.before: Stack | None = None
        self.holder: asyncio.Task[Any] | None = None
        self.asked = False
        self.outcome: Rollback | None = None
        self.watchers: list[Watcher] = []

    @property
    def is_open(self) -> bool:
        """Whether its block has neither ended nor begun to be rolled back."""
        return self.state is State.OPEN

    @property
    def is_occupied(self) -> bool:
        """Whether it is open, and nobody has asked its task to leave it."""
        return self.state is State.OPEN and not self.asked

    def add(self, plan: Plan) -> None:
        """Add a compensation of no call: armed from the start."""
        entry = Compensation(self.loop.next_serial(), plan, self, None)
        self.entries[entry.key] = entry

    # -- as a block ----------------------------------------------------------------------------------------------------

    @classmethod
    def enter(cls, loop: DeterministicLoop) -> "Stack":
        """Return the stack of a block that the current task enters."""
        stack = cls(loop)
        outer = stack.before = _current.get()
        while outer is not None and outer.state is State.ENDED:
            outer = outer.outer
        if outer is not None and outer.state is not State.OPEN:
            message = "the saga that this task was started in is rolled back: it cannot begin another."
            raise refusal(message, loop.run.workflow)
        stack.outer = outer
        stack.holder = asyncio.current_task(loop)
        stack.key = loop.next_serial()
        loop.sagas[stack.key] = stack
        if outer is not None:
            outer.inner[stack.key] = stack
        _current.set(stack)
        return stack

    def leave(self) -> None:
        """Let what the current task does next belong to the block around this one."""
        if _current.get() is self:
            _current.set(self.before)

    def end_well(self) -> None:
        """Hand all to the block around this one; without one, forget it."""
        if self.state is not State.OPEN:
            message = "this saga was rolled back while its block was open: the task that had entered it was gone."
            raise refusal(message, self.loop.run.workflow)
        outer = self.outer
        self._close(State.ENDED)
        for stack in self.inner.values():
            stack.outer = outer
            if outer is not None:
                outer.inner[stack.key] = stack
        for entry in list(self.entries.values()):
            if outer is None:
                entry.drop()
            else:
                entry.stack = outer
                outer.entries[entry.key] = entry
        if outer is not None:
            self.entries = {}

    def close(self, outcome: Rollback) -> None:
        """Take in that it has been rolled back."""
        self.outcome = outcome
        self._close(State.UNDONE)

    def _close(self, state: State) -> None:
        self.state = state
        self.holder = None
        self.loop.sagas.pop(self.key, None)
        if self.outer is not None:
            self.outer.inner.pop(self.key, None)
        for watcher in self.watchers:
            self.loop.call_soon(watcher, self.key)

    def nested(self) -> "list[Stack]":
        """Return the blocks in this one that have not ended, however deep, newest first."""
        found: list[Stack] = []
        todo = [self]
        while todo:
            inner = todo.pop().inner.values()
            found += inner
            todo += inner
        return sorted(found, key=lambda stack: -stack.key)
