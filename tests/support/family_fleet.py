"""Here lives a fleet of dispatchers in one process, and what befalls them: stops, lost leases, cut lines, zombies."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any, Self

import psycopg2

from continuum import Continuum
from continuum.journal.open import open_journal
from continuum.runtime.instance import Dispatcher
from continuum.telemetry.probes import armed
from tests.support.deaf import DeafJournal
from tests.support.eventually import eventually

__all__ = ["SETTINGS", "Fleet", "Hazards", "Weather"]

SETTINGS: dict[str, Any] = {
    "poll_interval": timedelta(milliseconds=60),
    "lease_ttl": timedelta(seconds=4),
    "heartbeat_interval": timedelta(milliseconds=250),
    "reap_interval": timedelta(milliseconds=250),
    "stuck_backoff": timedelta(milliseconds=200),
    "concurrency": 6,
    # Nobody here is taken down by a run: whoever holds one is killed all the time.
    "max_grants": 10_000,
}
# Of the turns thread: a dispatcher may be frozen there.
TURNS = ("claim.answered", "commit.sending", "commit.sent", "commit.answered", "commit.settled")
# Anybody may be slow for a moment at these.
PROBES = (
    *TURNS,
    "attempt.returned",
    "attempt.posted",
    "attempt.transaction",
    "start.written",
    "terminate.locked",
    "reap.buried",
    "reap.swept",
)


class Weather:
    """Arms every probe: each thread of the engine, and each client, may linger there; one dispatcher may be frozen.

    :ivar strike: called with the probe's name by whoever passes one.
    """

    def __init__(self, seed: str, slowness: float) -> None:
        self.rng = random.Random(seed)
        self.slowness = slowness
        self.strike: Callable[[str], object] = lambda _name: None
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        for name in PROBES:
            self.stack.enter_context(armed(name, partial(self._pass, name)))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _pass(self, name: str) -> None:
        if self.rng.random() < self.slowness:
            threading.Event().wait(self.rng.uniform(0, 0.02))
        self.strike(name)


class Ship:
    """One dispatcher, with an instance and connections of its own."""

    def __init__(self, url: str, name: str, *, deaf: bool, **overrides: Any) -> None:
        self.name = name
        journal = open_journal(url, application_name=f"races {name}")
        self.journal: Any = DeafJournal(journal) if deaf else journal
        self.continuum = Continuum(journal=self.journal, **SETTINGS)
        self.dispatcher: Dispatcher = self.continuum.dispatcher(**overrides)
        self.dispatcher.start()

    def sink(self, *, hard: bool) -> None:
        if hard:
            self.dispatcher.stop_now()
        else:
            self.dispatcher.drain(20.0)
        self.continuum.close()
        self.journal.close()


class Fleet:
    """Some dispatchers on one database; one may be replaced by another at any time."""

    def __init__(self, url: str, size: int, *, deaf: bool, **overrides: Any) -> None:
        self.url = url
        self.deaf = deaf
        self.overrides = overrides
        self.number = 0
        self.ships: list[Ship] = []
        for _ in range(size):
            self.launch()

    def launch(self) -> None:
        self.number += 1
        self.ships.append(Ship(self.url, f"ship{self.number}", deaf=self.deaf, **self.overrides))

    def close(self) -> None:
        for ship in self.ships:
            ship.sink(hard=False)
        self.ships.clear()


class Hazards:
    """A thread in which something happens to a ship of a fleet, again and again, until it is told to stop."""

    def __init__(self, fleet: Fleet, weather: Weather, seed: str) -> None:
        self.fleet = fleet
        self.weather = weather
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.happened: Counter[str] = Counter()
        self.error: BaseException | None = None
        self.connection = psycopg2.connect(fleet.url, application_name="races hazards")
        self.connection.autocommit = True
        self.thread = threading.Thread(target=self._run, name="hazards")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()
        self.connection.close()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self.stopping.wait(self.rng.uniform(0.0, 0.12)):
                what: Callable[[], object] = self.rng.choice(
                    [
                        self._replace,
                        *[self._expire] * 2,
                        *[self._freeze] * 3,
                        self._cut,
                        *[self._lock] * 3,
                    ]
                )
                what()
                self.happened[what.__name__] += 1
        except BaseException as error:
            self.error = error

    def _query(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, args)
            return [] if cursor.description is None else cursor.fetchall()

    def _replace(self) -> None:
        """One is stopped hard, and another begins."""
        ships = self.fleet.ships
        old = ships.pop(self.rng.randrange(len(ships)))
        self.fleet.launch()
        old.sink(hard=True)

    def _expire(self) -> None:
        """One is declared dead, and does not know it."""
        ship = self.rng.choice(self.fleet.ships)
        self._bury(ship.dispatcher.worker)

    def _bury(self, worker: str) -> None:
        self._query("update continuum_workers set expires_at = clock_timestamp() - interval '1s' where id = %s", worker)

    def _freeze(self) -> None:
        """One stands still at a probe until others have taken what it held; then it goes on, a zombie."""
        ship = self.rng.choice(self.fleet.ships)
        turns = ship.dispatcher._turns
        frozen, thawed = threading.Event(), threading.Event()
        left = self.rng.randint(1, 5)

        where = self.rng.choice(TURNS)

        def strike(name: str) -> None:
            nonlocal left
            if name == where and threading.get_ident() == turns.thread_id:
                left -= 1
                if left == 0:
                    frozen.set()
                    thawed.wait(20)

        worker = ship.dispatcher.worker
        self.weather.strike = strike
        try:
            if frozen.wait(1.0):
                eventually(lambda: self._is_swept(worker), 15, interval=0.01)
        finally:
            self.weather.strike = lambda _name: None
            thawed.set()

    def _is_swept(self, worker: str) -> bool:
        # Again and again: its heartbeat may come before the reaper.
        self._bury(worker)
        held = self._query(
            "select (select count(*) from continuum_runs where lease_owner = %s)"
            " + (select count(*) from continuum_tasks where claimed_by = %s)"
            " + (select count(*) from continuum_workers where id = %s)",
            worker,
            worker,
            worker,
        )
        return held == [(0,)]

    def _lock(self) -> None:
        """Somebody has a look at a few rows, and keeps them locked for a while."""
        table = self.rng.choice(("runs", "runs", "attributes", "tasks", "inbox"))
        self.connection.autocommit = False
        try:
            self._query(f"select * from continuum_{table} order by random() limit 20 for update skip locked")
            self.stopping.wait(self.rng.uniform(0.0, 0.2))
        finally:
            self.connection.rollback()
            self.connection.autocommit = True

    def _cut(self) -> None:
        """The connections of one break."""
        ship = self.rng.choice(self.fleet.ships)
        self._query(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and application_name like %s",
            f"races {ship.name} %",
        )
