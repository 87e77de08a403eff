"""Here lives what clients ask of the memory wing."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from continuum.errors import RunNotFound, RunTerminal
from continuum.journal.memory.rows import RunRow, check_json, check_text
from continuum.journal.memory.store import Store, refuse_connection
from continuum.journal.protocol import PostResult, RunPage
from continuum.model.events import TERMINAL, Event, EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import ChainId, RunId, parse_run_id
from continuum.model.messages import MESSAGE_KINDS, NewMessage
from continuum.model.runs import NewRun, Run, RunState

__all__ = ["MemoryRuns"]

_CURSOR_PREFIX = b"after:"


class MemoryRuns:
    """``Journal.runs``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def start(self, run: NewRun, *, connection: Any = None) -> tuple[RunId, bool]:
        """Write a run, once per run id and once per idempotency key."""
        refuse_connection(connection)
        for what in ("namespace", "workflow", "version_hash", "idempotency_key", "trace_context"):
            check_text(f"the run's {what}", getattr(run, what))
        check_json("run_started", run.started)
        attributes = {} if run.attributes is None else _read_attributes(run.attributes)
        store = self._store
        with store.lock:
            if run.id in store.runs:
                return run.id, True
            if run.idempotency_key is not None:
                key = (run.namespace, run.workflow, run.idempotency_key)
                first = store.ingress_keys.setdefault(key, run.id)
                if first != run.id:
                    return first, False
            self._insert(run, attributes)
            return run.id, True

    def _insert(self, run: NewRun, attributes: dict[str, Any]) -> None:
        store, now = self._store, self._store.now()
        row = RunRow(
            id=run.id,
            chain_id=ChainId(run.id),
            namespace=run.namespace,
            workflow=run.workflow,
            version=run.version,
            version_hash=run.version_hash,
            created_at=now,
            wake_at=None,
            attributes=attributes,
            idempotency_key=run.idempotency_key,
            trace_context=run.trace_context,
        )
        store.runs[row.id] = row
        store.tips[row.chain_id] = row
        store.events[row.id] = [Event(1, EventType.RUN_STARTED, None, None, run.started, now)]
        store.wake(row, now)

    def post(self, message: NewMessage, *, connection: Any = None) -> PostResult:
        """Put a message into the inbox of the run's chain."""
        refuse_connection(connection)
        assert message.kind in MESSAGE_KINDS, message.kind
        check_text("the message's name", message.name)
        check_text("the delivery id", message.delivery_id)
        check_json("the message's payload", message.payload)
        store = self._store
        with store.lock:
            tip = self._living_tip(message.run_id, message.namespace)
            if message.delivery_id is not None:
                delivery = (tip.chain_id, message.name or "", message.delivery_id)
                if delivery in store.delivery_ids:
                    return PostResult.DUPLICATE
                store.delivery_ids.add(delivery)
            store.post(tip, message.kind, name=message.name, payload=message.payload)
            return PostResult.DELIVERED

    def terminate(self, run_id: RunId, *, namespace: str | None, reason: str) -> RunId:
        """End the tip of the run's chain without its code."""
        check_text("the reason", reason)
        store = self._store
        with store.lock:
            tip, now = self._living_tip(run_id, namespace), store.now()
            why = Failure("Terminated", reason, kind=FailureKind.CANCELLED).encode()
            tip.last_seq += 1
            store.events[tip.id].append(Event(tip.last_seq, EventType.RUN_TERMINATED, None, None, why, now))
            tip.state, tip.completed_at, tip.stuck_reason = RunState.TERMINATED, now, None
            version = store.versions.get((tip.workflow, tip.version_hash))
            retention_us = None if version is None else version.retention_us
            tip.retention_until = None if retention_us is None else now + retention_us
            tip.token += 1
            store.own(tip, None)
            store.wake(tip, None)
            store.tasks.pop(tip.id, None)
            return tip.id

    def find(self, run_id: RunId, *, namespace: str | None = None, tip: bool = False) -> Run | None:
        """Return the run, or the tip of its chain."""
        with self._store.lock:
            row = self._find(run_id, namespace)
            if row is None:
                return None
            return (self._store.tips[row.chain_id] if tip else row).seen()

    def list_runs(
        self,
        *,
        namespace: str | None = None,
        states: Sequence[RunState] = (),
        workflow: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return runs by falling id, that is, newest first."""
        before = None if cursor is None else _read_cursor(cursor)
        with self._store.lock:
            found = [
                row
                for row in self._store.runs.values()
                if (before is None or row.id < before)
                and (namespace is None or row.namespace == namespace)
                and (not states or row.state in states)
                and (workflow is None or row.workflow == workflow)
            ]
            found.sort(key=lambda row: row.id, reverse=True)
            page = [row.seen() for row in found[:limit]]
        return RunPage(page, _write_cursor(page[-1].id) if page and len(found) > limit else None)

    def history(self, run_id: RunId, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """Return events of a run; none of a run that does not exist."""
        with self._store.lock:
            events = self._store.events.get(run_id, [])
            return events[after:] if limit is None else events[after : after + limit]

    def outcomes(self, run_ids: Sequence[RunId]) -> Mapping[RunId, tuple[RunState, Event]]:
        """Return how chains ended, those that have."""
        found = {}
        with self._store.lock:
            for run_id in run_ids:
                row = self._store.runs.get(run_id)
                tip = None if row is None else self._store.tips[row.chain_id]
                if tip is not None and tip.ended:
                    last = next(event for event in reversed(self._store.events[tip.id]) if event.type in TERMINAL)
                    found[run_id] = (tip.state, last)
        return found

    def _find(self, run_id: RunId, namespace: str | None) -> RunRow | None:
        row = self._store.runs.get(run_id)
        return row if row is not None and (namespace is None or row.namespace == namespace) else None

    def _living_tip(self, run_id: RunId, namespace: str | None) -> RunRow:
        row = self._find(run_id, namespace)
        if row is None:
            place = "" if namespace is None else f" in namespace {namespace!r}"
            message = f"there is no run {run_id}{place}"
            raise RunNotFound(message, run_id=run_id)
        tip = self._store.tips[row.chain_id]
        if tip.ended:
            message = f"run {tip.id} has ended ({tip.state}); nothing can be sent to it any more"
            raise RunTerminal(message, run_id=tip.id, state=str(tip.state))
        return tip


def _read_attributes(payload: str) -> dict[str, Any]:
    check_json("the run's attributes", payload)
    attributes: dict[str, Any] = msgspec.json.decode(payload)
    # Unlike payloads they are values (``jsonb``), and a value cannot hold NUL.
    for text in _texts(attributes):
        check_text("an attribute", text)
    return attributes


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:
            pass


def _write_cursor(run_id: RunId) -> str:
    return base64.urlsafe_b64encode(_CURSOR_PREFIX + run_id.encode()).decode()


def _read_cursor(cursor: str) -> RunId:
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        if not text.startswith(_CURSOR_PREFIX):
            raise ValueError(cursor)  # noqa: TRY301 - all forgeries get the same answer
        return parse_run_id(text.removeprefix(_CURSOR_PREFIX).decode())
    except (ValueError, binascii.Error) as error:
        message = f"{cursor[:80]!r} is not a cursor of list_runs"
        raise ValueError(message) from error
