"""Each construct of asyncio, run live and replayed: the same result, the same commands, from every prefix."""

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

import pytest

from continuum.replay.effects.signal import wait_until
from tests.replay.lab import Lab, act

flows: dict[str, tuple[Callable[..., Any], Any]] = {}


def gives(expected: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        flows[function.__name__] = (function, expected)
        return function

    return keep


async def after(delay: float, value: Any = None) -> Any:
    await asyncio.sleep(delay)
    return value


async def raises_after(delay: float) -> None:
    await asyncio.sleep(delay)
    raise ValueError("x")


@gives(5.0)
async def sleep():
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(5)
    return asyncio.get_running_loop().time() - began


@gives([7, 7, 9])
async def gather():
    return await asyncio.gather(act("a"), act("b"), after(1, 9))


@gives(["ValueError", "int", "CancelledError"])
async def gather_with_exceptions():
    task = asyncio.create_task(after(50))
    task.cancel()
    return [type(x).__name__ for x in await asyncio.gather(raises_after(1), act("a"), task, return_exceptions=True)]


@gives("ValueError")
async def gather_that_fails():
    try:
        await asyncio.gather(raises_after(1), after(50), act("a"))
    except ValueError as error:
        return type(error).__name__


@gives([7, 7, 7])
async def gather_of_equal_futures():
    future = act("a")
    return await asyncio.gather(future, future, future)


@gives(14)
async def task_group():
    async with asyncio.TaskGroup() as group:
        one = group.create_task(after(2, 7))
        two = group.create_task(after(1, 7))
    return one.result() + two.result()


@gives([1, ["a", "b", "c"]])
async def task_group_that_fails():
    out = []

    async def worker(name: str) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            out.append(name)

    try:
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(worker(name))
            group.create_task(raises_after(1))
    except ExceptionGroup as error:
        return [len(error.exceptions), out]


@gives("timeout")
async def timeout():
    try:
        async with asyncio.timeout(3):
            await asyncio.sleep(100)
    except TimeoutError:
        return "timeout"


@gives([True, "timeout"])
async def timeout_at():
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 3
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.Event().wait()
    except TimeoutError:
        return [loop.time() >= deadline, "timeout"]


@gives("timeout")
async def timeout_of_nothing():
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)
    except TimeoutError:
        return "timeout"


@gives(["in time", False])
async def timeout_moved():
    async with asyncio.timeout(1) as limit:
        limit.reschedule(asyncio.get_running_loop().time() + 10)
        await asyncio.sleep(5)
    return ["in time", limit.expired()]


@gives("outer")
async def timeouts_nested():
    try:
        async with asyncio.timeout(1):
            try:
                async with asyncio.timeout(10):
                    await asyncio.sleep(100)
            except TimeoutError:
                return "inner"
    except TimeoutError:
        return "outer"


@gives("timeout")
async def wait_for():
    try:
        await asyncio.wait_for(asyncio.sleep(100), 2)
    except TimeoutError:
        return "timeout"


@gives(7)
async def wait_for_an_activity():
    return await asyncio.wait_for(act("a"), 2)


@gives("timeout")
async def wait_for_zero():
    try:
        await asyncio.wait_for(after(1), 0)
    except TimeoutError:
        return "timeout"


