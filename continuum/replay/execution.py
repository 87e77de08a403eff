"""Here lives the execution of one run: history in, decision out.

Live and replay are the same thing at different speeds. A completion is delivered to the loop, the loop is drained, and
what the code asked for meanwhile is compared with the history (replay) or written down for the next decision (live).

::

    fresh ──replay(history)──► at its tip ──deliver(completion)──► … ──deliver──► ended
                                   │  ▲                                             │
                                   └──┴── decide() ── any time; all since the last ─┘

Any error that ``replay`` or ``deliver`` raises is the end of the execution: call ``evict`` and drop it. The history is
as it was; the run goes on wherever it is replayed next.

# Invariant: what `decide` returns depends on the code and on the history alone: never on the clock, the process, or on
where the turns of the run were cut.
# Invariant: the code of a run runs only inside `replay`, `deliver` and `evict`, on the thread that calls them.
"""

import asyncio
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from continuum.errors import CodecError, ReplayDriftError
from continuum.model.codec import check_size, same_payload
from continuum.model.decisions import Decision
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure, FailureKind, describe_exception
from continuum.model.runs import LOOP_VERSION, RunState, Started
from continuum.replay.drift import drift
from continuum.replay.entry import Entry, RunInfo
from continuum.replay.eviction import evict_loop
from continuum.replay.ledger import Ledger
from continuum.replay.loop import DeterministicLoop

__all__ = ["Entry", "Execution", "RunInfo"]

_BEGAN: Final = EventType.RUN_BEGAN.value
_CANCEL: Final = EventType.CANCEL_REQUESTED.value
_STATES: Final[dict[str, RunState]] = {
    EventType.RUN_COMPLETED: RunState.COMPLETED,
    EventType.RUN_FAILED: RunState.FAILED,
    EventType.RUN_CANCELLED: RunState.CANCELLED,
    EventType.RUN_TERMINATED: RunState.TERMINATED,
    EventType.RUN_CONTINUED: RunState.CONTINUED,
}
_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")
# Numbers of tasks start at a multiple of this: below it, a set of tasks is in order of creation.
_SERIAL_SHIFT: Final = 10
_SERIAL_BYTES: Final = 6


