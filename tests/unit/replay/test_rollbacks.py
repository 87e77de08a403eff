"""A rollback comes to its end, whatever exceptions and tasks it meets."""

import asyncio
import contextlib
import sys
from dataclasses import dataclass

import pytest

from continuum.model.events import EventType
from continuum.replay.effects.saga import compensate, compensate_all, saga
from continuum.replay.effects.signal import wait_signal
from tests.replay.lab import Lab, act, kid
from tests.support.undoing import Undoes, undone

undo_a, undo_b = Undoes("undo_a"), Undoes("undo_b")


def test_an_exception_that_takes_no_notes_stops_no_rollback():
    @dataclass(frozen=True)
    class Rejected(Exception):
        order: str

    async def flow():
        async with saga():
            await act("a").compensate(undo_a)
            await act("b").compensate(undo_b)
            raise Rejected("o1")

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.complete(1)
    lab.fail(2)
    assert [(name, undoes) for _, name, undoes, _ in undone(lab)] == [("undo_b", 1), ("undo_a", 0)]
    lab.complete(3)
    assert lab.failure.type_name.endswith("Rejected")
    assert [line.message.partition(":")[0] for line in lab.logs] == ["compensation undo_b of b (command 1) failed"]
    lab.replays()


def test_a_block_begun_by_a_task_that_was_asked_to_leave_is_left_as_well():
    async def late():
        async with saga():
            await act("late").compensate(undo_b)
            await wait_signal("never")

    async def worker():
        async with saga():
            with contextlib.suppress(asyncio.CancelledError):
                await wait_signal("never")
            # It was told to leave, and ends well, with more work begun.
            tasks.append(asyncio.create_task(late()))
            await asyncio.sleep(0)

    tasks = []

    async def flow():
        async with saga():
            await act("a").compensate(undo_a)
            tasks.append(asyncio.create_task(worker()))
            await act("b")
            raise ValueError

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.complete(next(e.command for e in lab.history if e.name == "b"))
    late_call = next(e.command for e in lab.history if e.name == "late" and e.type == EventType.ACTIVITY_SCHEDULED)
    assert undone(lab) == [] and not lab.ended
    lab.complete(late_call)
    lab.run()
    assert [(name, undoes) for _, name, undoes, _ in undone(lab)] == [("undo_b", late_call), ("undo_a", 0)]
    assert lab.failure.type_name == "ValueError"
    lab.replays()


@pytest.mark.parametrize("outer", [True, False])
def test_what_was_asked_for_by_hand_is_undone_though_its_block_ends_well_meanwhile(outer):
    async def inner():
        async with saga():
            await act("a").compensate(undo_a)
            in_flight = act("b").compensate(undo_b)
            tasks.append(asyncio.create_task(compensate_all()))
            await act("c")
            del in_flight

    async def flow():
        tasks.clear()
        if outer:
            async with saga():
                await inner()
        else:
            await inner()
        return [step.command for step in (await tasks[0]).undone]

    tasks = []
    lab = Lab(flow).begin()
    lab.complete(0)
    lab.complete(2)
    assert not lab.ended and not undone(lab)
    lab.complete(1)
    lab.run()
    assert lab.result == [1, 0]
    assert [undoes for _, _, undoes, _ in undone(lab)] == [1, 0]
    lab.replays()


def test_a_cancelled_call_is_compensated_by_hand_though_its_block_ends_well_meanwhile():
    async def flow():
        async with saga():
            call = act("a").compensate(undo_a)
            call.cancel()
            undoing = asyncio.create_task(compensate(call))
            await asyncio.sleep(0)
        return await undoing

    lab = Lab(flow).begin()
    assert lab.execution.open_activities == {0}
    lab.complete(0)
    lab.complete(1, "undone")
    assert lab.result == "undone"
    lab.replays()


@pytest.mark.parametrize("around", [True, False])
def test_leaving_many_sagas_takes_as_much_longer_as_there_are_more(around):
    async def part():
        async with saga():
            await act("a").compensate(undo_a)
            await asyncio.Event().wait()

    def flow_of(count):
        async def flow():
            async with saga() if around else contextlib.nullcontext():
                kept = [asyncio.create_task(part()) for _ in range(count)]
                await act("fails")
            del kept

        return flow

    def calls(count):
        lab = Lab(flow_of(count)).begin()
        fails = next(e.command for e in lab.history if e.name == "fails")
        for command in sorted(lab.execution.open_activities - {fails}):
            lab.complete(command)
        counted = 0

        def count_one(_frame, what, _argument):
            nonlocal counted
            counted += what == "call"

        before = sys.getprofile()
        sys.setprofile(count_one)
        try:
            lab.fail(fails)
        finally:
            sys.setprofile(before)
        assert len(undone(lab)) == count
        lab.run()
        assert lab.failure.type_name == "continuum.errors.ActivityFailed"
        return counted

    assert calls(200) < 6 * calls(50)


def test_children_in_flight_are_asked_to_cancel_and_undone_if_they_complete_all_the_same():
    async def flow():
        async with saga():
            kid("booking").compensate(undo_a, 1)
            kid("kept", close="abandon").compensate(undo_b, 2)
            await act("b")

    lab = Lab(flow).begin()
    lab.fail(2)
    assert [event.command for event in lab.history if event.type == EventType.CHILD_CANCEL_REQUESTED] == [0]
    lab.child_cancelled(0)
    assert not lab.ended, "the other one may complete yet"
    lab.child_done(1)
    assert [(name, undoes) for _, name, undoes, _ in undone(lab)] == [("undo_b", 1)]
    lab.complete(3)
    assert lab.ended
    lab.replays()


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_saga_that_ends_well_says_which_cancelled_calls_nobody_undoes(succeeds):
    async def flow():
        async with saga():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await act("charge").compensate(undo_a)
            await act("next")

    lab = Lab(flow).begin()
    lab.fire(0)
    if succeeds:
        lab.complete(1)
    lab.complete(2)
    assert lab.ended
    assert not undone(lab)
    how = "has succeeded" if succeeds else "may succeed"
    assert [line.message.partition(" all the same")[0] for line in lab.logs] == [
        f"charge (command 1) was cancelled and {how}"
    ]
    lab.replays()
