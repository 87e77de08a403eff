"""The reaper, and its patience with whoever could not beat because the database was away."""

import math
from collections.abc import Callable
from datetime import timedelta

import pytest

from continuum.errors import JournalUnavailable
from continuum.journal.memory import MemoryJournal
from continuum.model.ids import new_worker_id
from continuum.model.leases import WorkerInfo
from continuum.runtime import reaper as reapers
from continuum.runtime.reaper import Reaper

SECOND = timedelta(seconds=1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(reapers, "time", made)
    return made


@pytest.fixture
def journal() -> MemoryJournal:
    """Return a journal with an expired worker."""
    made = MemoryJournal()
    made.workers.register(WorkerInfo(id=new_worker_id(), hostname="here", pid=1, ttl=timedelta(seconds=-1)))
    return made


def reaper(journal: MemoryJournal, away_at: Callable[[], float] = lambda: -math.inf) -> Reaper:
    return Reaper(journal=journal, interval=30 * SECOND, freed=lambda: None, away_at=away_at, patience=10 * SECOND)


def test_the_expired_are_buried(journal: MemoryJournal, clock: Clock) -> None:
    assert reaper(journal).run_once() == 30
    assert journal.workers.list_workers() == []


def test_nobody_is_buried_soon_after_an_outage(
    journal: MemoryJournal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*, limit: int = 0) -> None:
        raise JournalUnavailable("the database is away")

    made = reaper(journal)
    with monkeypatch.context() as patched:
        patched.setattr(journal.workers, "reap", away)
        made._guarded_pass()
    made.away_at = clock.now
    clock.now += 4
    assert made.run_once() == pytest.approx(6)
    assert len(journal.workers.list_workers()) == 1
    clock.now += 6
    assert made.run_once() == 30
    assert journal.workers.list_workers() == []


def test_an_outage_that_another_service_has_noticed_counts_as_well(journal: MemoryJournal, clock: Clock) -> None:
    made = reaper(journal, away_at=lambda: 995.0)
    assert made.run_once() == pytest.approx(5)
    assert len(journal.workers.list_workers()) == 1
    clock.now += 5
    made.run_once()
    assert journal.workers.list_workers() == []


def test_an_outage_is_noted_by_the_service_that_met_it(journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*, limit: int = 0) -> None:
        raise JournalUnavailable("the database is away")

    made = reaper(journal)
    assert made.away_at == -math.inf
    monkeypatch.setattr(journal.workers, "reap", away)
    made._guarded_pass()
    assert made.away_at > 0
