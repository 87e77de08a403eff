"""An async generator that loses its last reference is closed at the same place, live and on every replay."""

import asyncio

import pytest

from continuum.errors import ActivityError
from tests.replay.lab import Lab, act


async def numbers():
    try:
        yield 1
        yield 2
    finally:
        await act("close")


async def read():
    # A traceback keeps this frame, and with it the generator, for as long as somebody keeps the exception.
    kept = numbers()
    async for _ in kept:
        await act("fails")


async def awaited():
    try:
        await read()
    except ActivityError:
        pass
    await act("a")
    await act("b")


async def gathered():
    try:
        await asyncio.gather(read())
    except ActivityError:
        pass
    await act("a")
    await act("b")


async def waited_for():
    task = asyncio.create_task(read())
    await asyncio.wait([task])
    del task
    await act("a")
    await act("b")


async def forgotten():
    task = asyncio.create_task(read())
    await act("a")
    del task
    await act("b")


async def called_before():
    calls = [act("fails"), act("a")]
    kept = numbers()
    await anext(kept)
    await asyncio.wait(calls)
    try:
        await calls[0]
    except ActivityError:
        calls.clear()
        del kept
    await act("b")
    await act("c")


async def begun_afterwards():
    async def read():
        try:
            await act("fails")
        except ActivityError:
            pass
        kept = numbers()
        await anext(kept)

    await asyncio.gather(read(), return_exceptions=True)
    await act("a")
    await act("b")


async def begun_in_a_block_that_was_cancelled():
    async def read():
        try:
            async with asyncio.timeout(None) as limit:
                limit.reschedule(0)
                await act("fails")
        except TimeoutError:
            pass
        kept = numbers()
        await anext(kept)

    await read()
    await act("a")
    await act("b")


FLOWS = [awaited, gathered, waited_for, forgotten, called_before, begun_afterwards, begun_in_a_block_that_was_cancelled]


@pytest.mark.parametrize("flow", FLOWS)
def test_wherever_a_failure_holds_it(flow):
    lab = Lab(flow).begin()
    for _ in range(10):
        if lab.ended:
            break
        command = min(lab.execution.open_activities)
        name = next(e.name for e in lab.history if e.command == command)
        lab.fail(command) if name == "fails" else lab.complete(command)
    assert lab.ended
    assert [name for _, name, _ in lab.commands].count("close") == 1
    lab.replays()


def test_it_is_closed_before_the_run_comes_to_rest():
    async def numbers(done):
        try:
            yield 1
        finally:
            done.set()

    async def read(done):
        kept = numbers(done)
        async for _ in kept:
            raise ValueError

    async def flow():
        done = asyncio.Event()
        task = asyncio.create_task(read(done))
        await asyncio.wait([task])
        del task
        await done.wait()

    lab = Lab(flow).begin()
    assert lab.ended
    lab.replays()
