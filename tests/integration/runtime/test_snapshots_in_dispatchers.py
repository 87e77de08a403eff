"""Dispatchers and snapshots: made as runs grow, used when they are loaded, gone when they end, and never noticed."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from continuum import Continuum, RunHandle, patched, wait_signal, workflow
from continuum.errors import JournalError, JournalUnavailable
from continuum.journal.protocol import Journal
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun
from continuum.model.runs import RunState
from continuum.model.snapshots import SNAPSHOT_FORMAT, Snapshot, decode_snapshot
from continuum.runtime.maintenance import Maintenance
from continuum.runtime.turns.turning import Turner
from tests.integration.runtime import flows
from tests.integration.runtime.test_disasters import SETTINGS
from tests.support.eventually import eventually

WAIT = 20
ROUNDS = 4


@workflow(name="snapshots.relay")
async def relay(rounds: int) -> list[int]:
    """Do a step and wait for a signal, again and again."""
    done = []
    for number in range(rounds):
        done.append(await flows.double(number))
        if patched("taken"):
            done.append(await wait_signal("go"))
    return done


@workflow(name="snapshots.eager", snapshots=3)
async def eager(rounds: int) -> list[int]:
    return await relay.function(rounds)


@workflow(name="snapshots.never", snapshots=False)
async def never(rounds: int) -> list[int]:
    return await relay.function(rounds)


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Note how many events of each load came from a snapshot."""
    found: dict[str, list[int]] = {}
    admit = Turner.admit

    def noted(self: Turner, run: ClaimedRun) -> Any:
        found.setdefault(run.run_id, []).append(run.folded)
        return admit(self, run)

    monkeypatch.setattr(Turner, "admit", noted)
    return found


@pytest.fixture
def instance(journal: Journal) -> Iterator[Continuum]:
    with Continuum(journal=journal, **{**SETTINGS, "snapshot_threshold": 5}) as made:
        yield made


@pytest.fixture
def plain(journal: Journal) -> Iterator[Continuum]:
    """Yield an instance that makes no snapshots of its own."""
    with Continuum(journal=journal, **{**SETTINGS, "snapshot_threshold": None}) as made:
        yield made


def parked(handle: RunHandle[Any], number: int) -> bool:
    """Whether a relay waits in this round: six events in the first, with the marker, and four more in each other."""
    return handle.refresh().state == RunState.SUSPENDED and len(handle.history()) == 6 + 4 * number


def wait_parked(handle: RunHandle[Any], number: int) -> None:
    eventually(lambda: parked(handle, number), WAIT)


def play(handle: RunHandle[Any], number: int) -> None:
    """Let a run, which a dispatcher has or will have, pass one round."""
    wait_parked(handle, number)
    handle.signal("go", number)
    eventually(lambda: handle.refresh().state == RunState.COMPLETED or parked(handle, number + 1), WAIT)


RESULT = [0, 0, 2, 1, 4, 2, 6, 3]


def snapshot_of(journal: Journal, handle: RunHandle[Any]) -> Snapshot | None:
    return journal.snapshots.find(RunId(handle.id))


def test_a_run_that_grows_is_loaded_from_its_snapshot_and_loses_it_when_it_ends(
    instance: Continuum, journal: Journal, folded: dict[str, list[int]]
) -> None:
    handle = instance.start(relay, 2)
    with instance.running():
        eventually(lambda: snapshot_of(journal, handle) is not None, WAIT)
        kept = snapshot_of(journal, handle)
        assert kept is not None
        assert kept.through_seq >= 5
        assert decode_snapshot(kept) == handle.history()[: kept.through_seq]
    with instance.running():
        play(handle, 0)
        play(handle, 1)
        assert handle.result(timeout=WAIT) == [0, 0, 2, 1]
        eventually(lambda: snapshot_of(journal, handle) is None, WAIT)
    first, *others = folded[handle.id]
    assert first == 0
    assert others
    assert min(others) >= 5


