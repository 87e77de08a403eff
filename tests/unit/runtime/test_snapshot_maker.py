"""Who makes snapshots: when a run wants one, what is read and written, and that no failure concerns anybody."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from continuum.errors import JournalError, JournalUnavailable
from continuum.journal.memory import MemoryJournal
from continuum.model.events import EventType
from continuum.model.ids import RunId, WorkerId, new_run_id
from continuum.model.leases import ClaimedRun
from continuum.model.snapshots import SNAPSHOT_FORMAT, Snapshot, decode_snapshot
from continuum.runtime.snapshots import SnapshotMaker
from continuum.runtime.turns.growth import Growth, fold_at
from continuum.telemetry.probes import armed
from tests.support.journals import Desk, event

MEGABYTE = 1024 * 1024


class Histories:
    """``Journal.runs`` and ``Journal.snapshots``, counted, and failing when told to."""

    def __init__(self, store: Any, told: list[tuple[str, Any]], fail: Callable[[str], None]) -> None:
        self._store = store
        self._told = told
        self._fail = fail

    def history(self, run_id: RunId, *, after: int = 0, limit: int | None = None) -> Any:
        self._told.append(("history", after))
        self._fail("history")
        return self._store.history(run_id, after=after, limit=limit)

    def find(self, run_id: RunId) -> Snapshot | None:
        self._told.append(("find", None))
        self._fail("find")
        found: Snapshot | None = self._store.find(run_id)
        return found

    def save(self, run_id: RunId, snapshot: Snapshot) -> bool:
        self._told.append(("save", snapshot.through_seq))
        self._fail("save")
        return bool(self._store.save(run_id, snapshot))

    def discard(self, run_ids: list[RunId]) -> int:
        self._told.append(("discard", len(run_ids)))
        self._fail("discard")
        return int(self._store.discard(run_ids))


class Scene:
    """A maker over a memory journal, and a run to grow."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.desk = Desk(self.journal, wing="memory", locked=self.journal.locked)
        self.worker: WorkerId = self.desk.make_worker()
        self.asked: list[tuple[str, Any]] = []
        self.failures: dict[str, Exception] = {}
        self.growth = Growth()
        self.maker = self.make()

    def make(self, *, max_bytes: int = MEGABYTE) -> SnapshotMaker:
        fields = {
            "runs": Histories(self.journal.runs, self.asked, self._fail),
            "snapshots": Histories(self.journal.snapshots, self.asked, self._fail),
        }
        journal: Any = type("Journal", (), fields)()
        self.maker = SnapshotMaker(journal=journal, growth=self.growth, max_bytes=max_bytes)
        return self.maker

    def _fail(self, what: str) -> None:
        if what in self.failures:
            raise self.failures[what]

    def grown(self, events: int) -> ClaimedRun:
        """Return a run with so many events."""
        return self.grow(self.desk.began(self.worker, self.desk.fresh(self.worker)), events - 2)

    def grow(self, run: ClaimedRun, events: int, *, payload: str = "1") -> ClaimedRun:
        more = [event(EventType.VALUE_RECORDED, command=n, name="v", payload=payload) for n in range(events)]
        return self.desk.write(self.worker, run, *more)

    def kept(self, run: ClaimedRun) -> Snapshot | None:
        return self.journal.snapshots.find(run.run_id)


def done(_run: ClaimedRun) -> None:
    pass


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    with closing(made.desk):
        yield made


# ------------------------------------------------------------------ when


def test_a_run_wants_a_snapshot_at_its_threshold_and_again_after_as_many_events() -> None:
    assert fold_at(5, 0) == 5
    assert fold_at(5, 5) == 10


def test_a_long_history_is_written_again_only_when_it_has_grown_by_a_quarter() -> None:
    """Otherwise a run of n events would write n²/threshold of them."""
    assert fold_at(1_000, 100_000) == 125_000
    written, at = 0, fold_at(100, 0)
    while at <= 100_000:
        written += at
        at = fold_at(100, at)
    assert written < 5 * 100_000


def test_without_a_threshold_a_run_never_wants_one() -> None:
    assert fold_at(None, 0) == fold_at(None, 10**6) == sys.maxsize


def test_what_is_said_is_taken_once_and_rings() -> None:
    growth, rung = Growth(), []
    growth.heard = lambda: rung.append(1)
    a, b = new_run_id(1), new_run_id(2)
    growth.grew(a)
    growth.grew(b)
    growth.ended(a)
    assert len(rung) == 3
    assert growth.take_ended() == [a]
    assert growth.take_ended() == []
    assert [growth.take_grown() for _ in range(3)] == [a, b, None]


