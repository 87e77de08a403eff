"""Here lives the half of a workflow's event loop that asyncio calls: callbacks, timers, tasks, errors.

The other half, which runs what was scheduled here, is `loop`; the essay is there.
"""

import asyncio
import contextvars
import heapq
import math
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVarTuple

from continuum.model.decisions import LogLine
from continuum.model.events import EventType
from continuum.replay.entry import RunInfo
from continuum.replay.ledger import Ledger
from continuum.replay.primitives import Future, Mailbox, Task, Timer
from continuum.replay.refusals import RefusingLoop
from continuum.replay.texts import spell

__all__ = ["LOGGER", "SchedulingLoop"]

LOGGER: Final = "continuum.workflow"
"""Name of the logger that a workflow's lines come from."""

_ERROR: Final = 40  # logging.ERROR
_TIMER_STARTED: Final = EventType.TIMER_STARTED
_TIMER_CANCELLED: Final = EventType.TIMER_CANCELLED

# A thousand years: the longest timer, and what an infinite delay becomes. It must fit the database's timestamps.
_LONGEST_US: Final = 1_000 * 31_556_952 * 1_000_000
_US: Final = 1_000_000
_SLACK: Final = 64
# call_at, Timeout.reschedule, Timeout.__aenter__, wait_for
_FRAMES: Final = 4

_Args = TypeVarTuple("_Args")
_ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]
_Condition = tuple[Callable[[], Any], "asyncio.Future[None]", contextvars.Context]