def test_nothing_but_the_load_is_different(instance: Continuum, plain: Continuum) -> None:
    histories = []
    for one in (instance, plain):
        handle = one.start(relay, ROUNDS)
        for number in range(ROUNDS):
            with one.running():
                play(handle, number)
        assert handle.result(timeout=WAIT) == RESULT
        histories.append([(e.seq, e.type, e.command, e.name, e.location) for e in handle.history()])
    assert histories[0] == histories[1]


def test_a_workflows_own_threshold_goes_first(plain: Continuum, instance: Continuum, journal: Journal) -> None:
    own = plain.start(eager, 1)
    with plain.running():
        eventually(lambda: snapshot_of(journal, own) is not None, WAIT)
        none = plain.start(relay, 1)
        wait_parked(none, 0)
    with instance.running():
        off = instance.start(never, 1)
        wait_parked(off, 0)
        others = instance.start(relay, 1)
        eventually(lambda: snapshot_of(journal, others) is not None, WAIT)
        none.signal("go", 0)
        off.signal("go", 0)
        assert none.result(timeout=WAIT) == off.result(timeout=WAIT) == [0, 0]
    assert snapshot_of(journal, none) is None
    assert snapshot_of(journal, off) is None


@pytest.mark.parametrize(
    "bad",
    [Snapshot(5, SNAPSHOT_FORMAT, "nonsense"), Snapshot(5, SNAPSHOT_FORMAT + 1, "{}")],
    ids=["unreadable", "of a later release"],
)
def test_a_snapshot_that_cannot_be_used_is_passed_over(
    instance: Continuum, journal: Journal, bad: Snapshot, folded: dict[str, list[int]]
) -> None:
    handle = instance.start(relay, 2)
    with instance.running():
        eventually(lambda: snapshot_of(journal, handle) is not None, WAIT)
    journal.snapshots.discard([RunId(handle.id)])
    assert journal.snapshots.save(RunId(handle.id), bad)
    with instance.running():
        play(handle, 0)
        play(handle, 1)
        assert handle.result(timeout=WAIT) == [0, 0, 2, 1]
    assert set(folded[handle.id]) == {0}


@pytest.mark.parametrize(
    "error", [JournalError("refused"), JournalUnavailable("away"), RuntimeError("a bug"), MemoryError()]
)
def test_whatever_fails_when_a_snapshot_is_made_the_run_goes_on(
    instance: Continuum, journal: Journal, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail(*_args: Any) -> bool:
        tried.append(1)
        raise error

    monkeypatch.setattr(type(journal.snapshots), "save", fail)
    handle = instance.start(relay, ROUNDS)
    with instance.running():
        for number in range(ROUNDS):
            play(handle, number)
        assert handle.result(timeout=WAIT) == RESULT
    eventually(lambda: bool(tried), WAIT)
    assert snapshot_of(journal, handle) is None


def test_the_snapshot_of_a_run_that_was_terminated_is_swept(instance: Continuum, journal: Journal) -> None:
    handle = instance.start(relay, 2)
    with instance.running():
        eventually(lambda: snapshot_of(journal, handle) is not None, WAIT)
    handle.terminate("enough")
    assert snapshot_of(journal, handle) is not None
    Maintenance(journal=journal, months_ahead=1).run_once()
    assert snapshot_of(journal, handle) is None


def test_a_run_is_named_once_for_so_many_events(
    instance: Continuum, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "continuum.runtime"), instance.running(snapshot_threshold=8):
        handle = instance.start(flows.sequence, 20)
        assert handle.result(timeout=WAIT) == 20
        waits = instance.start(relay, 1)
        wait_parked(waits, 0)
    made = [record.getMessage() for record in caplog.records if record.getMessage().startswith("snapshot of run")]
    # 43 events: at 8, 16, 24, … at most, fewer if the maker was slower than the run.
    assert len(made) <= 43 // 8
    assert not any(waits.id in line for line in made)
