"""Here lives what clients ask of the memory wing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from continuum.errors import RunNotFound, RunTerminal
from continuum.journal.memory.families import Families, Told
from continuum.journal.memory.patches import find_patches
from continuum.journal.memory.rows import RunRow, check_json, check_text, read_attributes
from continuum.journal.memory.search import find_page
from continuum.journal.memory.store import Store, refuse_connection
from continuum.journal.protocol import PostResult, RunPage
from continuum.model.decisions import Cascade, Report
from continuum.model.events import TERMINAL, Event, EventType
from continuum.model.failures import terminated
from continuum.model.ids import ChainId, RunId
from continuum.model.messages import MESSAGE_KINDS, NewMessage
from continuum.model.patches import PatchUse
from continuum.model.runs import NewRun, Run, RunState
from continuum.model.search import Query

__all__ = ["MemoryRuns"]


class MemoryRuns:
    """``Journal.runs``."""

    families_type: ClassVar[type[Families]] = Families

    def __init__(self, store: Store) -> None:
        self._store = store
        self._families = self.families_type(store)

    def start(self, run: NewRun, *, connection: Any = None) -> tuple[RunId, bool]:
        """Write a run, once per run id and once per idempotency key."""
        refuse_connection(connection)
        for what in ("namespace", "workflow", "version_hash", "idempotency_key", "trace_context"):
            check_text(f"the run's {what}", getattr(run, what))
        check_json("run_started", run.started)
        attributes = {} if run.attributes is None else read_attributes("the run's attributes", run.attributes)
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
        store.insert(row, run.started)

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
            store.post(tip.chain_id, message.kind, name=message.name, payload=message.payload)
            return PostResult.DELIVERED

    def terminate(self, run_id: RunId, *, namespace: str | None, reason: str) -> RunId:
        """End the tip of the run's chain without its code."""
        check_text("the reason", reason)
        store = self._store
        with store.lock:
            tip, now = self._living_tip(run_id, namespace), store.now()
            why = terminated(reason).encode()
            self._families.tell([*self._report(tip, why), *self._families.cascade(tip, Cascade.CLOSE)])
            tip.last_seq += 1
            store.events[tip.id].append(Event(tip.last_seq, EventType.RUN_TERMINATED, None, None, why, now))
            tip.state, tip.completed_at = RunState.TERMINATED, now
            tip.stuck_reason = tip.stuck_since = None
            version = store.versions.get((tip.workflow, tip.version_hash))
            retention_us = None if version is None else version.retention_us
            tip.retention_until = None if retention_us is None else now + retention_us
            tip.token += 1
            store.own(tip, None)
            store.wake(tip, None)
            store.tasks.pop(tip.id, None)
            return tip.id

    def _report(self, run: RunRow, why: str) -> Iterator[Told]:
        link = self._families.link_of(run)
        if link is not None:
            yield from self._families.report(Report(link.run_id, link.command, EventType.CHILD_CANCELLED, why))

    def contract(self, run_id: RunId, *, namespace: str | None = None, connection: Any = None) -> str | None:
        """Return the contract of the signals of the tip of the run's chain."""
        refuse_connection(connection)
        with self._store.lock:
            tip = self._tip(run_id, namespace)
            version = self._store.versions.get((tip.workflow, tip.version_hash))
            return None if version is None else version.signals

    def find(self, run_id: RunId, *, namespace: str | None = None, tip: bool = False) -> Run | None:
        """Return the run, or the tip of its chain."""
        with self._store.lock:
            row = self._find(run_id, namespace)
            if row is None:
                return None
            return (self._store.tips[row.chain_id] if tip else row).seen()

    def search(self, query: Query) -> RunPage:
        """Return a page of runs."""
        with self._store.lock:
            return RunPage(*find_page((row.seen() for row in self._store.runs.values()), query))

    def set_attributes(self, run_id: RunId, attributes: str, *, namespace: str | None = None) -> None:
        """Merge attributes into those of the tip of the run's chain."""
        merged = read_attributes("the attributes", attributes)
        with self._store.lock:
            tip = self._tip(run_id, namespace)
            tip.attributes = {**tip.attributes, **merged}

    def published(self, run_id: RunId, *, namespace: str | None = None) -> Mapping[str, Event]:
        """Return what the tip of the run's chain published last, by name."""
        with self._store.lock:
            events = self._store.events[self._tip(run_id, namespace).id]
            return {event.name or "": event for event in events if event.type == EventType.VALUE_PUBLISHED}

    def descendants(self, run_id: RunId, *, namespace: str | None = None, limit: int) -> Sequence[Run]:
        """Return the tips of the chains below the run's chain, parents first."""
        found: list[Run] = []
        with self._store.lock:
            parents: set[ChainId | None] = {self._tip(run_id, namespace).chain_id}
            while parents and len(found) < limit:
                below = [row for row in self._store.tips.values() if row.parent_chain_id in parents]
                parents = {row.chain_id for row in below}
                found += [row.seen() for row in sorted(below, key=lambda row: row.id)]
        return found[:limit]

    def patches(self) -> Sequence[PatchUse]:
        """Return the open runs, counted, by what they have answered to ``patched``."""
        with self._store.lock:
            return find_patches(self._store)

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

    def _tip(self, run_id: RunId, namespace: str | None) -> RunRow:
        row = self._find(run_id, namespace)
        if row is None:
            place = "" if namespace is None else f" in namespace {namespace!r}"
            message = f"there is no run {run_id}{place}"
            raise RunNotFound(message, run_id=run_id)
        return self._store.tips[row.chain_id]

    def _living_tip(self, run_id: RunId, namespace: str | None) -> RunRow:
        tip = self._tip(run_id, namespace)
        if tip.ended:
            message = f"run {tip.id} has ended ({tip.state}); nothing can be sent to it any more"
            raise RunTerminal(message, run_id=tip.id, state=str(tip.state))
        return tip
