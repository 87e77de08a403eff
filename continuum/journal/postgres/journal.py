"""Here lives :class:`PostgresJournal`, the journal in Postgres."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Engine

from continuum.errors import ConfigError, JournalUnavailable, SchemaOutdated
from continuum.journal.folding import Snapshots
from continuum.journal.postgres.database import Database, as_configured
from continuum.journal.postgres.forks import forget_after_fork
from continuum.journal.postgres.lines import PostgresLine
from continuum.journal.postgres.notify import PostgresEars, Speaker
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.runs import PostgresRuns
from continuum.journal.postgres.snapshots import PostgresSnapshots
from continuum.journal.postgres.tables import FORMAT
from continuum.journal.postgres.tasks import PostgresTasks
from continuum.journal.postgres.upkeep import PostgresUpkeep
from continuum.journal.postgres.urls import parse_url
from continuum.journal.postgres.workers import PostgresWorkers
from continuum.journal.protocol import Runs, Tasks, Upkeep, Workers
from continuum.journal.requests import Hint, HintKind
from continuum.model.clock import DatabaseClock
from continuum.model.codec import PayloadWrapper

__all__ = ["PostgresJournal"]

# Tables of the format this release knows may still lack the newest columns: it names one of those of each migration
# that its statements cannot do without, and reads none.
_CHECK: Final = """
    select format, release, clock_timestamp(), (extract(epoch from clock_timestamp()) * 1000000)::bigint,
           current_setting('server_encoding'), current_setting('server_version_num')::int
    from continuum_schema
    where not exists (select parent_chain_id, stuck_since from continuum_runs where false)
"""
_OLDEST_SERVER: Final = 140_000


class PostgresJournal:
    """A :class:`~continuum.journal.protocol.Journal` in one schema of one database.

    Nothing is connected before it is used. Survives a fork: the child opens connections of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "public",
        engine: Engine | None = None,
        wrapper: PayloadWrapper | None = None,
        application_name: str = "continuum",
    ) -> None:
        self._database = Database(parse_url(url), schema=schema, engine=engine, application_name=application_name)
        self._payloads = Payloads(wrapper)
        self.clock = DatabaseClock()
        self.runs: Runs = PostgresRuns(self._database, self.clock, self._payloads)
        self.tasks: Tasks = PostgresTasks(self._database, self._payloads)
        self.workers: Workers = PostgresWorkers(self._database, self._payloads)
        self.upkeep: Upkeep = PostgresUpkeep(self._database, self._payloads)
        self.snapshots: Snapshots = PostgresSnapshots(self._database, self._payloads)
        self._open: WeakSet[PostgresLine | PostgresEars] = WeakSet()
        self._opening = threading.Lock()
        self._speaker = Speaker(self._database)
        forget_after_fork(self)

    def after_fork(self) -> None:
        """Leave lines, ears and hints to the parent."""
        self._inherited = (self._open, self._speaker)
        self._open = WeakSet()
        self._opening = threading.Lock()
        self._speaker = Speaker(self._database)

    def check(self) -> datetime:
        """Return the database's time, having seen that this release and the tables fit."""
        asked = self.clock.monotonic_us()
        names = self._database.names
        try:
            with self._database.session() as session:
                rows = session.execute(names.qualify(_CHECK))
        except JournalUnavailable as error:
            raise as_configured(error, self._database.place) from error
        if not rows:
            raise SchemaOutdated(f"{names.quoted}.continuum_schema is empty: {names.migrate_advice}")
        [(form, release, now, now_us, encoding, server)] = rows
        if server < _OLDEST_SERVER:
            raise ConfigError(f"Postgres {server // 10_000} is too old: use 14 or later")
        if encoding != "UTF8":
            raise ConfigError(f"the database's encoding is {encoding}: create it with encoding 'UTF8'")
        if form > FORMAT:
            raise SchemaOutdated(
                f"the tables in schema {names.quoted} have format {form} (of release {release}) and this release"
                f" knows {FORMAT}:"
                " upgrade the package continuum-workflows"
            )
        if form < FORMAT:
            raise SchemaOutdated(
                f"the tables in schema {names.quoted} have format {form}, this release needs {FORMAT}:"
                f" {names.migrate_advice}"
            )
        self.clock.observe(now_us, asked, self.clock.monotonic_us())
        moment: datetime = now
        return moment.astimezone(UTC)

    def open_line(self) -> PostgresLine:
        """Return a new line."""
        line = PostgresLine(self._database, clock=self.clock, payloads=self._payloads, on_close=self._forget)
        self._remember(line)
        return line

    def open_ears(self, kinds: Sequence[HintKind]) -> PostgresEars:
        """Return new ears."""
        ears = PostgresEars(self._database, kinds, on_close=self._forget)
        self._remember(ears)
        return ears

    def hint(self, hint: Hint) -> None:
        """Send a hint, or lose it."""
        self._speaker.say(hint)

    def close(self) -> None:
        """Close everything this journal has opened."""
        with self._opening:
            opened = list(self._open)
        for one in opened:
            one.close()
        self._speaker.close()
        self._database.close()

    def _remember(self, one: PostgresLine | PostgresEars) -> None:
        with self._opening:
            self._open.add(one)

    def _forget(self, one: Any) -> None:
        with self._opening:
            self._open.discard(one)