@gives([1, 2, [1]])
async def wait_first_completed():
    tasks = [asyncio.create_task(after(d, d)) for d in (1, 2, 3)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return [len(done), len(pending), [task.result() for task in done]]


@gives([1, 1])
async def wait_first_exception():
    tasks = [asyncio.create_task(raises_after(1)), asyncio.create_task(after(5))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    assert all(task.exception() for task in done)
    return [len(done), len(pending)]


@gives([[1, 2, 3, 4, 5, 6], 0])
async def wait_keeps_the_order_of_creation():
    tasks = [asyncio.create_task(after(10 - d, d)) for d in (1, 2, 3, 4, 5, 6)]
    done, pending = await asyncio.wait(tasks, timeout=50)
    return [[task.result() for task in done], len(pending)]


@gives([2, 0, 7])
async def wait_for_activities():
    futures = [act("a"), act("b")]
    done, pending = await asyncio.wait(futures)
    return [len(done), len(pending), next(iter(done)).result()]


@gives([0, 1])
async def wait_times_out():
    done, pending = await asyncio.wait([act("a"), asyncio.create_task(after(9))][1:], timeout=1)
    return [len(done), len(pending)]


@gives([1, 2, 3])
async def as_completed():
    return [await each for each in asyncio.as_completed([after(d, d) for d in (3, 1, 2)])]


@gives([1, "TimeoutError", "TimeoutError"])
async def as_completed_times_out():
    out = []
    for each in asyncio.as_completed([after(d, d) for d in (1, 5, 6)], timeout=3):
        try:
            out.append(await each)
        except TimeoutError as error:
            out.append(type(error).__name__)
    return out


@gives([True, [1, 2]])
async def as_completed_asynchronously():
    tasks = [asyncio.create_task(after(d, d)) for d in (2, 1)]
    seen = [each async for each in asyncio.as_completed(tasks)]
    return [set(seen) == set(tasks), [each.result() for each in seen]]


@gives([0, 1, 2])
async def queue():
    box: asyncio.Queue[int] = asyncio.Queue(maxsize=1)

    async def producer() -> None:
        for i in range(3):
            await asyncio.sleep(1)
            await box.put(i)

    task = asyncio.create_task(producer())
    out = [await box.get() for _ in range(3)]
    await task
    return out


@gives([0, 1, 2])
async def lock():
    guard = asyncio.Lock()
    out = []

    async def worker(i: int) -> None:
        async with guard:
            await asyncio.sleep(1)
            out.append(i)

    await asyncio.gather(*[worker(i) for i in range(3)])
    return out


@gives([0, 1, 2, 3])
async def semaphore():
    guard = asyncio.Semaphore(2)
    out = []

    async def worker(i: int) -> None:
        async with guard:
            await act("a", i)
            out.append(i)

    await asyncio.gather(*[worker(i) for i in range(4)])
    return out


@gives(True)
async def event():
    flag = asyncio.Event()
    asyncio.get_running_loop().call_later(1, flag.set)
    return await flag.wait()


@gives(5)
async def condition():
    changed = asyncio.Condition()
    state: list[int] = []

    async def waiter() -> int:
        async with changed:
            await changed.wait_for(lambda: state)
            return state[0]

    task = asyncio.create_task(waiter())
    await asyncio.sleep(1)
    async with changed:
        state.append(5)
        changed.notify_all()
    return await task


@gives([0, 1, 2])
async def barrier():
    gate = asyncio.Barrier(3)
    return sorted(await asyncio.gather(gate.wait(), gate.wait(), gate.wait()))


@gives("ok")
async def shield():
    task = asyncio.create_task(after(5, "ok"))
    outer = asyncio.shield(task)
    asyncio.get_running_loop().call_later(1, outer.cancel)
    try:
        await outer
    except asyncio.CancelledError:
        return await task


@gives([True, 7])
async def shield_of_an_activity():
    future = act("a")
    outer = asyncio.shield(future)
    outer.cancel()
    return [outer.cancelled() or outer.cancel() or True, await future]


@gives("cancelled")
async def task_cancelled():
    task = asyncio.create_task(after(100))
    await asyncio.sleep(1)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"


@gives([4, 5])
async def context_variables():
    variable = contextvars.ContextVar("variable", default=0)

    async def child() -> int:
        await asyncio.sleep(1)
        return variable.get()

    variable.set(4)
    task = asyncio.create_task(child())
    variable.set(5)
    return [await task, variable.get()]


@gives([1])
async def wait_until_something_changed():
    state: list[int] = []
    asyncio.get_running_loop().call_later(1, state.append, 1)
    await wait_until(lambda: state)
    return state


@gives([0, 1, 2])
async def async_generator():
    async def numbers() -> Any:
        for i in range(3):
            await asyncio.sleep(1)
            yield i

    return [i async for i in numbers()]


@gives([0, "closed", 9])
async def async_generator_left_early():
    out: list[Any] = []

    async def numbers() -> Any:
        try:
            for i in range(3):
                await asyncio.sleep(1)
                yield i
        finally:
            await asyncio.sleep(1)
            out.append("closed")

    async for i in numbers():
        out.append(i)
        break
    await asyncio.sleep(10)
    return [*out, 9]


@gives(["lab", "Task-2", 2])
async def tasks_of_the_run():
    task = asyncio.create_task(after(1))
    current = asyncio.current_task()
    assert current is not None
    return [current.get_name(), task.get_name(), len(asyncio.all_tasks())]


@gives([3, 1, 2])
async def callbacks_in_order():
    loop = asyncio.get_running_loop()
    out: list[int] = []
    loop.call_soon(out.append, 1)
    loop.call_soon(out.append, 2)
    out.append(3)
    await asyncio.sleep(0)
    return out


@gives([1])
async def callback_taken_back():
    loop = asyncio.get_running_loop()
    out: list[int] = []
    loop.call_soon(out.append, 1)
    loop.call_soon(out.append, 2).cancel()
    loop.call_later(1, out.append, 3).cancel()
    await asyncio.sleep(5)
    return out


@gives([7, 7])
async def plain_futures():
    future = asyncio.get_running_loop().create_future()
    act("a").add_done_callback(lambda done: future.set_result(done.result()))
    return [await future, await asyncio.wrap_future(future)]


@gives("swallowed, and done")
async def cancellation_swallowed():
    async def stubborn() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await act("cleanup")
            return "swallowed, and done"
        return "?"

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(1)
    task.cancel()
    return await task


@gives(["cancelled", 1, 0])
async def uncancel():
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        before = task.cancelling()
        return ["cancelled", before, task.uncancel()]


if sys.version_info >= (3, 12):

    @gives([["eager", "parent", 7], 7])
    async def eager_tasks():
        out: list[Any] = []

        async def child() -> Any:
            out.append("eager")
            value = await act("a")
            out.append(value)
            return value

        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(child())
        out.append("parent")
        value = await task
        return [out, value]

    @gives([1, 2])
    async def eager_task_that_ends_at_once():
        async def child(value: int) -> int:
            return value

        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return [await asyncio.create_task(child(1)), await asyncio.create_task(child(2))]


if sys.version_info >= (3, 13):

    @gives("shut down")
    async def queue_shut_down():
        box: asyncio.Queue[int] = asyncio.Queue()
        asyncio.get_running_loop().call_later(1, box.shutdown)
        try:
            await box.get()
        except asyncio.QueueShutDown:
            return "shut down"


@pytest.mark.parametrize("name", flows)
def test_a_construct_gives_the_same_live_and_on_replay(name):
    function, expected = flows[name]
    lab = Lab(function).run(7)
    assert lab.outcome() == expected
    lab.replays()


@pytest.mark.parametrize("name", flows)
def test_a_construct_can_be_left_and_resumed_at_any_point(name):
    function, expected = flows[name]
    whole = Lab(function).run(7)
    for cut in whole.cuts()[:-1]:
        lab = Lab(function, history=whole.history[:cut])
        lab.clock = whole.history[cut - 1].at
        lab.run(7)
        assert lab.outcome() == expected
        assert lab.commands == whole.commands
