"""Sagas on real journals: what happened in the world is taken back, across turns, failures, cancels and dispatchers."""

import asyncio
import threading
from collections import defaultdict
from datetime import timedelta

import pytest

from continuum import (
    ActivityFailed,
    Continuum,
    PermanentError,
    Retry,
    RunCancelled,
    RunFailed,
    activity,
    compensate,
    compensate_all,
    current_attempt,
    saga,
    sleep,
    wait_signal,
    workflow,
)
from continuum.client.timeline import StepKind, timeline
from continuum.model.events import EventType
from tests.support.eventually import eventually

WAIT = 20
QUICK = Retry(max_attempts=3, base=timedelta(milliseconds=5), jitter=timedelta(0))
world: dict[str, list[str]] = defaultdict(list)  # by run: what was done, and undone
gates: dict[str, threading.Event] = defaultdict(threading.Event)


@activity(name="sagas.book", retry=QUICK)
def book(what: str) -> str:
    if what == "car":
        raise PermanentError("no cars")
    world[current_attempt().run_id].append(what)
    return what


@activity(name="sagas.slowly", retry=QUICK)
def book_slowly(what: str) -> str:
    assert gates[current_attempt().run_id].wait(WAIT)
    return book.function(what)


@activity(name="sagas.give_back", retry=QUICK)
async def give_back(what: str) -> str:
    if what == "stubborn" or (what == "flaky" and current_attempt().number < 3):
        raise ValueError(what)
    world[current_attempt().run_id].append(f"-{what}")
    return f"{what} is back"


@workflow(name="sagas.trip")
async def trip(first: str, second: str, parallel: bool) -> str:
    async with saga(parallel=parallel):
        await book(first).compensate(give_back, first)
        await book("hotel").compensate(give_back, "hotel")
        await book(second).compensate(give_back, second)
    return "have a nice trip"


@workflow(name="sagas.waits")
async def waits() -> None:
    async with saga():
        await book("flight").compensate(give_back, "flight")
        await wait_signal("go")


@workflow(name="sagas.late")
async def late() -> list[str]:
    try:
        async with saga() as undo:
            async with asyncio.timeout(0.05):
                await book_slowly("ship").compensate(give_back, "ship")
    except TimeoutError:
        assert undo.outcome is not None
        return [step.activity for step in undo.outcome.undone]
    return []


@workflow(name="sagas.by_hand")
async def by_hand() -> list[str]:
    flight = book("flight").compensate(give_back, "flight")
    hotel = book("hotel").compensate(give_back, "stubborn")
    await asyncio.gather(flight, hotel)
    said = []
    try:
        await compensate(hotel)
    except ActivityFailed as error:
        said.append(error.error_message)
    rollback = await compensate_all()
    return [*said, *(step.result for step in rollback.steps)]


@workflow(name="sagas.forgotten")
async def forgotten() -> str:
    async def part() -> None:
        async with saga():
            await book("flight").compensate(give_back, "flight")
            await sleep(3600)

    task = asyncio.create_task(part())
    await wait_signal("go")
    return "done" if not task.done() else "?"


def undone(continuum: Continuum, run_id: str) -> list[tuple[int | None, str]]:
    steps = timeline(continuum.history(run_id))
    return [(step.undoes, step.state) for step in steps if step.kind is StepKind.COMPENSATION]


@pytest.mark.parametrize("parallel", [False, True])
def test_a_trip_that_cannot_be_made_is_taken_back(continuum: Continuum, parallel: bool) -> None:
    with continuum.running():
        handle = continuum.start(trip, "flight", "car", parallel)
        with pytest.raises(RunFailed, match="no cars"):
            handle.result(timeout=WAIT)
        done = world[handle.id]
        assert done[:2] == ["flight", "hotel"]
        assert done[2:] == ["-hotel", "-flight"] if not parallel else sorted(done[2:]) == ["-flight", "-hotel"]
        assert undone(continuum, handle.id) == [(1, "done"), (0, "done")]
        assert continuum.start(trip, "flight", "boat", parallel).result(timeout=WAIT) == "have a nice trip"


def test_compensations_are_retried_and_a_hopeless_one_stops_no_other(continuum: Continuum) -> None:
    with continuum.running():
        flaky = continuum.start(trip, "flaky", "car", False)
        hopeless = continuum.start(trip, "stubborn", "car", False)
        with pytest.raises(RunFailed):
            flaky.result(timeout=WAIT)
        assert world[flaky.id] == ["flaky", "hotel", "-hotel", "-flaky"]
        with pytest.raises(RunFailed, match="no cars") as caught:
            hopeless.result(timeout=WAIT)
        assert "compensation sagas.give_back of sagas.book (command 0) failed" in caught.value.remote_traceback
        assert undone(continuum, hopeless.id) == [(1, "done"), (0, "failed")]


def test_a_cancelled_run_is_rolled_back_and_then_cancelled(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(waits)
        eventually(lambda: world[handle.id] == ["flight"], WAIT)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
        assert world[handle.id] == ["flight", "-flight"]


def test_what_succeeds_after_its_timeout_is_taken_back(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(late)
        eventually(lambda: any(e.type == EventType.TIMER_FIRED for e in continuum.history(handle.id)), WAIT)
        gates[handle.id].set()
        assert handle.result(timeout=WAIT) == ["sagas.give_back"]
        assert world[handle.id] == ["ship", "-ship"]
        assert EventType.ACTIVITY_CANCELLED not in [e.type for e in continuum.history(handle.id)]


def test_calls_are_compensated_by_hand(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(by_hand)
        assert handle.result(timeout=WAIT) == ["stubborn", "flight is back"]
        assert sorted(world[handle.id]) == ["-flight", "flight", "hotel"]


def test_a_run_does_not_end_before_the_rollback_of_a_saga_left_behind(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(forgotten)
        eventually(lambda: world[handle.id] == ["flight"], WAIT)
        handle.signal("go")
        assert handle.result(timeout=WAIT) == "done"
        assert world[handle.id] == ["flight", "-flight"]


def test_a_rollback_goes_on_with_another_dispatcher(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(waits)
        eventually(lambda: world[handle.id] == ["flight"], WAIT)
    handle.cancel()
    with continuum.running():
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
    assert world[handle.id] == ["flight", "-flight"]
