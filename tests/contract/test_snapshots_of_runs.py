"""Snapshots: kept beside the history, taken for the events they cover when a run is loaded, passed over if need be."""

import logging
from contextlib import closing

import msgspec
import psycopg2
import pytest

from continuum.journal.memory import MemoryJournal
from continuum.model.events import Event, EventType
from continuum.model.ids import RunId, WorkerId, new_run_id
from continuum.model.leases import ClaimedRun
from continuum.model.snapshots import SNAPSHOT_FORMAT, Snapshot, decode_snapshot, encode_snapshot
from tests.support.journals import Desk, event, grant_of

LATER = SNAPSHOT_FORMAT + 1


def grown(desk: Desk, worker: WorkerId, *, values: int = 10) -> ClaimedRun:
    """Return a run with a history of ``values`` and two more events, held by the worker."""
    run = desk.began(worker, desk.fresh(worker))
    more = [event(EventType.VALUE_RECORDED, command=n, name="v", payload=f'{{"n": {n}}}') for n in range(values)]
    return desk.write(worker, run, *more)


def fold(desk: Desk, run: ClaimedRun, through: int) -> Snapshot:
    snapshot = encode_snapshot(desk.journal.runs.history(run.run_id)[:through])
    assert desk.journal.snapshots.save(run.run_id, snapshot)
    return snapshot


def marked(desk: Desk, run: ClaimedRun, through: int) -> Snapshot:
    """Store a snapshot that says something else than the rows do, to see which of them is loaded."""
    events = desk.journal.runs.history(run.run_id)[:through]
    events[1] = msgspec.structs.replace(events[1], name="from the snapshot")
    snapshot = encode_snapshot(events)
    assert desk.journal.snapshots.save(run.run_id, snapshot)
    return snapshot


def is_marked(events: list[Event]) -> bool:
    return events[1].name == "from the snapshot"


# ------------------------------------------------------------------ keeping


