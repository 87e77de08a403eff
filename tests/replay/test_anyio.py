"""anyio on the workflow's loop, live and replayed."""

from typing import Any

import pytest

from continuum.model.decisions import Cascade
from continuum.model.events import EventType
from continuum.replay.effects.continue_as_new import continue_as_new
from continuum.replay.effects.saga import compensate_all, saga
from tests.replay.lab import Lab, act, kid
from tests.support.undoing import Undoes, undone

anyio = pytest.importorskip("anyio")


async def task_group():
    out = []

    async def worker(i):
        await anyio.sleep(i)
        out.append(i)

    async with anyio.create_task_group() as group:
        for i in (3, 1, 2):
            group.start_soon(worker, i)
    return out


async def task_group_started():
    async def server(*, task_status):
        task_status.started("up")
        await anyio.sleep(3)

    async with anyio.create_task_group() as group:
        return await group.start(server)


async def task_group_that_fails():
    async def fails():
        await anyio.sleep(1)
        raise ValueError("x")

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 100)
            group.start_soon(fails)
    except ExceptionGroup as error:
        return [str(each) for each in error.exceptions]


async def move_on():
    with anyio.move_on_after(2) as scope:
        await anyio.sleep(100)
    return scope.cancelled_caught


async def fail():
    try:
        with anyio.fail_after(2):
            await anyio.Event().wait()
    except TimeoutError:
        return "timeout"


async def move_on_from_an_activity():
    """The pitfall of engines that swallow the cancellation and wait again: here it would spin for ever."""
    with anyio.move_on_after(2) as scope:
        await act("a")
        await act("b")
    await act("c")
    return scope.cancelled_caught


async def shielded():
    with anyio.move_on_after(1):
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
                await act("cleanup")
    return "cleaned up"


async def saga_in_a_scope():
    """A cancelled scope cancels again and again whoever stays in it: nobody in a saga does, and it is undone."""
    with anyio.move_on_after(2) as scope:
        async with saga():
            await act("a").compensate(Undoes("undo_a"))
            await anyio.sleep(100)
    return scope.cancelled_caught


async def saga_of_a_group():
    async def part(name):
        async with saga():
            await act(name).compensate(Undoes(f"undo_{name}"))
            await anyio.sleep(100)

    try:
        async with anyio.create_task_group() as group:
            # One, since anyio cancels the scopes of several in the order of their addresses.
            group.start_soon(part, "a")
            await anyio.sleep(1)
            raise ValueError("x")
    except ExceptionGroup as error:
        try:
            with anyio.move_on_after(0):
                await act("c").compensate(Undoes("undo_c"))
        finally:
            await compensate_all()
        return [str(each) for each in error.exceptions]


async def streams():
    send, receive = anyio.create_memory_object_stream[int](2)

    async def producer():
        async with send:
            for i in range(5):
                await act("a")
                await send.send(i)

    async with anyio.create_task_group() as group:
        group.start_soon(producer)
        async with receive:
            return [item async for item in receive]


async def locks():
    lock, limiter, out = anyio.Lock(), anyio.CapacityLimiter(1), []

    async def worker(i):
        async with lock, limiter:
            await anyio.sleep(1)
            out.append(i)

    async with anyio.create_task_group() as group:
        for i in range(3):
            group.start_soon(worker, i)
    return out


async def thread():
    try:
        await anyio.to_thread.run_sync(print)
    except Exception as error:
        return type(error).__name__


EXPECTED: dict[Any, Any] = {
    task_group: [1, 2, 3],
    task_group_started: "up",
    task_group_that_fails: ["x"],
    move_on: True,
    fail: "timeout",
    move_on_from_an_activity: False,
    shielded: "cleaned up",
    saga_in_a_scope: True,
    saga_of_a_group: ["x"],
    streams: [0, 1, 2, 3, 4],
    locks: [0, 1, 2],
}


@pytest.mark.parametrize("flow", EXPECTED, ids=lambda flow: flow.__name__)
def test_anyio_works_live_and_on_replay(flow):
    lab = Lab(flow).run(7)
    assert lab.outcome() == EXPECTED[flow]
    lab.replays()


def test_a_scope_that_ends_withdraws_the_activity_in_it():
    lab = Lab(move_on_from_an_activity).begin()
    lab.complete(1)
    assert lab.fire().cancelled == [2]
    lab.complete(3)
    assert lab.result is True
    lab.replays()


def test_what_a_scope_cancels_is_rolled_back_before_the_run_ends():
    lab = Lab(saga_in_a_scope).begin()
    lab.complete(1)
    lab.fire()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_a"] and not lab.ended
    lab.complete(3)
    assert lab.result is True
    lab = Lab(saga_of_a_group).run()
    assert sorted(name for _, name, _, _ in undone(lab)) == ["undo_a", "undo_c"]


def test_a_run_waiting_in_anyio_can_be_cancelled_and_evicted():
    for flow in EXPECTED:
        Lab(flow).begin().close()
        lab = Lab(flow).begin()
        lab.cancel()
        lab.run(7)
        assert lab.ended
        lab.replays()


async def child_then_continues():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 100)
        await act("a")
        with anyio.fail_after(50):
            await kid("c")
        continue_as_new("next")


def test_a_run_continues_as_new_through_a_task_group():
    lab = Lab(child_then_continues).begin()
    lab.complete(0)
    lab.child_done(3)
    assert (lab.types[-1], lab.history[-1].payload) == ("run_continued", '["next"]')
    assert lab.decisions[-1].cascade is None
    lab.replays()


def test_a_scope_that_ends_asks_the_child_in_it_to_cancel():
    lab = Lab(child_then_continues).begin()
    lab.complete(0)
    decision = lab.fire(2)
    assert [letter.kind for letter in decision.letters] == [EventType.CANCEL_REQUESTED]
    assert decision.cascade is Cascade.CLOSE
    assert lab.failure.type_name == "ExceptionGroup"
    lab.replays()