class Execution:
    """One run, being replayed and then turned. Not thread-safe: one thread at a time.

    :ivar last_seq: sequence number of the last event that is journaled, or part of a decision taken.
    :ivar began: whether its first completion, ``run_began``, has been delivered.
    :ivar ended: whether it has its terminal event (in the history, or in the next decision).
    """

    __slots__ = (
        "_cancelling",
        "_entry",
        "_inline",
        "_input",
        "_ledger",
        "_loop",
        "_main",
        "_terminal",
        "began",
        "last_seq",
    )

    def __init__(self, *, entry: Entry, run: RunInfo, spin_limit: int = 100_000, inline: bool = True) -> None:
        """Prepare the run's loop; nothing runs before `replay`.

        :param spin_limit: callbacks, and new commands, allowed per completion before ``SpinError``.
        :param inline: whether replay may hand recorded results to an ``await`` without suspending. It changes nothing
            but speed.
        """
        self._entry = entry
        self._inline = inline
        self._ledger = Ledger(spin_limit=spin_limit)
        self._loop = DeterministicLoop(self._ledger, run=run, spin_limit=spin_limit)  # type: ignore[abstract]
        self._input: str | None = None
        self._main: asyncio.Task[Any] | None = None
        self._terminal: str | None = None
        self._cancelling = False
        self.began = False
        self.last_seq = 0

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self._terminal is not None

    # -- running -------------------------------------------------------------------------------------------------------

    def replay(self, events: Sequence[Event]) -> None:
        """Bring the code to where its history ends.

        :param events: the whole history, from ``run_started`` on.

        Raises ``ReplayDriftError`` if the code does not ask for what is recorded, ``SpinError`` if it does not come to
        rest, ``CodecError`` if a payload cannot be decoded.
        """
        ledger, loop = self._ledger, self._loop
        if self._input is not None or not events or events[0].type != EventType.RUN_STARTED:
            message = "replay() takes the history of a run, from run_started on, once"
            raise ValueError(message)
        started = _parse_started(events[0].payload)
        if started.loop_version > LOOP_VERSION:
            message = (
                f"the history was recorded by a newer release (loop version {started.loop_version}, this one knows"
                f" {LOOP_VERSION}): upgrade this dispatcher."
            )
            raise ReplayDriftError(message, command=0, recorded="", requested="", location="")
        self._input = bytes(started.input).decode()
        ledger.seed(started.seed)
        ledger.max_payload = started.max_payload
        loop.number_from(ledger.salt(_SERIAL_BYTES) << _SERIAL_SHIFT)
        ledger.load(events, inline=self._inline)
        self.last_seq = ledger.seq
        host = loop.enter()
        try:
            completions, due = ledger.completions, ledger.due
            while ledger.cursor < due and self._terminal is None:
                event = completions[ledger.cursor]
                ledger.cursor += 1
                self._run(event)
            if ledger.terminal is not None:
                self._compare_end(ledger.terminal)
            ledger.go_live()
        finally:
            loop.leave(host)
        if self._terminal is not None:
            self.evict()

    def deliver(self, completion: Event) -> None:
        """Deliver a completion and run the code until it waits again.

        :param completion: with seq 0, and the time it is stamped with. It is journaled with that time, or with the last
            completion's if that is later.

        Raises as `replay` does; ``RuntimeError`` if the run has ended.
        """
        ledger, loop = self._ledger, self._loop
        if not ledger.live or ledger.fault is not None or loop.dead:
            message = f"{completion.type} cannot be delivered: the run has ended, has failed, or was not replayed"
            raise RuntimeError(message)
        host = loop.enter()
        try:
            ledger.refill()
            ledger.advance(loop.stamp(completion))
            ledger.append(completion.type, completion.command, completion.name, completion.payload)
            self._run(ledger.fresh[-1])
        finally:
            loop.leave(host)
        if self._terminal is not None:
            self.evict()

    def _run(self, event: Event) -> None:
        loop = self._loop
        kind = event.type
        if event.command is None and kind == _BEGAN:
            self._begin(event)
        elif event.command is None and kind == _CANCEL:
            self._request_cancel(event)
        else:
            loop.settle(event)
        loop.drain()
        fault = self._ledger.fault
        if fault is not None:
            raise fault
        main = self._main
        if main is not None and main.done():
            self._end(*self._outcome(main))

    def _begin(self, event: Event) -> None:
        loop, entry = self._loop, self._entry
        loop.refill(loop.spin_limit)
        self._ledger.advance(event.at)
        if self.began:
            return
        self.began = True
        assert self._input is not None
        args, kwargs = self._decode_input(self._input)
        self._input = ""
        context = loop.context
        try:
            coroutine = context.run(entry.function, *args, **kwargs)
            main = loop.create_task(coroutine, name=entry.name, context=context)
        except Exception as error:  # noqa: BLE001 - a function that takes other arguments, or returns no coroutine
            self._end(EventType.RUN_FAILED, describe_exception(error).encode())
            return
        self._main = loop.main = main

    def _decode_input(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return self._entry.decode_input(payload)
        except CodecError as error:
            raise self._ledger.fail(error) from None
        except Exception as error:
            message = f"the input of the run cannot be decoded: {type(error).__name__}: {error}"
            raise self._ledger.fail(CodecError(message, path="input")) from error

    def _request_cancel(self, event: Event) -> None:
        self._loop.refill(self._loop.spin_limit)
        self._ledger.advance(event.at)
        if self._cancelling:
            return
        self._cancelling = True
        if self._main is None:
            # Asked before anything ran: nothing ever does.
            self._end(EventType.RUN_CANCELLED, None)
        else:
            self._main.cancel("the run was cancelled")

    # -- ending --------------------------------------------------------------------------------------------------------

    def _outcome(self, main: asyncio.Task[Any]) -> tuple[EventType, str | None]:
        if main.cancelled():
            if self._cancelling:
                return EventType.RUN_CANCELLED, None
            try:
                main.result()
            except asyncio.CancelledError as stray:
                failure = describe_exception(stray)
                message = failure.message or "the workflow ended by CancelledError, but nobody had cancelled the run"
                failure = Failure(failure.type_name, message, failure.traceback, kind=FailureKind.CANCELLED)
                return EventType.RUN_FAILED, failure.encode()
        error = main.exception()
        if error is None:
            try:
                payload = self._entry.encode_result(main.result())
                check_size(payload, self._ledger.max_payload, "result")
            except Exception as refused:  # noqa: BLE001 - CodecError, or what a user's type raises while it is encoded
                error = refused
            else:
                return EventType.RUN_COMPLETED, payload
        return EventType.RUN_FAILED, describe_exception(error).encode()

    def _end(self, kind: EventType, payload: str | None) -> None:
        ledger, loop = self._ledger, self._loop
        self._terminal = kind
        loop.report_failures(ending=True)
        recorded = ledger.terminal
        if recorded is None:
            ledger.append(kind, None, None, payload)
            return
        if recorded.type != kind or not _same_end(kind, recorded.payload, payload):
            raise ledger.fail(drift(ledger.next, _ending(recorded.type, recorded.payload), _ending(kind, payload)))

    def _compare_end(self, recorded: Event) -> None:
        """Refuse a history that ends where the code does not; only a termination needs no code."""
        if self._terminal is None:
            if recorded.type != EventType.RUN_TERMINATED:
                asked = "more: the code is still waiting"
                raise self._ledger.fail(drift(self._ledger.next, _ending(recorded.type, recorded.payload), asked))
            self._terminal = recorded.type

    # -- deciding ------------------------------------------------------------------------------------------------------

    def decide(self) -> Decision:
        """Return all that happened since the last decision, and what it asks for."""
        ledger, loop = self._ledger, self._loop
        events, orders, cancelled, logs = ledger.fresh, ledger.orders, ledger.cancelled, ledger.logs
        ledger.fresh, ledger.orders, ledger.cancelled, ledger.logs = [], {}, [], []
        self.last_seq = ledger.seq
        if self._terminal is not None:
            # Tasks that this very decision would have created are not created at all.
            return Decision(events, [], cancelled, _STATES[self._terminal], None, logs)
        waiting = RunState.SUSPENDED if self.began else RunState.PENDING
        state = RunState.RUNNING if loop.activities else waiting
        return Decision(events, list(orders.values()), cancelled, state, loop.earliest_timer(), logs)

    def note(self, kind: EventType, *, name: str | None = None, payload: str | None = None) -> None:
        """Add a note (an adoption, undeliverable mail) to the next decision; replay skips notes."""
        self._ledger.append(kind, None, name, payload)

    @property
    def open_activities(self) -> AbstractSet[int]:
        """Commands of the activities whose outcome the run waits for: a view, which changes with the run."""
        return self._loop.activities.keys()

    @property
    def earliest_timer(self) -> int | None:
        """When the first open timer is to fire, in microseconds since the epoch; None if none is open."""
        return self._loop.earliest_timer()

    @property
    def is_waiting_outside(self) -> bool:
        """Whether no activity of the run is open: it waits for signals or timers only."""
        return self._terminal is None and not self._loop.activities

    def expects(self, command: int) -> bool:
        """Whether the command is an open activity or timer: only then may its completion be delivered."""
        return command in self._loop.activities or command in self._loop.timers

    def due_timers(self, now_us: int) -> list[int]:
        """Return the commands of the timers due by then, in the order to deliver them."""
        return self._loop.due_timers(now_us)

    def evict(self) -> None:
        """End all code of the run on this thread, without a trace in its history. Harmless when repeated.

        A decision not taken yet can still be taken afterwards.
        """
        ledger, loop = self._ledger, self._loop
        if loop.dead:
            return
        if loop.draining:
            message = "a run cannot be evicted by its own code"
            raise RuntimeError(message)
        if self._terminal is not None and ledger.terminal is None:
            ledger.cancelled += [command for command in sorted(loop.activities) if command not in ledger.orders]
        evict_loop(loop)
        self._main = loop.main = None


def _parse_started(payload: str | None) -> Started:
    try:
        return Started.parse(payload or "")
    except msgspec.MsgspecError as error:
        message = f"run_started cannot be read: {error}"
        raise CodecError(message, path="run_started") from error


def _same_end(kind: EventType, recorded: str | None, ours: str | None) -> bool:
    if recorded is None or ours is None:
        return recorded == ours
    if kind == EventType.RUN_FAILED:
        # A traceback differs by how the await was resumed, a message by the addresses of objects.
        theirs, mine = Failure.parse(recorded), Failure.parse(ours)
        return theirs.type_name == mine.type_name and _masked(theirs.message) == _masked(mine.message)
    return recorded == ours or same_payload(recorded, ours)


def _masked(message: str) -> str:
    return _ADDRESS.sub("0x", message)


def _ending(kind: str, payload: str | None) -> str:
    if payload is None:
        return f"the end of the run ({kind})"
    if kind == EventType.RUN_FAILED:
        failure = Failure.parse(payload)
        return f"the end of the run ({kind}: {failure.type_name}: {failure.message[:200]})"
    return f"the end of the run ({kind} with {payload[:200]})"