def test_what_nobody_takes_does_not_pile_up() -> None:
    growth = Growth()
    for number in range(5_000):
        growth.grew(new_run_id(number))
        growth.ended(new_run_id(number))
    assert len(growth.take_ended()) == 1_000
    assert sum(growth.take_grown() is not None for _ in range(5_000)) == 1_000


# ------------------------------------------------------------------ what


def test_a_grown_run_gets_a_snapshot_of_all_it_has_journaled(scene: Scene) -> None:
    run = scene.grown(6)
    scene.growth.grew(run.run_id)
    scene.maker.run_once()
    kept = scene.kept(run)
    assert kept is not None
    assert (kept.through_seq, kept.format) == (6, SNAPSHOT_FORMAT)
    assert decode_snapshot(kept) == scene.journal.runs.history(run.run_id)


def test_a_new_snapshot_extends_the_last_one_by_what_came_after_it(scene: Scene) -> None:
    run = scene.grown(6)
    assert scene.maker.fold(run.run_id)
    scene.asked.clear()
    run = scene.grow(run, 3)
    assert scene.maker.fold(run.run_id)
    assert scene.asked == [("find", None), ("history", 6), ("save", 9)]
    kept = scene.kept(run)
    assert kept is not None
    assert decode_snapshot(kept) == scene.journal.runs.history(run.run_id)


def test_nothing_new_is_nothing_written(scene: Scene) -> None:
    run = scene.grown(6)
    assert scene.maker.fold(run.run_id)
    scene.asked.clear()
    assert not scene.maker.fold(run.run_id)
    assert scene.asked == [("find", None), ("history", 6)]


def test_a_history_is_only_read_when_a_run_was_named(scene: Scene) -> None:
    scene.grown(6)
    scene.maker.run_once()
    assert scene.asked == []


@pytest.mark.parametrize("body", ["nonsense", '{"shapes":[],"shape":[],"command":[],"payload":[],"at":[]}'])
def test_a_last_snapshot_that_cannot_be_read_is_made_anew(scene: Scene, body: str) -> None:
    run = scene.grown(6)
    assert scene.journal.snapshots.save(run.run_id, Snapshot(4, SNAPSHOT_FORMAT, body))
    assert scene.maker.fold(run.run_id)
    kept = scene.kept(run)
    assert kept is not None
    assert decode_snapshot(kept) == scene.journal.runs.history(run.run_id)


def test_a_last_snapshot_of_a_later_release_is_left_to_it(scene: Scene) -> None:
    run = scene.grown(6)
    later = Snapshot(4, SNAPSHOT_FORMAT + 1, "tomorrow's")
    assert scene.journal.snapshots.save(run.run_id, later)
    assert not scene.maker.fold(run.run_id)
    assert scene.kept(run) == later
    assert scene.asked == [("find", None)]


def test_a_run_that_is_gone_is_no_matter(scene: Scene) -> None:
    scene.growth.grew(new_run_id(scene.desk.now_us()))
    scene.maker.run_once()
    assert scene.asked[-1] == ("history", 0)


def test_the_snapshots_of_runs_that_have_ended_are_deleted_in_one_go(scene: Scene) -> None:
    runs = [scene.grown(6) for _ in range(3)]
    for run in runs:
        assert scene.maker.fold(run.run_id)
        scene.growth.ended(run.run_id)
    scene.asked.clear()
    scene.maker.run_once()
    assert scene.asked == [("discard", 3)]
    assert [scene.kept(run) for run in runs] == [None] * 3


# ------------------------------------------------------------------ size


