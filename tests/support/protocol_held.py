"""Here lives one run in a dispatcher's memory: what could be delivered to it, and what it decides."""

from collections.abc import Iterable
from random import Random
from typing import Any, Protocol

import msgspec

from continuum.model.decisions import Commit, Decision
from continuum.model.events import Event, EventType
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun
from continuum.model.runs import RunState
from continuum.model.tasks import ClaimedTask, TaskOrder
from tests.support.protocol_program import Program

__all__ = ["Held", "Key", "key_of"]

Key = tuple[RunId, int, int]  # one attempt: run, command, attempt
Source = tuple[str, int | None, Any]  # kind, command, what it comes from


class Surroundings(Protocol):
    """What a decision needs of the world."""

    def now_us(self) -> int: ...
    def order(self, command: int) -> TaskOrder: ...


class Held:
    """A run that a dispatcher believes to hold."""

    def __init__(self, run: ClaimedRun) -> None:
        self.run_id, self.chain_id, self.token = run.run_id, run.chain_id, run.token
        self.program = Program.replay(run.events)
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
        if not program.began:
            events += self._deliver(EventType.RUN_BEGAN, None, None, world.now_us())
        sources = self.completions(results, world.now_us())
        random.shuffle(sources)
        consumed: list[int] = []
        used: list[Key] = []
        closed: set[int] = set()
        for kind, command, source in sources[: random.randint(0 if events else 1, len(sources))]:
            # A result of mine and a message of a later attempt may both be there. One of them is stale: if it is
            # mine, the journal refuses this decision.
            if program.ended or command in closed:
                continue
            if command is not None:
                closed.add(command)
            completion, payload = EventType.TIMER_FIRED, None
            if kind == "mail":
                consumed.append(source.id)
                completion, payload = source.kind, source.payload
            elif kind == "result":
                used.append(source)
                completion, payload = EventType.ACTIVITY_COMPLETED, f'"{source[1]}/{source[2]}"'
            events += self._deliver(completion, command, payload, world.now_us())
        return self._commit(events, consumed, used, world), used

    def _commit(self, events: list[Event], consumed: list[int], used: list[Key], world: Surroundings) -> Commit:
        program = self.program
        scheduled = [event.command for event in events if event.type == EventType.ACTIVITY_SCHEDULED]
        orders = [] if program.ended else [world.order(n) for n in scheduled if n is not None]
        decision = Decision(
            events=[msgspec.structs.replace(event, seq=self.last_seq + n) for n, event in enumerate(events, 1)],
            orders=orders,
            cancelled=[],
            state=RunState.COMPLETED if program.ended else RunState.SUSPENDED,
            wake_at=program.wake_at,
            logs=[],
        )
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
            woke=program.wake_at != self.wake_at,
        )

    def _deliver(self, kind: EventType, command: int | None, payload: str | None, now: int) -> list[Event]:
        self.at = max(self.at, now)
        return self.program.deliver(Event(0, kind, command, None, payload, self.at))


def key_of(task: ClaimedTask) -> Key:
    return (task.run_id, task.command, task.attempt)
