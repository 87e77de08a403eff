"""The memory wing's own: names, clocks, locks. All else is in the contract suite."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from continuum.errors import ConfigError, JournalUnavailable
from continuum.journal.memory import MemoryJournal
from continuum.journal.requests import Hint, HintKind
from continuum.model.ids import RunId
from tests.support.journals import HOUR, Desk

NAME = "memory-journal-test"


@pytest.fixture
def name() -> Iterator[str]:
    yield NAME
    MemoryJournal.forget(NAME)


def desk_on(journal: MemoryJournal) -> Desk:
    return Desk(journal, wing="memory", locked=journal.locked)


def make_run(journal: MemoryJournal) -> RunId:
    desk = desk_on(journal)
    run_id = desk.make_run()
    desk.close()
    return run_id


def test_journals_of_one_name_share_what_they_store(name: str) -> None:
    with closing(MemoryJournal(name)) as one, closing(MemoryJournal(name)) as two:
        run_id = make_run(one)
        assert two.runs.find(run_id) is not None


def test_a_named_store_outlives_its_journals_until_it_is_forgotten(name: str) -> None:
    with closing(MemoryJournal(name)) as one:
        run_id = make_run(one)
    with closing(MemoryJournal(name)) as two:
        assert two.runs.find(run_id) is not None
    MemoryJournal.forget(name)
    with closing(MemoryJournal(name)) as three:
        assert three.runs.find(run_id) is None


def test_journals_without_a_name_share_nothing() -> None:
    with closing(MemoryJournal()) as one, closing(MemoryJournal()) as two:
        assert two.runs.find(make_run(one)) is None


def test_hints_cross_between_journals_of_one_name(name: str) -> None:
    with closing(MemoryJournal(name)) as one, closing(MemoryJournal(name)) as two:
        ears = two.open_ears([HintKind.START])
        one.hint(Hint(HintKind.START))
        assert ears.hear() == [Hint(HintKind.START)]


def test_closing_one_journal_leaves_the_lines_of_another_open(name: str) -> None:
    one, two = MemoryJournal(name), MemoryJournal(name)
    line = two.open_line()
    one.close()
    assert line.receive() is None
    two.close()
    with pytest.raises(JournalUnavailable):
        line.receive()
    with pytest.raises(JournalUnavailable):
        two.open_line()


def test_a_manual_clock_is_the_only_clock() -> None:
    at = [1_000_000]
    with closing(MemoryJournal(now=lambda: at[0])) as journal:
        desk = desk_on(journal)
        worker = desk.make_worker(ttl=timedelta(seconds=1))
        run = desk.fresh(worker)
        assert desk.stick(worker, run, backoff=timedelta(milliseconds=10))
        assert journal.clock.now_us() == 1_000_000
        assert desk.claim(worker) == []
        at[0] += 10_000
        desk.release(worker, desk.claim_one(worker))
        at[0] = 2_000_000
        assert journal.workers.reap().workers == ()  # it expires the moment after its last one
        at[0] += 1
        assert journal.workers.reap().workers == (worker,)
        desk.close()


def test_a_named_store_keeps_its_clock(name: str) -> None:
    def now() -> int:
        return 5

    with closing(MemoryJournal(name, now=now)) as one, closing(MemoryJournal(name)) as two:
        assert one.check() == two.check()
        with pytest.raises(ConfigError, match="another name"):
            MemoryJournal(name, now=lambda: 6)


def test_locked_rows_are_skipped_and_free_again_afterwards() -> None:
    with closing(MemoryJournal()) as journal:
        desk = desk_on(journal)
        worker = desk.make_worker(HOUR)
        run_id = desk.make_run()
        with journal.locked(run_id), journal.locked(run_id):
            assert desk.claim(worker) == []
        assert desk.claim_one(worker).run_id == run_id
        desk.close()
