"""Here lives the event loop that workflow code runs on.

It is a full asyncio event loop over asyncio's own tasks and futures (in C), so `gather`, `TaskGroup`, `timeout`, locks,
queues and libraries built on them work as everywhere else. It differs from a stock loop in four ways:

1. *It has no selector and no clock.* Time is that of the completion being delivered, and stands still during a drain.
   `call_later` and `call_at` issue a durable timer command; its callback runs when ``timer_fired`` is delivered.
2. *It is driven from outside, one completion at a time* (`settle`, then `drain`). A drain runs callbacks until none is
   ready, then evaluates the conditions of `wait_until`, and repeats until both are quiet.
3. *Its order is reproducible.* Callbacks run first in, first out; completions arrive in journal order; tasks and
   futures hash by number (`primitives`). So the same code over the same completions issues the same commands.
4. *It refuses* threads, sockets, processes and signals (`refusals`).

States: fresh → (settle, drain)* → dead. A dead loop's effects raise `RunEvicted`; `eviction` takes it apart.

On failure: what a callback raises is logged, as in asyncio. A fault of the ledger (drift, spinning) stops the drain
after the callback that caused it, whatever workflow code catches; the execution raises it and the run becomes stuck.

# Invariant: only the thread that drains touches the loop; workflow code never runs at any other time.
# Invariant: nothing here depends on when the garbage collector runs. Errors that nobody retrieved are reported at the
end of the drain, not by ``__del__``; an async generator is closed early only if its last reference went away, which is
the program's own doing, and not by a collection.
"""

import asyncio
import contextvars
import gc
import heapq
import sys
import weakref
from asyncio import events as _events
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from continuum.errors import SpinError
from continuum.model.events import Event, EventType
from continuum.replay import locations
from continuum.replay.drift import describe_event, drift
from continuum.replay.ledger import RunEvicted
from continuum.replay.primitives import Mailbox
from continuum.replay.scheduling import SchedulingLoop

__all__ = ["ENTERED", "DeterministicLoop", "guarded_loop"]

ENTERED: Final[list[object]] = []
"""As many entries as guarded loops are entered on all threads of the process. For the tripwire: empty most of the time,
so a look at it is what every call elsewhere pays."""

_TIMER_FIRED: Final = EventType.TIMER_FIRED.value
_MANY_AGENS: Final = 64
# Code that catches the error of a forbidden call and tries again gets it this often; then what `except Exception` does
# not catch.
_MOST_TRIPS: Final = 100

_get_running = _events._get_running_loop  # noqa: SLF001 - the public one raises where none runs
_set_running = _events._set_running_loop  # noqa: SLF001 - how a loop becomes the running one


