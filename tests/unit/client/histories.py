"""Here lives the making of runs, events, task rows and workers for tests of what is told about them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from continuum.client.timeline import moment
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.leases import WorkerRecord
from continuum.model.runs import Run, RunState
from continuum.model.tasks import TaskRecord

RUN = RunId("0190a6f0-0000-7000-8000-000000000001")
ALIVE = WorkerId("00000000-0000-4000-8000-00000000000a")
DEAD = WorkerId("00000000-0000-4000-8000-00000000000d")
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND = 1_000_000


def us(seconds: float) -> int:
    """Return the moment so many seconds after the start."""
    return round((START.timestamp() + seconds) * SECOND)


def at(seconds: float) -> datetime:
    return moment(us(seconds))


class History:
    """Events with rising numbers."""

    def __init__(self, started: str | None = None) -> None:
        self.events: list[Event] = []
        self.add(EventType.RUN_STARTED, 0, payload=started).add(EventType.RUN_BEGAN, 0)

    def add(
        self,
        kind: EventType,
        seconds: float,
        command: int | None = None,
        name: str | None = None,
        payload: str | None = None,
        *,
        location: str | None = None,
    ) -> "History":
        self.events.append(Event(len(self.events) + 1, kind, command, name, payload, us(seconds), location))
        return self

    def activity(self, command: int, name: str, seconds: float, location: str = "flows.py:20") -> "History":
        return self.add(EventType.ACTIVITY_SCHEDULED, seconds, command, name, "[]", location=location)

    def timer(self, command: int, seconds: float, length: float, location: str = "flows.py:31") -> "History":
        return self.add(EventType.TIMER_STARTED, seconds, command, None, str(round(length * SECOND)), location=location)

    def awaited(
        self, command: int, name: str, seconds: float, *, limit: float | None = None, location: str = "flows.py:31"
    ) -> "History":
        self.add(EventType.SIGNAL_AWAITED, seconds, command, name, None, location=location)
        return self if limit is None else self.timer(command + 1, seconds, limit, location)

    def child(self, command: int, name: str, seconds: float, run: str, *, key: str | None = None) -> "History":
        payload = msgspec.json.encode({"id": run, "key": key, "input": [[], {}]}).decode()
        return self.add(EventType.CHILD_STARTED, seconds, command, name, payload, location="flows.py:40")

    def undo(self, command: int, name: str, seconds: float, *, undoes: int | None) -> "History":
        payload = msgspec.json.encode({"undoes": undoes, "arguments": []}).decode()
        return self.add(EventType.COMPENSATION_SCHEDULED, seconds, command, name, payload, location="flows.py:20")


def a_run(state: RunState, **fields: Any) -> Run:
    defaults: dict[str, Any] = {
        "id": RUN,
        "chain_id": ChainId(RUN),
        "namespace": "default",
        "workflow": "order_flow",
        "version": 1,
        "version_hash": "abc",
        "state": state,
        "last_seq": 2,
        "created_at": START,
        "started_at": None,
        "completed_at": None,
        "wake_at": None,
        "retention_until": None,
        "stuck_reason": None,
        "cancel_requested_at": None,
        "idempotency_key": None,
        "trace_context": None,
        "lease_owner": None,
        "lease_token": 1,
        "grants": 0,
        "is_tip": True,
        "parent_id": None,
        "parent_chain_id": None,
        "parent_command": None,
        "parent_close": None,
        "continued_from": None,
        "attributes": {},
    }
    return Run(**{**defaults, **fields})


def a_task(command: int, **fields: Any) -> TaskRecord:
    defaults: dict[str, Any] = {
        "run_id": RUN,
        "command": command,
        "activity": "charge",
        "queue": "default",
        "priority": 0,
        "state": "available",
        "attempt": 1,
        "max_attempts": 5,
        "available_at": us(0),
        "claimed_by": None,
        "claimed_at": None,
        "heartbeat": None,
        "heartbeat_at": None,
        "last_error": None,
    }
    return TaskRecord(**{**defaults, **fields})


def a_worker(worker: WorkerId = ALIVE, *, alive: bool = True, expires: float = 1e6) -> WorkerRecord:
    return WorkerRecord(worker, "host-7", 4711, us(0), us(expires), alive)


BOOM = Failure("myapp.errors.CardDeclined", "no money\nsecond line", attempts=1)
HOUR = timedelta(hours=1).total_seconds()
