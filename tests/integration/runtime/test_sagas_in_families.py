"""Sagas in families, and in runs that are terminated or fall out of memory: each undoes its own, on every journal."""

from typing import Any

import pytest

from continuum import (
    ActivityFailed,
    ChildCancelled,
    Continuum,
    RunCancelled,
    RunFailed,
    activity,
    saga,
    start_child,
    wait_signal,
    workflow,
)
from continuum.model.events import EventType
from tests.support.eventually import eventually

WAIT = 30


class World:
    """What has been done and not undone, and what was undone."""

    def __init__(self) -> None:
        self.booked: list[str] = []
        self.undone: list[str] = []


world = World()


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    world.booked, world.undone = [], []


@activity(name="kinsagas.book", retry=1)
def book(what: str) -> str:
    if what == "nothing":
        raise ValueError("there is nothing to book")
    world.booked.append(what)
    return what


@activity(name="kinsagas.give_back")
def give_back(what: str) -> None:
    world.booked.remove(what)
    world.undone.append(what)


@workflow(name="kinsagas.trip")
async def trip(items: list[str]) -> None:
    """Book one after the other, and wait."""
    async with saga():
        for item in items:
            await book(item).compensate(give_back, item)
        await wait_signal("go")


@workflow(name="kinsagas.journey")
async def journey() -> None:
    """A booking of its own, and a child that has booked and waits."""
    async with saga():
        await book("ticket").compensate(give_back, "ticket")
        await start_child(trip, ["room"])


@workflow(name="kinsagas.family")
async def family(what: str) -> str:
    """A child that is undone by an activity of its parent."""
    try:
        async with saga():
            await start_child(trip, ["room"], key="room").compensate(give_back, "room")
            await book(what)
    except ActivityFailed:
        return "undone"
    return "kept"


def suspended(continuum: Continuum, run_id: str) -> None:
    eventually(lambda: continuum.get(run_id).state == "suspended", WAIT)


def compensations(continuum: Continuum, run_id: str) -> int:
    return sum(event.type == EventType.COMPENSATION_SCHEDULED for event in continuum.history(run_id))


def test_a_terminated_run_undoes_nothing(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(trip, ["flight"])
        suspended(continuum, handle.id)
        handle.terminate()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
    assert (world.booked, compensations(continuum, handle.id)) == (["flight"], 0)


def test_parent_and_child_each_undo_their_own(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(journey)
        eventually(lambda: sorted(world.booked) == ["room", "ticket"], WAIT)
        [child] = eventually(lambda: continuum.search({"parent_id": handle.id}).runs, WAIT)
        suspended(continuum, child.id)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
        eventually(lambda: continuum.get(child.id).state == "cancelled", WAIT)
    assert (world.booked, sorted(world.undone)) == ([], ["room", "ticket"])


def test_a_child_that_is_cancelled_undoes_and_its_parent_undoes_after_it(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(journey)
        [child] = eventually(lambda: continuum.search({"parent_id": handle.id}).runs, WAIT)
        suspended(continuum, child.id)
        continuum.cancel(child.id)
        with pytest.raises(RunFailed, match=ChildCancelled.__name__):
            handle.result(timeout=WAIT)
    assert world.undone == ["room", "ticket"]


@pytest.mark.parametrize(("what", "told", "left"), [("car", "kept", ["room", "car"]), ("nothing", "undone", [])])
def test_a_completed_child_is_undone_by_its_parent(continuum: Continuum, what: str, told: str, left: list[str]) -> None:
    with continuum.running():
        handle = continuum.start(family, what)
        [child] = eventually(lambda: continuum.search({"parent_id": handle.id}).runs, WAIT)
        continuum.signal(child.id, "go")
        assert handle.result(timeout=WAIT) == told
    assert world.booked == left


def test_sagas_of_runs_that_fall_out_of_memory_are_undone(continuum: Continuum) -> None:
    settings: dict[str, Any] = {"cached_runs": 1, "active_runs": 2}
    with continuum.running(**settings):
        handles = [continuum.start(trip, [f"{number}/flight", f"{number}/hotel"]) for number in range(8)]
        for handle in handles:
            suspended(continuum, handle.id)
        for handle in handles:
            handle.cancel()
        for handle in handles:
            with pytest.raises(RunCancelled):
                handle.result(timeout=WAIT)
    assert world.booked == []
    assert len(world.undone) == 16