def test_what_is_saved_is_found(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    assert desk.journal.snapshots.find(run.run_id) is None
    snapshot = fold(desk, run, 5)
    assert desk.journal.snapshots.find(run.run_id) == snapshot
    assert decode_snapshot(snapshot) == desk.journal.runs.history(run.run_id)[:5]


def test_a_longer_snapshot_takes_the_place_of_a_shorter_one(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    fold(desk, run, 5)
    longer = fold(desk, run, 9)
    assert desk.journal.snapshots.find(run.run_id) == longer


def test_a_shorter_snapshot_comes_too_late(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    shorter = encode_snapshot(desk.journal.runs.history(run.run_id)[:4])
    longer = fold(desk, run, 5)
    assert not desk.journal.snapshots.save(run.run_id, shorter)
    assert desk.journal.snapshots.find(run.run_id) == longer


def test_one_that_cannot_be_read_is_replaced_by_one_of_its_length(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    assert desk.journal.snapshots.save(run.run_id, Snapshot(5, SNAPSHOT_FORMAT, "nonsense"))
    good = fold(desk, run, 5)
    assert desk.journal.snapshots.find(run.run_id) == good


def test_a_snapshot_of_a_later_release_is_not_replaced_by_an_older_one(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    later = Snapshot(5, LATER, '{"of": "tomorrow"}')
    assert desk.journal.snapshots.save(run.run_id, later)
    assert not desk.journal.snapshots.save(run.run_id, encode_snapshot(desk.journal.runs.history(run.run_id)))
    assert desk.journal.snapshots.find(run.run_id) == later


def test_nothing_is_kept_of_a_run_that_is_unknown_has_ended_or_has_not_come_so_far(
    desk: Desk, worker: WorkerId
) -> None:
    run = grown(desk, worker)
    whole = encode_snapshot(desk.journal.runs.history(run.run_id))
    save = desk.journal.snapshots.save
    assert not save(new_run_id(desk.now_us()), whole)
    assert not save(run.run_id, msgspec.structs.replace(whole, through_seq=whole.through_seq + 1))
    assert save(run.run_id, whole)
    desk.journal.snapshots.discard([run.run_id])
    desk.end(worker, run)
    assert not save(run.run_id, whole)
    assert desk.journal.snapshots.find(run.run_id) is None


def test_snapshots_are_discarded_by_run(desk: Desk, worker: WorkerId) -> None:
    runs = [grown(desk, worker) for _ in range(3)]
    for run in runs:
        fold(desk, run, 5)
    assert desk.journal.snapshots.discard([run.run_id for run in runs[:2]]) == 2
    assert desk.journal.snapshots.discard([run.run_id for run in runs[:2]]) == 0
    assert desk.journal.snapshots.discard([]) == 0
    assert [desk.journal.snapshots.find(run.run_id) is None for run in runs] == [True, True, False]


def test_snapshots_of_ended_runs_are_swept_and_others_are_not(desk: Desk, worker: WorkerId) -> None:
    runs = [grown(desk, worker) for _ in range(4)]
    for run in runs:
        fold(desk, run, 5)
    for run in runs[:3]:
        desk.end(worker, run)
    assert [desk.journal.snapshots.discard_ended(limit=2) for _ in range(3)] == [2, 1, 0]
    assert [desk.journal.snapshots.find(run.run_id) is None for run in runs] == [True, True, True, False]


# ------------------------------------------------------------------ loading


def loads(desk: Desk, worker: WorkerId, run: ClaimedRun) -> list[ClaimedRun]:
    """Return the run as a re-grant and as a claim load it."""
    [regranted] = desk.regrant(worker, grant_of(run))
    desk.signal(run.run_id)
    desk.release(worker, regranted)
    return [regranted, desk.claim_one(worker)]


@pytest.mark.parametrize("through", [1, 2, 7, 12])
def test_a_load_takes_the_snapshot_for_the_events_it_covers(desk: Desk, worker: WorkerId, through: int) -> None:
    run = grown(desk, worker)
    fold(desk, run, through)
    history = desk.journal.runs.history(run.run_id)
    for loaded in loads(desk, worker, run):
        assert loaded.events == history
        assert [type(item.type) for item in loaded.events] == [str] * 12 if desk.wing == "postgres" else True
        assert (loaded.folded, loaded.last_seq, loaded.unreadable) == (through, 12, None)


def test_what_a_snapshot_covers_is_read_from_nowhere_else(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    marked(desk, run, 7)
    for loaded in loads(desk, worker, run):
        assert is_marked(loaded.events)
        assert [item.seq for item in loaded.events] == list(range(1, 13))


def test_the_history_itself_is_read_from_its_rows(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    marked(desk, run, 7)
    assert not is_marked(desk.journal.runs.history(run.run_id))


@pytest.mark.parametrize(
    "body",
    ["nonsense", "{}", '{"shapes":[],"shape":[],"command":[],"payload":[],"at":[]}'],
    ids=["text", "json", "empty"],
)
def test_a_snapshot_that_cannot_be_read_is_passed_over_and_said_once(
    desk: Desk, worker: WorkerId, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = grown(desk, worker)
    assert desk.journal.snapshots.save(run.run_id, Snapshot(7, SNAPSHOT_FORMAT, body))
    with caplog.at_level(logging.WARNING, "continuum.journal"):
        for loaded in loads(desk, worker, run):
            assert loaded.events == desk.journal.runs.history(run.run_id)
            assert loaded.folded == 0
    [line] = [record.message for record in caplog.records]
    assert f"the snapshot of run {run.run_id} is passed over, and its events are loaded: this is no snapshot" in line


def test_a_snapshot_that_goes_on_beyond_the_history_is_passed_over(
    desk: Desk, worker: WorkerId, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """No release writes one. Continued from there, a run could commit nothing, and would be loaded again for ever."""
    short, long = grown(desk, worker, values=5), grown(desk, worker)
    fold(desk, long, 12)
    hand_over(desk, request, long, short)
    with caplog.at_level(logging.WARNING, "continuum.journal"):
        for loaded in loads(desk, worker, short):
            assert loaded.events == desk.journal.runs.history(short.run_id)
            assert (loaded.folded, loaded.last_seq) == (0, 7)
    [line] = [record.message for record in caplog.records]
    assert "it holds 12 events, and the run has 7" in line


def hand_over(desk: Desk, request: pytest.FixtureRequest, one: ClaimedRun, other: ClaimedRun) -> None:
    """Write the snapshot of one run in the place of another's."""
    if isinstance(desk.journal, MemoryJournal):
        kept = desk.journal._store.snapshots
        kept[other.run_id] = kept.pop(one.run_id)
        return
    with closing(psycopg2.connect(request.getfixturevalue("database_url"))) as connection, connection:
        connection.cursor().execute(
            "update continuum_snapshots set run_id = %s where run_id = %s", (other.run_id, one.run_id)
        )


def test_a_snapshot_of_a_later_format_is_passed_over_in_silence(
    desk: Desk, worker: WorkerId, caplog: pytest.LogCaptureFixture
) -> None:
    run = grown(desk, worker)
    assert desk.journal.snapshots.save(run.run_id, Snapshot(7, LATER, '{"of": "tomorrow"}'))
    for loaded in loads(desk, worker, run):
        assert (loaded.events, loaded.folded) == (desk.journal.runs.history(run.run_id), 0)
    assert not caplog.records


def test_among_many_runs_only_those_without_a_readable_snapshot_come_from_their_events(
    desk: Desk, worker: WorkerId
) -> None:
    runs = [grown(desk, worker) for _ in range(6)]
    for run in runs[:4]:
        marked(desk, run, 7)
    for run in runs[2:4]:
        assert desk.journal.snapshots.save(run.run_id, Snapshot(8, SNAPSHOT_FORMAT, "nonsense"))
    for run in runs:
        desk.signal(run.run_id)
    desk.release(worker, *runs)
    found = {loaded.run_id: loaded for loaded in desk.claim(worker)}
    assert [is_marked(found[run.run_id].events) for run in runs] == [True, True, False, False, False, False]
    assert [found[run.run_id].folded for run in runs] == [7, 7, 0, 0, 0, 0]
    assert {len(loaded.events) for loaded in found.values()} == {12}
    assert {len(loaded.mail) for loaded in found.values()} == {1}


def test_a_loaded_run_goes_on_whether_its_snapshot_was_read_or_not(desk: Desk, worker: WorkerId) -> None:
    run = grown(desk, worker)
    fold(desk, run, 7)
    [loaded] = desk.regrant(worker, grant_of(run))
    run = desk.write(worker, loaded, event(EventType.VALUE_RECORDED, command=10, payload="1"))
    assert desk.journal.snapshots.save(run.run_id, Snapshot(8, SNAPSHOT_FORMAT, "nonsense"))
    [loaded] = desk.regrant(worker, grant_of(run))
    run = desk.write(worker, loaded, event(EventType.VALUE_RECORDED, command=11, payload="1"))
    assert [item.seq for item in desk.journal.runs.history(RunId(run.run_id))] == list(range(1, 15))