def test_a_history_that_is_too_large_is_said_and_read_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    run = scene.grow(scene.grown(6), 1, payload='"' + "x" * 900 + '"')
    maker = scene.make(max_bytes=1_000)
    with caplog.at_level(logging.INFO, "continuum.runtime"):
        assert not maker.fold(run.run_id)
        scene.asked.clear()
        assert not maker.fold(run.run_id)
    assert scene.asked == []
    assert scene.kept(run) is None
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the history of run {run.run_id} is too large for a snapshot (its 7 events take 1,")
    assert "max_snapshot_bytes is 1,000" in line


def test_the_last_snapshot_that_was_small_enough_stays(scene: Scene) -> None:
    run = scene.grown(6)
    maker = scene.make(max_bytes=1_000)
    assert maker.fold(run.run_id)
    run = scene.grow(run, 1, payload='"' + "x" * 5_000 + '"')
    assert not maker.fold(run.run_id)
    kept = scene.kept(run)
    assert kept is not None
    assert kept.through_seq == 6


def test_what_is_far_too_large_is_not_even_gathered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continuum.runtime.snapshots._PAGE", 4)
    run = scene.grow(scene.grown(2), 20, payload='"' + "x" * 300 + '"')
    assert not scene.make(max_bytes=1_000).fold(run.run_id)
    assert scene.asked == [("find", None), ("history", 0), ("history", 4)]


def test_large_payloads_are_not_gathered_far_beyond_what_a_snapshot_may_hold(scene: Scene) -> None:
    """Reading is what takes the memory: the run itself, which grew here, holds none of its history."""
    run = scene.grow(scene.grown(2), 2_000, payload='"' + "x" * 10_000 + '"')
    assert not scene.make(max_bytes=MEGABYTE).fold(run.run_id)
    assert scene.asked == [("find", None), ("history", 0)]


def test_a_long_history_is_read_in_pages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continuum.runtime.snapshots._PAGE", 4)
    run = scene.grown(10)
    assert scene.maker.fold(run.run_id)
    assert [what for what in scene.asked if what[0] == "history"] == [("history", 0), ("history", 4), ("history", 8)]
    kept = scene.kept(run)
    assert kept is not None
    assert decode_snapshot(kept) == scene.journal.runs.history(run.run_id)


# ------------------------------------------------------------------ failures


@pytest.mark.parametrize("where", ["find", "history", "save"])
@pytest.mark.parametrize("error", [JournalError("refused"), RuntimeError("a bug")])
def test_a_failure_is_logged_and_the_next_run_gets_its_snapshot(
    scene: Scene, where: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    run, other = scene.grown(6), scene.grown(6)
    scene.growth.grew(run.run_id)
    scene.failures[where] = error
    scene.maker.run_once()
    scene.failures.clear()
    assert f"no snapshot of run {run.run_id} was made" in caplog.text
    scene.growth.grew(other.run_id)
    scene.maker.run_once()
    assert scene.kept(run) is None
    assert scene.kept(other) is not None


@pytest.mark.parametrize("where", ["find", "history", "save"])
def test_a_journal_that_is_away_is_told_to_the_service_and_costs_one_snapshot(scene: Scene, where: str) -> None:
    run = scene.grown(6)
    scene.growth.grew(run.run_id)
    scene.failures[where] = JournalUnavailable("away")
    with pytest.raises(JournalUnavailable):
        scene.maker.run_once()
    scene.failures.clear()
    scene.maker.run_once()
    assert scene.kept(run) is None


def test_a_delete_that_fails_is_left_to_maintenance(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    run, other = scene.grown(6), scene.grown(6)
    assert scene.maker.fold(run.run_id)
    scene.growth.ended(run.run_id)
    scene.growth.grew(other.run_id)
    scene.failures["discard"] = JournalError("refused")
    scene.maker.run_once()
    assert "were not deleted: refused" in caplog.text
    assert scene.kept(other) is not None


def test_what_is_journaled_between_reading_and_writing_is_for_the_next_one(scene: Scene) -> None:
    run = scene.grown(6)
    with armed("snapshot.read", lambda: done(scene.grow(run, 2))):
        assert scene.maker.fold(run.run_id)
    kept = scene.kept(run)
    assert kept is not None
    assert kept.through_seq == 6
    assert scene.maker.fold(run.run_id)
    again = scene.kept(run)
    assert again is not None
    assert decode_snapshot(again) == scene.journal.runs.history(run.run_id)
    assert again.through_seq == 8


def test_a_run_that_ends_between_reading_and_writing_keeps_no_snapshot(scene: Scene) -> None:
    run = scene.grown(6)
    with armed("snapshot.read", lambda: done(scene.desk.end(scene.worker, run))):
        assert not scene.maker.fold(run.run_id)
    assert scene.kept(run) is None


def test_a_maker_that_is_to_stop_takes_no_more_runs(scene: Scene) -> None:
    run = scene.grown(6)
    scene.growth.grew(run.run_id)
    scene.maker.stop()
    scene.maker.run_once()
    assert scene.asked == []
