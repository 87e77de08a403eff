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
where the turns of the run were cut. (Only the way to a child does: one that the same decision creates gets a letter,
an older one the cascade. What it hears is the same.)
# Invariant: a replay orders nothing that was ordered before: no task, child, letter, attribute or successor.
# Invariant: the code of a run runs only inside `replay`, `deliver`, `terminate` and `evict`, on the thread that calls
them.
"""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from continuum.errors import CodecError, ReplayDriftError
from continuum.model.decisions import Decision, Successor
from continuum.model.events import Event, EventType
from continuum.model.runs import LOOP_VERSION, RunState, Started
from continuum.replay.endings import ask_children, close_children, end_drift, make_successor, outcome_of, same_end
from continuum.replay.entry import Entry, RunInfo
from continuum.replay.eviction import evict_loop
from continuum.replay.ledger import Ledger
from continuum.replay.loop import DeterministicLoop
from continuum.replay.unwinding import unwind
from continuum.replay.waits import waits_of

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
        "_successor",
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
        self._loop.encode_input = entry.encode_input
        self._loop.signals = entry.signals
        self._input: str | None = None
        self._main: asyncio.Task[Any] | None = None
        self._terminal: str | None = None
        self._successor: Successor | None = None
        self._cancelling = False
        self.began = False
        self.last_seq = 0

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self._terminal is not None

    def guard(self) -> None:
        """Let the tripwire end what the code of this run must not do. Before `replay`."""
        self._loop.guarded = True

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
        ledger.start(started)
        loop.number_from(ledger.salt(_SERIAL_BYTES) << _SERIAL_SHIFT)
        ledger.load(events, inline=self._inline)
        self.last_seq = ledger.seq
        for name, value in started.signals:
            loop.mailbox(name).put(bytes(value).decode())
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
        self._check_live(completion.type)
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

    def terminate(self, payload: str | None, at: int) -> None:
        """End the run as ordered from outside, without asking its code; also before it has begun.

        :param payload: the `Failure` that says why.
        :param at: when, as the stamp of a completion is.

        Raises ``RuntimeError`` as `deliver` does.
        """
        ledger, loop = self._ledger, self._loop
        self._check_live(EventType.RUN_TERMINATED)
        host = loop.enter()
        try:
            ledger.advance(at)
            self._end(EventType.RUN_TERMINATED, payload)
        finally:
            loop.leave(host)
        self.evict()

    def _check_live(self, kind: EventType) -> None:
        ledger = self._ledger
        if not ledger.live or ledger.fault is not None or self._loop.dead:
            message = f"{kind} cannot be delivered: the run has ended, has failed, or was not replayed"
            raise RuntimeError(message)

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
        if main is not None and main.done() and unwind(loop):
            limit = self._ledger.max_payload
            self._end(*outcome_of(main, self._entry, limit=limit, cancelling=self._cancelling))
            if self._ledger.fault is not None:
                # What encodes the result is workflow code, too.
                raise self._ledger.fault

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
        except TypeError as error:
            # An async function runs nothing when it is called: it takes other arguments than when the run was started,
            # and a deploy can help.
            message = f"the code does not take the arguments the run was started with: {error}"
            raise self._ledger.fail(CodecError(message, path="input")) from None
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
            ask_children(self._loop)
            self._main.cancel("the run was cancelled")

    # -- ending --------------------------------------------------------------------------------------------------------

    def _end(self, kind: EventType, payload: str | None) -> None:
        ledger, loop = self._ledger, self._loop
        self._terminal = kind
        loop.report_failures(ending=True)
        recorded = ledger.terminal
        if recorded is None:
            ledger.append(kind, None, None, payload)
            if kind is not EventType.RUN_CONTINUED:
                close_children(loop)
            else:
                assert payload is not None
                self._successor = make_successor(loop, payload, cancelling=self._cancelling)
            return
        if recorded.type != kind or not same_end(kind, recorded.payload, payload):
            # What the code did not ask for on its way explains the other end better than the end itself.
            raise ledger.fail(ledger.find_missing() or end_drift(ledger.next, recorded, kind, payload))

    def _compare_end(self, recorded: Event) -> None:
        """Refuse a history that ends where the code does not; only a termination needs no code."""
        if self._terminal is None:
            if recorded.type != EventType.RUN_TERMINATED:
                raise self._ledger.fail(self._ledger.find_missing() or end_drift(self._ledger.next, recorded))
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
            orders, wake_at, state = {}, None, _STATES[self._terminal]
        else:
            waiting = RunState.SUSPENDED if self.began else RunState.PENDING
            state = RunState.RUNNING if loop.activities else waiting
            wake_at = loop.earliest_timer()
        if not (ledger.children or ledger.letters or ledger.cascade or ledger.attributes or self._successor):
            return Decision(events, list(orders.values()), cancelled, state, wake_at, logs)
        children, letters, cascade, attributes = ledger.children, ledger.letters, ledger.cascade, ledger.attributes
        ledger.children, ledger.letters, ledger.cascade, ledger.attributes = {}, [], None, {}
        successor, self._successor = self._successor, None
        return Decision(
            events,
            list(orders.values()),
            cancelled,
            state,
            wake_at,
            logs,
            children=tuple(children.values()),
            letters=tuple(letters),
            cascade=cascade,
            attributes=msgspec.json.encode(attributes).decode() if attributes else None,
            successor=successor,
        )

    def note(self, kind: EventType, *, name: str | None = None, payload: str | None = None) -> None:
        """Add a note (an adoption, undeliverable mail) to the next decision; replay skips notes."""
        self._ledger.append(kind, None, name, payload)

    @property
    def issued(self) -> int:
        """How many commands the code has asked for."""
        return self._ledger.next

    @property
    def waits_for(self) -> tuple[str, ...]:
        """What the run waits for, in words."""
        return () if self._terminal is not None else waits_of(self._loop)

    @property
    def patches(self) -> dict[str, bool]:
        """What `patched` has answered, by id."""
        return self._ledger.answers

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
        """Whether the command is an open activity, child or timer: only then may its completion be delivered."""
        loop = self._loop
        return command in loop.activities or command in loop.timers or command in loop.children

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
