"""Here lives :class:`MemoryJournal`, the journal without a database."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import ClassVar

from continuum.errors import ConfigError, JournalUnavailable
from continuum.journal.folding import Snapshots
from continuum.journal.memory.lines import MemoryEars, MemoryLine
from continuum.journal.memory.rows import moment
from continuum.journal.memory.runs import MemoryRuns
from continuum.journal.memory.snapshots import MemorySnapshots
from continuum.journal.memory.store import Store, StoreClock
from continuum.journal.memory.tasks import MemoryTasks
from continuum.journal.memory.turns import Turns
from continuum.journal.memory.upkeep import MemoryUpkeep
from continuum.journal.memory.workers import MemoryWorkers
from continuum.journal.protocol import Runs, Tasks, Upkeep, Workers
from continuum.journal.requests import Hint, HintKind
from continuum.model.clock import DatabaseClock
from continuum.model.ids import RunId
from continuum.model.tasks import TaskState

__all__ = ["MemoryJournal"]

_named: dict[str, Store] = {}
_naming = threading.Lock()


class MemoryJournal:
    """A :class:`~continuum.journal.protocol.Journal` in this process's memory.

    Journals of one name share one store for as long as the process lives, whoever closes them in between; a
    journal without a name has a store of its own. ``now`` returns microseconds since the epoch and replaces
    the clock; a named store keeps the clock it was made with.

    Transactional activities run, but their ``connection`` is None.
    """

    runs_type: ClassVar[type[MemoryRuns]] = MemoryRuns
    turns_type: ClassVar[type[Turns]] = Turns
    tasks_type: ClassVar[type[MemoryTasks]] = MemoryTasks
    workers_type: ClassVar[type[MemoryWorkers]] = MemoryWorkers

    def __init__(self, name: str = "", *, now: Callable[[], int] | None = None) -> None:
        self._store = _store_for(name, now)
        self.name = name
        self.clock: DatabaseClock = StoreClock(self._store.now)
        self.runs: Runs = self.runs_type(self._store)
        self.tasks: Tasks = self.tasks_type(self._store)
        self.workers: Workers = self.workers_type(self._store)
        self.upkeep: Upkeep = MemoryUpkeep(self._store)
        self.snapshots: Snapshots = MemorySnapshots(self._store)
        self._turns = self.turns_type(self._store)
        self._open: list[MemoryLine | MemoryEars] = []
        self._closed = False

    @staticmethod
    def forget(name: str) -> None:
        """Drop a named store: the next journal of that name starts empty."""
        with _naming:
            _named.pop(name, None)

    def check(self) -> datetime:
        """Return the store's time."""
        return moment(self._store.now())

    def next_due(self) -> int | None:
        """Return when, later than now, the next run or free task comes due: where a clock may be set to. µs."""
        store = self._store
        with store.lock:
            now = store.now()
            runs = (run.wake_at for run in store.timed.values())
            tasks = (row.available_at for row in store.all_tasks() if row.state == TaskState.AVAILABLE)
            return min((at for at in (*runs, *tasks) if at is not None and at > now), default=None)

    def open_line(self) -> MemoryLine:
        """Return a new line."""
        self._refuse_if_closed()
        line = MemoryLine(self._turns.execute)
        self._open.append(line)
        return line

    def open_ears(self, kinds: Sequence[HintKind]) -> MemoryEars:
        """Return new ears."""
        self._refuse_if_closed()
        ears = MemoryEars(self._store, kinds)
        self._open.append(ears)
        return ears

    def hint(self, hint: Hint) -> None:
        """Tell all ears of this store."""
        with self._store.lock:
            self._store.tell(hint)

    @contextmanager
    def locked(self, *run_ids: RunId) -> Iterator[None]:
        """Hold rows of runs locked, for tests: commits, claims and sweeps skip them, as in Postgres."""
        with self._store.lock:
            fresh = set(run_ids) - self._store.locked
            self._store.locked |= fresh
        try:
            yield
        finally:
            with self._store.lock:
                self._store.locked -= fresh

    def close(self) -> None:
        """Close every line and all ears; what is stored stays."""
        self._closed = True
        while self._open:
            self._open.pop().close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            message = "this journal is closed"
            raise JournalUnavailable(message)


def _store_for(name: str, now: Callable[[], int] | None) -> Store:
    if not name:
        return Store(now)
    with _naming:
        store = _named.get(name)
        if store is None:
            store = _named[name] = Store(now)
        elif now is not None and now is not store.now:
            message = f"the memory journal {name!r} is open already, with another clock: give it another name"
            raise ConfigError(message)
        return store
