"""A run whose function has ended does not end before everything that is to be rolled back has been."""

import asyncio
import contextlib

import pytest

from continuum.errors import CompensationError, SpinError
from continuum.model.events import EventType
from continuum.replay.effects.continue_as_new import continue_as_new
from continuum.replay.effects.saga import compensate, compensate_all, saga
from tests.replay.lab import Lab, act
from tests.support.undoing import Undoes, undone

undo_a, undo_b = Undoes("undo_a"), Undoes("undo_b")


async def part(name, undo):
    async with saga():
        await act(name).compensate(undo)
        await asyncio.Event().wait()


def names(lab):
    return [name for _, name, _, _ in undone(lab)]


def test_a_saga_that_a_gather_left_behind_is_rolled_back_before_the_run_fails():
    async def flow():
        await asyncio.gather(part("a", undo_a), part("b", undo_b), act("c"))

    lab = Lab(flow).begin()
    commands = {e.name: e.command for e in lab.history if e.type == EventType.ACTIVITY_SCHEDULED}
    lab.complete(commands["a"])
    lab.complete(commands["b"])
    lab.fail(commands["c"])
    # Of two that stand side by side, the one begun last is left first.
    assert names(lab) == ["undo_b", "undo_a"] and not lab.ended
    lab.complete(3)
    lab.cancel()
    assert not lab.ended
    lab.complete(4)
    assert lab.failure.type_name == "continuum.errors.ActivityFailed"
    lab.replays()


def test_a_result_waits_for_the_rollbacks_of_others():
    async def flow():
        task = asyncio.create_task(part("a", undo_a))
        await asyncio.sleep(1)
        return task.done()

    lab = Lab(flow).begin()
    lab.complete(1)
    lab.fire()
    assert names(lab) == ["undo_a"] and not lab.ended
    lab.complete(2)
    assert lab.result is False
    lab.replays()


def test_a_call_in_flight_is_waited_for():
    async def flow():
        task = asyncio.create_task(part("a", undo_a))
        await asyncio.sleep(1)
        return task.done()

    lab = Lab(flow).begin()
    lab.fire()
    assert names(lab) == [] and not lab.ended and lab.execution.expects(1)
    lab.complete(1)
    assert names(lab) == ["undo_a"]
    lab.complete(2)
    assert lab.ended
    lab.replays()


def test_what_a_task_awaits_when_the_run_is_about_to_be_unwound_is_not_handed_out_inline():
    async def flow():
        async def late():
            async with saga():
                for _ in range(5):
                    await asyncio.sleep(0)
                # The main task has ended, and nothing else would run before this completion: but the unwinding does.
                await act("a").compensate(undo_a)
                await act("never")

        return asyncio.create_task(late()).done()

    lab = Lab(flow).begin()
    lab.complete(0)
    assert names(lab) == ["undo_a"]
    lab.complete(1)
    assert lab.result is False
    lab.replays()


def test_a_task_in_two_blocks_is_cancelled_once():
    async def flow():
        async def both():
            async with saga():
                await act("a").compensate(undo_a)
                try:
                    await part("b", undo_b)
                finally:
                    # The same cancellation goes on; a second one would end this wait.
                    await act("c")

        task = asyncio.create_task(both())
        await asyncio.sleep(1)
        return task.done()

    lab = Lab(flow).begin()
    lab.complete(1)
    lab.complete(2)
    lab.fire()
    for command in range(3, 6):
        assert not lab.ended
        lab.complete(command)
    assert [name for _, name, _ in lab.commands] == [None, "a", "b", "undo_b", "c", "undo_a"]
    assert lab.ended
    lab.replays()


def test_a_task_that_cleans_up_may_take_its_time():
    async def flow():
        async def stays():
            async with saga():
                await act("a").compensate(undo_a)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                await asyncio.sleep(100)

        task = asyncio.create_task(stays())
        await asyncio.sleep(1)
        return task.done()

    lab = Lab(flow).begin()
    lab.complete(1)
    lab.fire()
    assert not lab.ended and lab.execution.earliest_timer is not None
    lab.fire()
    assert lab.ended and names(lab) == []
    lab.replays()


def test_tasks_outside_of_sagas_end_with_the_run():
    async def flow():
        tasks = [asyncio.create_task(act_and_wait()), asyncio.create_task(part("a", undo_a))]
        await asyncio.sleep(1)
        return len(tasks)

    async def act_and_wait():
        try:
            await act("b")
        finally:
            await act("never")

    lab = Lab(flow).begin()
    lab.fire()
    assert not lab.ended
    lab.fail(2)
    assert lab.ended and lab.decisions[-1].cancelled == [1]
    lab.replays()


def test_sagas_without_an_end_are_a_fault():
    async def flow():
        async def again():
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    async with saga():
                        await asyncio.Event().wait()

        task = asyncio.create_task(again())
        await asyncio.sleep(1)
        return task.done()

    lab = Lab(flow, spin_limit=1_000).begin()
    with pytest.raises(SpinError):
        lab.fire()


def test_a_block_whose_task_is_gone_is_rolled_back_in_its_place():
    async def flow():
        undo = saga()

        async def enters():
            await undo.__aenter__()
            await act("a").compensate(undo_a)

        await asyncio.create_task(enters())

    lab = Lab(flow).begin()
    lab.complete(0)
    assert names(lab) == ["undo_a"] and not lab.ended
    lab.complete(1)
    assert lab.ended
    lab.replays()


def test_a_block_that_was_rolled_back_meanwhile_has_not_ended_well():
    async def flow():
        undo, said = saga(), []

        async def enters():
            await undo.__aenter__()
            await act("a").compensate(undo_a)

        async with saga():
            await asyncio.create_task(enters())
            await compensate_all()
        with contextlib.suppress(ValueError):
            async with saga():
                inner = saga()
                await inner.__aenter__()
                raise ValueError
        try:
            await inner.__aexit__(None, None, None)
        except CompensationError as error:
            said.append(str(error))
        return said

    lab = Lab(flow).run()
    assert lab.result == ["this saga was rolled back while its block was open: the task that had entered it was gone."]
    lab.replays()


# -- a run that continues as a new one


def refused(lab):
    return [e.type for e in lab.history][-1] == EventType.RUN_FAILED and lab.failure.type_name.endswith(
        "CompensationError"
    )


@pytest.mark.parametrize("inside", [True, False])
def test_a_run_does_not_continue_with_something_left_to_undo(inside):
    async def flow():
        if inside:
            async with saga():
                await act("a").compensate(undo_a)
                continue_as_new()
        await act("a").compensate(undo_a)
        continue_as_new()

    lab = Lab(flow).run()
    assert refused(lab)
    lab.replays()


def test_nor_while_a_cancelled_call_may_have_succeeded_or_something_is_being_undone():
    async def cancelled():
        act("a").compensate(undo_a).cancel()
        continue_as_new()

    async def undoing():
        call = act("a").compensate(undo_a)
        await call
        task = asyncio.create_task(compensate(call))
        await asyncio.sleep(0)
        task.cancel()
        continue_as_new()

    for flow in (cancelled, undoing):
        lab = Lab(flow).run()
        assert refused(lab)
        lab.replays()


@pytest.mark.parametrize("inside", [True, False])
def test_a_run_continues_when_nothing_is_left(inside):
    async def flow():
        async with saga():
            await act("a").compensate(undo_a)
            if inside:
                await compensate_all()
                continue_as_new()
        continue_as_new()

    lab = Lab(flow).run()
    assert lab.history[-1].type == EventType.RUN_CONTINUED
    lab.replays()
