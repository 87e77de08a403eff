"""Here live both wings of the journal as the protocol tests need them: with a clock, a lock and an open transaction."""

from collections.abc import Callable
from functools import partial

import psycopg2

from continuum.errors import RunTerminal
from continuum.journal.memory import MemoryJournal
from continuum.journal.protocol import Journal
from continuum.model.messages import NewMessage
from tests.support.dispatches import age_in_memory, age_in_postgres
from tests.support.eventually import eventually
from tests.support.journals import row_locked
from tests.support.protocol_setting import Wing

__all__ = ["memory_wing", "postgres_wing"]


class ManualClock:
    def __init__(self) -> None:
        self.at = 1_700_000_000_000_000

    def now(self) -> int:
        self.at += 1
        return self.at

    def pass_until(self, at: int) -> None:
        self.at = max(self.at, at)


def memory_wing(make: Callable[[Callable[[], int]], MemoryJournal]) -> Wing:
    clock = ManualClock()
    journal = make(clock.now)

    def begin_post(message: NewMessage) -> Callable[[], object]:
        return lambda: journal.runs.post(message)

    def count() -> tuple[int, int]:
        return len(journal._store.runs), sum(len(box) for box in journal._store.inbox.values())

    return Wing(
        journal, journal.locked, begin_post, clock.now, clock.pass_until, count, partial(age_in_memory, journal)
    )


def postgres_wing(journal: Journal, url: str) -> Wing:
    journal.check()

    def begin_post(message: NewMessage) -> Callable[[], object]:
        connection = psycopg2.connect(url)
        try:
            journal.runs.post(message, connection=connection)
        except RunTerminal:
            connection.rollback()
            connection.close()
            raise

        def commit() -> None:
            connection.commit()
            connection.close()

        return commit

    counting = psycopg2.connect(url)
    counting.autocommit = True

    def count() -> tuple[int, int]:
        with counting.cursor() as cursor:
            cursor.execute("select (select count(*) from continuum_runs), (select count(*) from continuum_inbox)")
            [(runs, messages)] = cursor.fetchall()
            return runs, messages

    def database_us() -> int:
        return round(journal.check().timestamp() * 1_000_000)

    return Wing(
        journal,
        partial(row_locked, url),
        begin_post,
        journal.clock.now_us,
        lambda at: eventually(lambda: min(database_us(), journal.clock.now_us()) > at, interval=0.001),
        count,
        partial(age_in_postgres, url),
        counting.close,
    )
