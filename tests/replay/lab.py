"""Here lives the laboratory: a run turned live without a database, its history kept, replayed in every possible way."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from continuum.model.codec import decode, encode, encode_arguments
from continuum.model.decisions import Decision, LogLine
from continuum.model.events import COMMANDS, Event, EventType
from continuum.model.failures import Failure
from continuum.model.policies import ActivityPolicy
from continuum.model.runs import ParentClose, Started
from continuum.model.snapshots import decode_snapshot, encode_snapshot
from continuum.replay.effects.activity import ActivityFuture, schedule
from continuum.replay.effects.child import ChildHandle, start
from continuum.replay.execution import Entry, Execution, RunInfo

POLICY = ActivityPolicy()
POLICY_TEXT = POLICY.encode()
RUN = RunInfo("018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000001", "default", "lab", 1)  # type: ignore[arg-type]
BEGAN_AT = 1_700_000_000_000_000
SEED = "00112233445566778899aabbccddeeff"


def act(name: str, *args: Any, key: str | None = None) -> ActivityFuture[Any]:
    """Schedule an activity as `@activity` does, without declaring one."""
    return schedule(
        name, encode(list(args)), policy=POLICY, policy_text=POLICY_TEXT, decode=decode, idempotency_key=key
    )


def kid(
    name: str,
    *args: Any,
    key: str | None = None,
    close: str = "cancel",
    attributes: str | None = None,
    decode: Callable[[str], Any] = decode,
) -> ChildHandle[Any]:
    """Start a child as `start_child` does, without declaring a workflow."""
    return start(
        name,
        encode(list(args)),
        version=1,
        version_hash="hash of " + name,
        decode=decode,
        key=key,
        on_parent_close=ParentClose(close),
        attributes=attributes,
    )


def entry_of(function: Callable[..., Any]) -> Entry:
    def decode_input(payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(decode(payload)), {}

    return Entry(
        "lab",
        1,
        "hash",
        function,
        decode_input,
        lambda value: encode(value, where="result"),
        encode_input=lambda args, kwargs: encode_arguments(args, kwargs, where="input"),
    )


def started(*args: Any, seed: str = SEED, **more: Any) -> Event:
    text = Started(msgspec.Raw(encode(list(args)).encode()), seed, **more).encode()
    return Event(1, EventType.RUN_STARTED, None, "lab", text, BEGAN_AT)


def loaded(history: Sequence[Event]) -> list[Event]:
    """Return the history as a journal loads it: plain text for types, and no object in common with this process."""
    return [
        Event(
            e.seq,
            str(e.type.value if isinstance(e.type, EventType) else e.type),
            *json.loads(json.dumps([e.command, e.name, e.payload, e.at, e.location])),
        )  # type: ignore[arg-type]
        for e in history
    ]


def refolded(history: Sequence[Event], through: int) -> list[Event]:
    """Return the history as it is loaded when a snapshot holds its first ``through`` events (0: there is none)."""
    events = loaded(history)
    if not through:
        return events
    folded = decode_snapshot(encode_snapshot(events[:through]))
    assert folded == events[:through]
    return [*folded, *events[through:]]


class Lab:
    """One run, turned by hand. Every turn delivers one completion and takes the decision, unless told otherwise."""

    def __init__(
        self,
        function: Callable[..., Any],
        *args: Any,
        seed: str = SEED,
        spin_limit: int = 100_000,
        history: Sequence[Event] | None = None,
        inline: bool = True,
    ) -> None:
        self.function = function
        self.history = [started(*args, seed=seed)] if history is None else list(history)
        self.execution = Execution(entry=entry_of(function), run=RUN, spin_limit=spin_limit, inline=inline)
        self.decisions: list[Decision] = []
        self.clock = self.history[-1].at
        self.base = len(self.history)
        try:
            self.execution.replay(loaded(self.history))
        except BaseException:
            self.execution.evict()
            raise

    # -- live

    def deliver(self, *completion: Any, decide: bool = True) -> Decision | None:
        self.clock += 1_000
        event = Event(0, *completion, self.clock)
        try:
            self.execution.deliver(event)
        except BaseException:
            self.execution.evict()
            raise
        return self.decide() if decide else None

    def decide(self) -> Decision:
        decision = self.execution.decide()
        self.decisions.append(decision)
        assert [e.seq for e in decision.events] == list(
            range(len(self.history) + 1, len(self.history) + 1 + len(decision.events))
        )
        self.history += decision.events
        assert self.execution.last_seq == len(self.history)
        return decision

    def begin(self, **options: Any) -> "Lab":
        self.deliver(EventType.RUN_BEGAN, None, None, None, **options)
        return self

    def complete(self, command: int, value: Any = None, **options: Any) -> Decision | None:
        return self.deliver(EventType.ACTIVITY_COMPLETED, command, "a", encode(value), **options)

    def fail(self, command: int, failure: Failure | None = None, **options: Any) -> Decision | None:
        failure = failure or Failure("ValueError", "no", attempts=3)
        return self.deliver(EventType.ACTIVITY_FAILED, command, "a", failure.encode(), **options)

    def child_done(self, command: int, value: Any = None, **options: Any) -> Decision | None:
        return self.deliver(EventType.CHILD_COMPLETED, command, "c", encode(value), **options)

    def child_failed(self, command: int, failure: Failure | None = None, **options: Any) -> Decision | None:
        failure = failure or Failure("ValueError", "no")
        return self.deliver(EventType.CHILD_FAILED, command, "c", failure.encode(), **options)

    def child_cancelled(self, command: int, failure: Failure | None = None, **options: Any) -> Decision | None:
        payload = None if failure is None else failure.encode()
        return self.deliver(EventType.CHILD_CANCELLED, command, "c", payload, **options)

    def terminate(self, failure: Failure | None = None, *, decide: bool = True) -> Decision | None:
        self.clock += 1_000
        self.execution.terminate((failure or Failure("Terminated", "by hand")).encode(), self.clock)
        return self.decide() if decide else None

    def fire(self, command: int | None = None, **options: Any) -> Decision | None:
        """Let a timer fire; the next one due if none is named."""
        if command is None:
            due = self.execution.earliest_timer
            assert due is not None, "no timer is open"
            command = self.execution.due_timers(due)[0]
            self.clock = max(self.clock, due - 1_000)
        return self.deliver(EventType.TIMER_FIRED, command, None, None, **options)

    def signal(self, name: str, value: Any = None, **options: Any) -> Decision | None:
        return self.deliver(EventType.SIGNAL_RECEIVED, None, name, encode(value), **options)

    def cancel(self, **options: Any) -> Decision | None:
        return self.deliver(EventType.CANCEL_REQUESTED, None, None, None, **options)

    def run(self, value: Any = None, *, limit: int = 1_000) -> "Lab":
        """Begin, complete activities at once with `value`, fire timers in order, until the run ends or only waits."""
        if not self.execution.began:
            self.begin()
        for _ in range(limit):
            if self.execution.ended:
                return self
            if self.execution.open_activities:
                self.complete(min(self.execution.open_activities), value)
            elif self.execution.earliest_timer is not None:
                self.fire()
            else:
                return self
        raise AssertionError("the run does not end")

    # -- looking

    @property
    def ended(self) -> bool:
        return self.execution.ended

    @property
    def result(self) -> Any:
        last = self.history[-1]
        assert last.type == EventType.RUN_COMPLETED, (last.type, last.payload)
        return decode(last.payload or "null")

    @property
    def failure(self) -> Failure:
        last = self.history[-1]
        assert last.type == EventType.RUN_FAILED, (last.type, last.payload)
        return Failure.parse(last.payload or "{}")

    @property
    def types(self) -> list[str]:
        return [str(e.type.value) for e in self.history[1:]]

    @property
    def commands(self) -> list[tuple[str, str | None, str | None]]:
        return commands_of(self.history)

    @property
    def logs(self) -> list[LogLine]:
        return [line for decision in self.decisions for line in decision.logs]

    def outcome(self) -> Any:
        """The result, or a description of how the run stands."""
        last = self.history[-1]
        if last.type == EventType.RUN_COMPLETED:
            return self.result
        if last.type == EventType.RUN_FAILED:
            return f"{self.failure.type_name}: {self.failure.message}"
        return "waiting" if not self.ended else str(last.type.value)

    # -- replaying

    def replays(self, function: Callable[..., Any] | None = None) -> None:
        """Assert that the history, and every prefix of it cut between turns, replays to what was decided.

        Each with and without the inline rule, from its events and from a snapshot of some of them.
        """
        for inline in (True, False):
            for cut in self.cuts():
                for through in (0, 1 + cut * 2 // 3):
                    history = refolded(self.history[:cut], through)
                    again = replay(function or self.function, history, inline=inline)
                    assert again.events == [], (cut, inline, again.events)
                    assert again.orders == []
                    assert again.cancelled == []
                    assert again.logs == []
                    assert not again.reaches_out, (cut, inline, again)
                    assert (again.state, again.wake_at) == self._standing(cut), (cut, inline, through)

    def cuts(self) -> list[int]:
        cuts, at = [], self.base
        for decision in self.decisions:
            at += len(decision.events)
            cuts.append(at)
        return cuts

    def _standing(self, cut: int) -> tuple[Any, Any]:
        decision = self.decisions[self.cuts().index(cut)]
        return decision.state, decision.wake_at

    def close(self) -> None:
        self.execution.evict()


def replay(function: Callable[..., Any], history: Sequence[Event], *, inline: bool = True, **options: Any) -> Decision:
    execution = Execution(entry=entry_of(function), run=RUN, inline=inline, **options)
    try:
        execution.replay(loaded(history))
        return execution.decide()
    finally:
        execution.evict()


def commands_of(history: Sequence[Event]) -> list[tuple[str, str | None, str | None]]:
    return [(str(e.type), e.name, e.payload) for e in history if e.type in COMMANDS]


@contextmanager
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
