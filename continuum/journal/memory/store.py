"""Here lives what the memory wing keeps: the tables of the Postgres wing as dicts, behind one lock.

# Invariant: whoever reads or writes anything here holds ``Store.lock``; every request is one critical
# section, so each statement of the protocol is atomic, and "waits for a lock" never happens.
# Invariant: a value is checked before the first write of a request (`check_text`, `check_json`), so that a
# refused request has written nothing.
"""

import threading
import time
from collections.abc import Callable, Iterator

from continuum.errors import ConfigError
from continuum.journal.memory.rows import EarsRow, RunRow, WorkerRow
from continuum.journal.memory.task_rows import TaskRow
from continuum.journal.requests import Hint
from continuum.model.clock import DatabaseClock
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.leases import WorkflowVersion
from continuum.model.messages import Message
from continuum.model.snapshots import Snapshot
from continuum.model.tasks import TaskState

__all__ = ["Store", "StoreClock", "refuse_connection"]


class StoreClock(DatabaseClock):
    """A database's clock that needs no estimate, because the database is here."""

    __slots__ = ("_now",)

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__()
        self._now = now

    @property
    def known(self) -> bool:
        """Always true."""
        return True

    def now_us(self) -> int:
        """Return the present of the store."""
        return self._now()


# ------------------------------------------------------------------ the store


class Store:
    """All tables, their lock and their clock."""

    def __init__(self, now: Callable[[], int] | None) -> None:
        self.lock = threading.RLock()
        self.now = now or _real_clock()
        self.runs: dict[RunId, RunRow] = {}
        self.events: dict[RunId, list[Event]] = {}
        self.tips: dict[ChainId, RunRow] = {}
        self.children: dict[ChainId, set[ChainId]] = {}
        self.inbox: dict[ChainId, dict[int, Message]] = {}
        self.tasks: dict[RunId, dict[int, TaskRow]] = {}
        self.workers: dict[WorkerId, WorkerRow] = {}
        self.delivery_ids: set[tuple[ChainId, str, str]] = set()
        self.ingress_keys: dict[tuple[str, str, str], RunId] = {}
        self.results: dict[tuple[str, str], str] = {}
        self.versions: dict[tuple[str, str], WorkflowVersion] = {}
        self.first_seen: dict[tuple[str, str], int] = {}
        self.snapshots: dict[RunId, Snapshot] = {}
        self.ears: list[EarsRow] = []
        # What an index of Postgres would find: runs that may be due, and runs by owner.
        self.timed: dict[RunId, RunRow] = {}
        self.owned: dict[WorkerId, dict[RunId, RunRow]] = {}
        # Rows that a test holds locked: whoever would skip a locked row skips them.
        self.locked: set[RunId] = set()
        self._messages = 0

    def insert(self, run: RunRow, started: str) -> None:
        """Insert a run that is due, the tip of its chain, with its first event."""
        self.runs[run.id] = self.tips[run.chain_id] = run
        self.events[run.id] = [Event(1, EventType.RUN_STARTED, None, None, started, run.created_at)]
        self.wake(run, run.created_at)

    def wake(self, run: RunRow, at: int | None) -> None:
        """Write ``wake_at``."""
        run.wake_at = at
        if at is None:
            self.timed.pop(run.id, None)
        else:
            self.timed[run.id] = run

    def own(self, run: RunRow, owner: WorkerId | None) -> None:
        """Write the owner."""
        if run.owner is not None:
            mine = self.owned[run.owner]
            del mine[run.id]
            if not mine:
                del self.owned[run.owner]
        run.owner = owner
        if owner is not None:
            self.owned.setdefault(owner, {})[run.id] = run

    def post(
        self,
        chain_id: ChainId,
        kind: EventType,
        *,
        only: RunId | None = None,
        command: int | None = None,
        name: str | None = None,
        payload: str | None = None,
    ) -> None:
        """Put a message into the inbox of a chain."""
        self._messages += 1
        message = Message(self._messages, chain_id, only, kind, command, name, payload)
        self.inbox.setdefault(chain_id, {})[message.id] = message

    def mail(self, chain_id: ChainId) -> list[Message]:
        """Return a chain's mail, oldest first."""
        box = self.inbox.get(chain_id)
        return [] if box is None else [box[key] for key in sorted(box)]

    def discard(self, chain_id: ChainId, message_id: int) -> bool:
        """Delete one message."""
        box = self.inbox.get(chain_id)
        if box is None or box.pop(message_id, None) is None:
            return False
        if not box:
            del self.inbox[chain_id]
        return True

    def task(self, run_id: RunId, command: int) -> TaskRow | None:
        """Return a task row."""
        return self.tasks.get(run_id, {}).get(command)

    def claimed_task(self, worker: WorkerId, run_id: RunId, command: int, attempt: int) -> TaskRow | None:
        """Return the row if the worker holds exactly this claim."""
        row = self.task(run_id, command)
        if row is None or row.claimed_by != worker or row.attempt != attempt or row.held:
            return None
        return row if row.state == TaskState.LEASED else None

    def is_orphaned(self, row: TaskRow) -> bool:
        """Whether whoever has dispatched or leased the row does not exist any more."""
        return row.claimed_by is not None and row.claimed_by not in self.workers

    def add_task(self, row: TaskRow) -> None:
        """Insert a task row."""
        self.tasks.setdefault(row.run_id, {})[row.order.command] = row

    def drop_task(self, run_id: RunId, command: int) -> None:
        """Delete a task row, if it is there."""
        rows = self.tasks.get(run_id)
        if rows is not None:
            rows.pop(command, None)
            if not rows:
                del self.tasks[run_id]

    def end_task(self, row: TaskRow, kind: EventType, payload: str | None) -> None:
        """Delete a task row and tell its run how it ended."""
        run = self.runs[row.run_id]
        self.post(run.chain_id, kind, only=run.id, command=row.order.command, payload=payload)
        self.drop_task(row.run_id, row.order.command)

    def all_tasks(self) -> Iterator[TaskRow]:
        """Iterate over all task rows."""
        for rows in self.tasks.values():
            yield from rows.values()

    def is_alive(self, worker: WorkerId) -> bool:
        """Whether the worker's row is there and its lease has not expired."""
        row = self.workers.get(worker)
        return row is not None and row.expires_at > self.now()

    def tell(self, hint: Hint) -> None:
        """Tell a hint to all ears that listen for its kind."""
        for ears in self.ears:
            if hint.kind in ears.kinds:
                ears.heard.append(hint)
                ears.pipe.ring()


def refuse_connection(connection: object) -> None:
    """Refuse to join a transaction: there is none to join."""
    if connection is not None:
        message = (
            "connection= joins a transaction of the journal's database, and a journal in memory has none:"
            " leave it out, or open the journal with a postgresql:// URL."
        )
        raise ConfigError(message)


def _real_clock() -> Callable[[], int]:
    # Carried on by the monotonic clock: a database whose time steps back is not what tests are about.
    offset = time.time_ns() // 1000 - DatabaseClock.monotonic_us()
    return lambda: DatabaseClock.monotonic_us() + offset