class DeterministicLoop(SchedulingLoop):
    """One run's event loop: `enter`, then for each completion `settle` and `drain`, then `leave`."""

    __slots__ = ("_trips",)

    # -- driving -------------------------------------------------------------------------------------------------------

    def enter(self) -> tuple[Any, Any]:
        """Become the running loop; pass what this returns to `leave`. The host may have a loop running."""
        if self.draining:
            message = "the workflow is being run already, further up the stack"
            raise RuntimeError(message)
        host = _get_running(), sys.get_asyncgen_hooks()
        self.draining = True
        if self.guarded:
            self._trips = 0
            ENTERED.append(None)
        _set_running(self)
        sys.set_asyncgen_hooks(self._agen_started, self._agen_dropped)
        return host

    def leave(self, host: tuple[Any, Any]) -> None:
        """Give the thread back to the host."""
        sys.set_asyncgen_hooks(*host[1])
        _set_running(host[0])
        if self.guarded and ENTERED:  # a child process begins with none
            ENTERED.pop()
        self.draining = False
        if not self._ready:
            self._ready = None

    def settle(self, event: Event) -> None:
        """Deliver one completion of a command, or a signal. Raises ``ReplayDriftError``, ``CodecError``."""
        ledger = self.ledger
        kind = event.type
        command = event.command
        self._budget = self.spin_limit
        if command is None:
            ledger.advance(event.at)
            if event.name is not None:
                self.mailbox(event.name).put(event.payload if event.payload is not None else "null")
            return
        if kind == _TIMER_FIRED:
            timer = self.timers.pop(command, None)
            if timer is not None:
                # Never before its time: code may compare loop.time() with a deadline of its own.
                ledger.advance(max(event.at, timer.fire_at))
                self.queue().append(timer)
                return
        else:
            future = self.activities.pop(command, None)
            if future is None:
                future = self.children.pop(command, None)
            if future is not None:
                if event.at > ledger.now:  # noqa: PLR1730 - `advance` without its call; max() takes three times as long
                    ledger.now = event.at
                future.settle(kind, event.payload)
                return
        self._settle_stray(event, command)

    def _settle_stray(self, event: Event, command: int) -> None:
        """Deliver a completion nobody waits for: right if the command was cancelled, drift if it is no such command."""
        ledger = self.ledger
        if command in self.timers:
            asked = "a timer"
        elif command in self.activities:
            asked = f"activity {self.activities[command].target}"
        elif command in self.children:
            asked = f"child {self.children[command].target}"
        elif command >= ledger.next:
            asked = "nothing more: it has not come so far"
        else:
            ledger.advance(event.at)
            return
        recorded = ledger.find_recorded(command)
        what = f"{describe_event(recorded)}, and its" if recorded is not None else "its"
        advice = "When this came, the code had asked for it: a call was removed, or is made later."
        raise ledger.fail(drift(command, f"{what} {event.type} at seq {event.seq}", asked, advice=advice))

    @property
    def has_conditions(self) -> bool:
        """Whether somebody waits for a condition."""
        return bool(self._conditions)

    def is_quiet(self) -> bool:
        """Whether nothing would run, if the current task suspended, before the next completion is delivered."""
        if self.sagas and (self.main is None or self.main.done()):
            # Whoever is in a saga is about to be cancelled: see `unwinding`.
            return False
        if self.holding or self._failed:
            # What it holds may hold an async generator, which is closed in a task once nobody does.
            return False
        return not self._ready and not self._conditions and not self.depth

    def stamp(self, event: Event) -> int:
        """Return the time a completion is to be journaled with: never before the last one's, nor before its timer's."""
        at = max(event.at, self.ledger.now)
        if event.type == _TIMER_FIRED and event.command is not None:
            timer = self.timers.get(event.command)
            if timer is not None:
                at = max(at, timer.fire_at)
        return at

    def drain(self) -> None:
        """Run callbacks and conditions until nothing is ready. Returns early if the ledger has a fault."""
        ready = self.queue()
        popleft = ready.popleft
        ledger = self.ledger
        handle: Any
        while True:
            while ready:
                handle = popleft()
                if handle._cancelled:  # noqa: SLF001 - what BaseEventLoop looks at, too
                    continue
                self._budget = budget = self._budget - 1
                if budget < 0:
                    self._spun(handle)
                    return
                try:
                    handle._context.run(handle._callback, *handle._args)  # noqa: SLF001
                except BaseException as error:  # noqa: BLE001 - tasks pass SystemExit and KeyboardInterrupt on
                    self._callback_failed(handle, error)
                if ledger.fault is not None:
                    return
            if self._conditions:
                self._evaluate()
                if ledger.fault is not None:
                    return
            if not ready:
                # What was only held to be run or reported goes now; what goes with it may be closed in a task.
                handle = None
                if self._failed:
                    self.report_failures()
                self.holding = False
                if not ready:
                    break

    def _callback_failed(self, handle: asyncio.Handle, error: BaseException) -> None:
        owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined] # noqa: SLF001
        if isinstance(owner, asyncio.Task):
            # SystemExit or KeyboardInterrupt: the task holds it as its result, and this loop does not end a process.
            return
        context = {"message": f"a callback raised {type(error).__name__}", "exception": error, "handle": handle}
        self.call_exception_handler(context)

    def _spun(self, handle: asyncio.Handle) -> None:
        owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined] # noqa: SLF001
        if isinstance(owner, asyncio.Task):
            what = f"task {owner.get_name()!r} ({getattr(owner.get_coro(), '__qualname__', owner.get_coro())})"
        else:
            what = f"callback {handle!r}"
        fault = SpinError(
            f"the workflow ran more than {self.spin_limit} callbacks without coming to rest, the last one of {what}."
            " It may poll with `asyncio.sleep(0)`: wait for a signal, an activity, a timer or wait_until() instead."
        )
        self.ledger.fail(fault)

    def trip(self, fault: BaseException) -> BaseException:
        """Make a forbidden call the fault of the run, and return what to raise: the first fault it had.

        A run that is being taken out of memory has no faults any more; it only gets the error.
        """
        self._trips += 1
        if self._trips > _MOST_TRIPS:
            return RunEvicted(str(fault))
        return fault if self.dead else self.ledger.fail(fault)

    def refill(self, budget: int) -> None:
        """Allow this many callbacks before the spin guard speaks up."""
        self._budget = budget

    def forget(self) -> None:
        """Let go of everything, once nothing is left to run."""
        self._ready = None
        self._conditions = []
        self._timer_heap = []
        self._failed = []
        self.tasks = {}
        self.activities = {}
        self.children = {}
        self.sagas = {}
        self.undos = None
        self.timers = {}
        self.mailboxes = {}

    def mailbox(self, name: str) -> Mailbox:
        """Return the mailbox of a signal."""
        found = self.mailboxes.get(name)
        if found is None:
            found = self.mailboxes[name] = Mailbox(self)
        return found

    # -- conditions ----------------------------------------------------------------------------------------------------

    def add_condition(self, predicate: Callable[[], Any]) -> asyncio.Future[None]:
        """Return a future that is done once the predicate is true at the end of a drain."""
        future = self.create_future()
        self._conditions.append((predicate, future, contextvars.copy_context()))
        return future

    def check(self, predicate: Callable[[], Any]) -> bool:
        """Ask a predicate. It may look at anything, but issue no command."""
        ledger = self.ledger
        outer = ledger.barred
        if outer is not None:
            raise outer()
        ledger.bar("a predicate of wait_until()")
        try:
            return bool(predicate())
        finally:
            if ledger.fault is None:
                ledger.barred = None

    def _evaluate(self) -> None:
        waiting = []
        for condition in self._conditions:
            predicate, future, context = condition
            if future.done():
                continue
            try:
                if not context.run(self.check, predicate):
                    waiting.append(condition)
                    continue
            except StopIteration as error:
                # A future refuses it: it would end the coroutine that awaits.
                future.set_exception(RuntimeError(f"the predicate of wait_until() raised {error!r}"))
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the waiter
                future.set_exception(error)
            else:
                future.set_result(None)
        self._conditions = waiting

    # -- timers --------------------------------------------------------------------------------------------------------

    def earliest_timer(self) -> int | None:
        """Return when the first open timer is to fire, in microseconds since the epoch."""
        heap = self._timer_heap
        while heap:
            fire_at, command = heap[0]
            if command in self.timers:
                return fire_at
            heapq.heappop(heap)
        return None

    def due_timers(self, now: int) -> list[int]:
        """Return the open timers due by then, in the order they are to fire."""
        if not self._timer_heap:
            return []
        return [command for fire_at, command in sorted(self._timer_heap) if fire_at <= now and command in self.timers]

    # -- async generators ----------------------------------------------------------------------------------------------

    def _agen_started(self, agen: AsyncGenerator[Any, Any]) -> None:
        agens = self._agens
        if len(agens) >= _MANY_AGENS and not len(agens) & (len(agens) - 1):
            # At each power of two: forget those that are gone.
            agens[:] = [reference for reference in agens if reference() is not None]
        agens.append(weakref.ref(agen))

    def _agen_dropped(self, agen: AsyncGenerator[Any, Any]) -> None:
        """Close a generator that was left open and lost its last reference, as asyncio does: in a task."""
        if self.draining and _get_running() is self and not self.collecting and self.ledger.barred is None:
            self.create_task(agen.aclose())
        else:
            # Found by the collector, at a moment that the next replay would not repeat.
            self._agens.append(lambda: agen)

    def take_agens(self) -> list[AsyncGenerator[Any, Any]]:
        """Return the async generators that were begun and may be open, newest first, and forget them."""
        agens = [agen for reference in reversed(self._agens) if (agen := reference()) is not None]
        self._agens = []
        return agens


def guarded_loop() -> DeterministicLoop | None:
    """Return the guarded loop that is entered on this thread; None if there is none."""
    loop = _get_running()
    return loop if type(loop) is DeterministicLoop and loop.guarded else None


def _observe_collections(phase: str, _info: dict[str, int]) -> None:
    # Called on the thread that collects, so its running loop is the one whose code was interrupted.
    loop = _get_running()
    if type(loop) is DeterministicLoop:
        loop.collecting = phase == "start"


gc.callbacks.append(_observe_collections)
locations.stop_at(DeterministicLoop.drain.__code__)
