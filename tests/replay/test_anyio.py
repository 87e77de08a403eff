"""anyio on the workflow's loop, live and replayed."""

from typing import Any

import pytest

from tests.replay.lab import Lab, act

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


def test_a_run_waiting_in_anyio_can_be_cancelled_and_evicted():
    for flow in EXPECTED:
        Lab(flow).begin().close()
        lab = Lab(flow).begin()
        lab.cancel()
        lab.run(7)
        assert lab.ended
        lab.replays()