class SchedulingLoop(RefusingLoop):
    """What asyncio and libraries see of the loop.

    :ivar activities: futures of the open activities, by command.
    :ivar children: futures of the open children, by command.
    :ivar timers: open timers, by command.
    :ivar sagas: open sagas and rollbacks on their way, by number: the run does not end before they have.
    :ivar undos: compensations registered outside of every saga; None if there are none.
    :ivar signals: the names the workflow may wait for; None for any.
    :ivar tasks: every task that is not done, by key in order of creation. asyncio itself holds tasks only weakly.
    :ivar depth: how many eager tasks are taking their first step inside another task's step.
    :ivar encode_input: arguments of the run's own workflow to their payload; None if nothing is known of them.
    :ivar guarded: whether the tripwire may end what its code does.
    :ivar holding: whether a callback of this drain may still hold an exception, and so what a traceback refers to, or
        the result of a task. Only plain results of calls are handed on inline.
    :ivar dead: whether the run is being, or has been, taken out of memory.
    """

    __slots__ = (
        "_agens",
        "_base",
        "_budget",
        "_conditions",
        "_factory",
        "_failed",
        "_handler",
        "_ready",
        "_serial",
        "_timer_heap",
        "activities",
        "children",
        "collecting",
        "context",
        "dead",
        "depth",
        "draining",
        "encode_input",
        "guarded",
        "holding",
        "ledger",
        "mailboxes",
        "main",
        "run",
        "sagas",
        "signals",
        "spin_limit",
        "tasks",
        "timers",
        "undos",
    )

    def __init__(self, ledger: Ledger, *, run: RunInfo, spin_limit: int) -> None:
        self.ledger = ledger
        self.run = run
        self.spin_limit = spin_limit
        self.context = contextvars.Context()
        self.activities: dict[int, Any] = {}
        self.children: dict[int, Any] = {}
        self.sagas: dict[int, Any] = {}
        self.undos: Any = None
        self.timers: dict[int, Timer] = {}
        self.tasks: dict[int, asyncio.Task[Any]] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.signals: frozenset[str] | None = None
        self.main: asyncio.Task[Any] | None = None
        self.encode_input: Callable[[tuple[Any, ...], dict[str, Any]], str] | None = None
        self.depth = 0
        self.dead = False
        self.draining = False
        self.collecting = False
        self.guarded = False
        self.holding = False
        self._ready: deque[asyncio.Handle] | None = None
        self._timer_heap: list[tuple[int, int]] = []
        self._conditions: list[_Condition] = []
        self._failed: list[asyncio.Future[Any]] = []
        self._agens: list[Callable[[], Any]] = []
        self._base = self._serial = 0
        self._budget = spin_limit
        self._factory: Any = None
        self._handler: _ExceptionHandler | None = None

    def number_from(self, base: int) -> None:
        """Let the numbers of tasks and futures begin after this one."""
        self._base = self._serial = base

    def next_serial(self) -> int:
        """Return the number of the next task or future."""
        self._serial = serial = self._serial + 1
        return serial

    def queue(self) -> deque[asyncio.Handle]:
        """Return the callbacks to be run. A loop at rest has no queue: an empty one takes 760 bytes."""
        ready = self._ready
        if ready is None:
            ready = self._ready = deque()
        return ready

    # -- what asyncio calls --------------------------------------------------------------------------------------------

    def call_soon(
        self,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Run a callback later in this drain."""
        handle = asyncio.Handle(callback, args, self, context)
        ready = self._ready
        if ready is None:
            ready = self.queue()
        ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Start a durable timer of this many seconds (rounded to microseconds; at least 0)."""
        return self._start_timer(_microseconds(delay), callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Start a durable timer that ends at this loop time, in seconds."""
        duration = _microseconds(when)
        if duration < _LONGEST_US:
            duration = max(0, duration - self.ledger.now)
        return self._start_timer(duration, callback, args, context)

    def _start_timer(self, duration: int, callback: Any, args: Any, context: contextvars.Context | None) -> Timer:
        ledger = self.ledger
        try:
            command = ledger.issue(_TIMER_STARTED, None, str(duration))
        except BaseException:
            if not _is_in_wait_for():
                raise
            command = -1
        fire_at = ledger.now + duration
        timer = Timer(command, fire_at, (callback, args), self, context)
        self.timers[command] = timer
        heapq.heappush(self._timer_heap, (fire_at, command))
        return timer

    def _timer_handle_cancelled(self, timer: Any) -> None:
        if self.timers.pop(timer.command, None) is not None and not self.dead:
            self.ledger.note_cancelled(_TIMER_CANCELLED, timer.command)
            if len(self._timer_heap) > 2 * len(self.timers) + _SLACK:
                # Timeouts around every step leave one cancelled entry each.
                self._timer_heap = [entry for entry in self._timer_heap if entry[1] in self.timers]
                heapq.heapify(self._timer_heap)

    def time(self) -> float:
        """Return loop time in seconds since the epoch: that of the completion being delivered."""
        return self.ledger.now / _US

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return Future(self, self.next_serial())

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        """Return a task of this loop. Options such as ``eager_start`` are passed on."""
        ledger = self.ledger
        if isinstance(coro, asyncio.Future):
            # `group.create_task(charge(order))`: an activity that was called is under way, and not a coroutine.
            coro = _outcome_of(coro)
        if ledger.barred is not None and not self.dead:
            if hasattr(coro, "close"):
                coro.close()
            raise ledger.barred()
        factory = self._factory
        if factory is not None:
            if factory is not getattr(asyncio, "eager_task_factory", None):
                return self._foreign_task(factory, coro, name, context, options)
            options = {"eager_start": True, **options}
        # Numbered before __init__, which already puts the task into asyncio's set of all tasks.
        task: Task[Any] = Task.__new__(Task)
        serial = task.serial = self.next_serial()
        if name is None:
            name = f"Task-{serial - self._base}"
        if options.get("eager_start"):
            # Its first step runs here, inside the step of the task that creates it.
            self.depth += 1
            try:
                task.__init__(coro, loop=self, name=name, context=context, **options)  # type: ignore[misc]
            finally:
                self.depth -= 1
        else:
            task.__init__(coro, loop=self, name=name, context=context, **options)  # type: ignore[misc]
        self._keep(serial, task)
        return task

    def _foreign_task(self, factory: Any, coro: Any, name: Any, context: Any, options: Any) -> asyncio.Task[Any]:
        if context is not None:
            options = {"context": context, **options}
        self.depth += 1
        try:
            task: asyncio.Task[Any] = factory(self, coro, **options)
        finally:
            self.depth -= 1
        if name is not None and hasattr(task, "set_name"):
            task.set_name(name)
        self._keep(id(task), task)
        return task

    def _keep(self, key: int, task: asyncio.Task[Any]) -> None:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - eviction may leave it pending
        if not task.done():
            self.tasks[key] = task
        # Its first callback, so it runs before anybody who awaits the task.
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self.holding = True
        self.tasks.pop(task.serial if type(task) is Task else id(task), None)
        # The main task's error ends the run, which is report enough.
        if task._log_traceback and task is not self.main:  # noqa: SLF001 - it failed
            self._failed.append(task)

    def all_tasks(self) -> set[asyncio.Task[Any]]:
        """Return the tasks of this run that are not done, in order of creation as far as a set can keep it."""
        return {task for task in self.tasks.values() if not task.done()}

    def get_debug(self) -> bool:
        """Return False: debug mode looks at the clock."""
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's signature
        """Do nothing: debug mode looks at the clock."""

    def is_running(self) -> bool:
        """Whether workflow code is being run right now."""
        return self.draining

    def is_closed(self) -> bool:
        """Whether the run has been taken out of memory."""
        return self.dead

    def get_task_factory(self) -> Any:
        """Return what `set_task_factory` was given."""
        return self._factory

    def set_task_factory(self, factory: Any) -> None:
        """Make tasks with this factory from now on. Tasks of a class other than asyncio's hash by address."""
        self._factory = factory

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: open async generators are closed when the run ends."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Do nothing: there is no executor."""

    # -- errors nobody caught ------------------------------------------------------------------------------------------

    def get_exception_handler(self) -> _ExceptionHandler | None:
        """Return what `set_exception_handler` was given."""
        return self._handler

    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None:
        """Call this instead of logging when a callback raises."""
        self._handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the error on the run's log."""
        self.report(str(context.get("message") or "unhandled error in the event loop"), context.get("exception"))

    def report(self, message: str, error: BaseException | None) -> None:
        """Put a line about an error that no code caught into the run's log."""
        if self.is_logging:
            if error is not None:
                message = f"{message}: {type(error).__name__}: {spell(self.ledger, lambda: str(error))}"
            self.log(_ERROR, message, {})

    @property
    def is_logging(self) -> bool:
        """Whether a line logged now would appear."""
        return self.ledger.live and not self.dead

    def log(self, level: int, message: str, fields: dict[str, object]) -> None:
        """Log a line with the next commit; on replay it has been logged before."""
        if self.is_logging:
            self.ledger.logs.append(LogLine(LOGGER, level, message, fields))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an error that no code caught, while the run goes on."""
        if self.dead or not self.draining or "never retrieved" in str(context.get("message")):
            # "Never retrieved" comes from __del__, whenever the collector pleases; `_report_failures` says it first.
            return
        if self._handler is None:
            self.default_exception_handler(context)
            return
        try:
            self._handler(self, context)
        except BaseException as error:  # noqa: BLE001 - a user's handler, which must not end this thread
            self.report("unhandled error in the exception handler", error)

    def watch(self, future: asyncio.Future[Any]) -> None:
        """Report this failed future when the run ends, unless somebody retrieves its exception before."""
        self._failed.append(future)

    def report_failures(self, *, ending: bool = False) -> None:
        """Report failed tasks that nobody awaited; activities only when the run ends, they may still be awaited."""
        kept = []
        for future in self._failed:
            if not future._log_traceback:  # noqa: SLF001 - cleared by asyncio when the exception is retrieved
                continue
            is_task = isinstance(future, asyncio.Task)
            if not (is_task or ending):
                kept.append(future)
                continue
            future._log_traceback = False  # noqa: SLF001
            what = f"task {future.get_name()!r}" if is_task else str(future)  # type: ignore[attr-defined]
            self.report(f"{what} failed and nobody was awaiting it", future.exception())
        self._failed = kept


def _is_in_wait_for() -> bool:
    """Whether the timer is one of `asyncio.wait_for`.

    It starts its timer while it holds the caller's coroutine, not begun yet. An error would drop that, and Python would
    complain that it "was never awaited". What it does next is refused anyway.
    """
    frame = sys._getframe(2)  # noqa: SLF001 - only looked at once something has gone wrong
    for _ in range(_FRAMES):
        if frame is None or frame.f_code is asyncio.wait_for.__code__:
            break
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and frame.f_code is asyncio.wait_for.__code__


async def _outcome_of(future: asyncio.Future[Any]) -> Any:
    return await future


def _microseconds(seconds: float) -> int:
    if seconds <= 0:
        return 0
    if math.isnan(seconds):
        message = "a delay must be a number of seconds, not NaN"
        raise ValueError(message)
    return _LONGEST_US if seconds * _US >= _LONGEST_US else round(seconds * _US)
