"""Here lives one run in a dispatcher's memory: what could be delivered to it, and what it decides."""

from collections.abc import Iterable
from random import Random
from typing import Any, Protocol

import msgspec

from continuum.model.decisions import Commit
from continuum.model.events import Event, EventType
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun
from continuum.model.messages import Message
from continuum.model.tasks import ClaimedTask, TaskOrder
from tests.support.protocol_program import Program
from tests.support.protocol_reach import reach_of

__all__ = ["Held", "Key", "key_of"]

Key = tuple[RunId, int, int]  # one attempt: run, command, attempt
Source = tuple[str, int | None, Any]  # kind, command, what it comes from
URGENT = frozenset({EventType.CANCEL_REQUESTED, EventType.RUN_TERMINATED})


class Surroundings(Protocol):
    """What a decision needs of the world."""

    workflow: str
    broken: frozenset[str]

    def now_us(self) -> int: ...
    def order(self, command: int) -> TaskOrder: ...


class Held:
    """A run that a dispatcher believes to hold."""

    def __init__(self, run: ClaimedRun) -> None:
        self.run_id, self.chain_id, self.token, self.parent = run.run_id, run.chain_id, run.token, run.parent
        self.program = Program.replay(run.run_id, run.events)
        self.last_seq, self.wake_at = run.last_seq, run.wake_at
        self.at = run.events[-1].at
        self.box = {message.id: message for message in run.mail}

    def completions(self, results: Iterable[Key], now: int) -> list[Source]:
        """Return what could be delivered now; before everything else, the beginning."""
        program = self.program
        if not program.began:
            return [("start", None, None)]
        timers = [n for n, at in program.fire_at.items() if n in program.open and at <= now]
        return [
            *(("mail", message.command, message) for message in self.box.values()),
            *(("timer", n, None) for n in timers),
            *(("result", key[1], key) for key in results if key[0] == self.run_id and key[1] in program.open),
        ]

    def decide(self, random: Random, results: Iterable[Key], world: Surroundings) -> tuple[Commit, list[Key]]:
        """Deliver some of it, in any order; return the commit and the local results in it."""
        program = self.program
        events: list[Event] = []
        consumed: list[int] = []
        used: list[Key] = []
        before = dict(program.open)
        if not program.began:
            events += self._begin(consumed, world.now_us())
        sources = [] if program.ended else self.completions(results, world.now_us())
        random.shuffle(sources)
        closed: set[int] = set()
        for kind, command, source in sources[: random.randint(0 if events else 1, len(sources) or 1)]:
            # A result of mine and a message of a later attempt may both be there. One of them is stale: if it is
            # mine, the journal refuses this decision.
            if program.ended or command in closed:
                continue
            if kind == "mail":
                if self._is_for_nobody(source):
                    consumed.append(source.id)
                    continue
                consumed.append(source.id)
            if kind != "mail" and command not in program.open:
                continue  # forgotten in this very decision
            if command is not None:
                closed.add(command)
            events += self._deliver_source(kind, command, source, world.now_us())
            if kind == "result":
                used.append(source)
        return self._commit(events, consumed, used, world=world, before=before), used

    def _begin(self, consumed: list[int], now: int) -> list[Event]:
        """Let the run begin, or end before its code: whoever is asked to at its first turn does not begin."""
        urgent = [message for message in self.box.values() if message.kind in URGENT and message.run_id is None]
        if not urgent:
            return self._deliver(EventType.RUN_BEGAN, None, None, now)
        consumed.append(urgent[0].id)
        return self._deliver_source("mail", None, urgent[0], now)

    def _is_for_nobody(self, message: Message) -> bool:
        if message.run_id is not None and message.run_id != self.run_id:
            return True  # an earlier run of the chain was meant
        return not self.program.expects(message.kind, message.command)

    def _deliver_source(self, kind: str, command: int | None, source: Any, now: int) -> list[Event]:
        if kind == "timer":
            return self._deliver(EventType.TIMER_FIRED, command, None, now)
        if kind == "result":
            return self._deliver(EventType.ACTIVITY_COMPLETED, command, f'"{source[1]}/{source[2]}"', now)
        if source.kind == EventType.RUN_TERMINATED:
            self.at = max(self.at, now)
            return self.program.terminate(self.at, source.payload)
        return self._deliver(source.kind, command, source.payload, now)

    def _commit(
        self,
        events: list[Event],
        consumed: list[int],
        used: list[Key],
        *,
        world: Surroundings,
        before: dict[int, EventType],
    ) -> Commit:
        program = self.program
        scheduled = [event.command for event in events if event.type == EventType.ACTIVITY_SCHEDULED]
        orders = [] if program.ended else [world.order(n) for n in scheduled if n is not None and n in program.open]
        numbered = [msgspec.structs.replace(event, seq=self.last_seq + n) for n, event in enumerate(events, 1)]
        decision, report = reach_of(self, numbered, orders=orders, before=before, world=world)
        return Commit(
            self.run_id,
            self.chain_id,
            self.token,
            self.last_seq,
            decision,
            claimed=frozenset(order.command for order in orders if order.command % 2),
            dispatched=frozenset(
                order.command for order in orders if order.policy.executor is not None and order.command % 4 == 0
            ),
            finished=tuple((command, attempt) for _, command, attempt in used),
            consumed=tuple(consumed),
            report=report,
            successor_version=(1, "h"),
            woke=program.wake_at != self.wake_at,
        )

    def _deliver(self, kind: EventType, command: int | None, payload: str | None, now: int) -> list[Event]:
        self.at = max(self.at, now)
        return self.program.deliver(Event(0, kind, command, None, payload, self.at))


def key_of(task: ClaimedTask) -> Key:
    return (task.run_id, task.command, task.attempt)
