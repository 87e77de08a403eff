"""docs/reference/asyncio.md: what it says works is run and replayed, what it says is refused is refused."""

import asyncio
import contextlib
import contextvars
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from continuum import Continuum, activity, workflow
from continuum.errors import BlockingCall
from continuum.replay.execution import RunInfo
from continuum.replay.replayer import replay_history

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "asyncio.md").read_text(encoding="utf-8")
TICK = 0.001


@activity(name="docs.asyncio.echo")
def echo(value: int) -> int:
    return value


async def sleeps() -> list[int]:
    await asyncio.sleep(TICK)
    await asyncio.sleep(0)
    return [1]


async def gathers() -> list[int]:
    return await asyncio.gather(echo(1), echo(2), later(3))


async def groups() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(later(number)) for number in (1, 2)]
    return [task.result() for task in tasks]


async def creates() -> list[int]:
    first, second = asyncio.create_task(later(1)), asyncio.ensure_future(echo(2))
    return [await first, await second]


async def waits() -> list[int]:
    done, waiting = await asyncio.wait(
        {asyncio.create_task(later(1)), asyncio.create_task(asyncio.sleep(3600))},
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in waiting:
        task.cancel()
    found = [await one for one in asyncio.as_completed([later(2), later(3)])]
    return [*(task.result() for task in done), *sorted(found)]


async def times_out() -> list[int]:
    result = await asyncio.wait_for(later(1), 3600)
    try:
        async with asyncio.timeout(TICK):
            await asyncio.Event().wait()
    except TimeoutError:
        result += 1
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + 3600):
        result += await echo(1)
    return [result]


async def shields() -> list[int]:
    inner = asyncio.create_task(later(1))
    outer = asyncio.shield(inner)
    outer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await outer
    return [await inner]


async def synchronizes() -> list[int]:
    event, lock, condition, barrier = asyncio.Event(), asyncio.Lock(), asyncio.Condition(), asyncio.Barrier(2)
    room, seen = asyncio.Semaphore(1), []

    async def worker(number: int) -> None:
        await event.wait()
        async with lock, room:
            seen.append(await later(number))
        await barrier.wait()
        async with condition:
            condition.notify_all()

    tasks = [asyncio.create_task(worker(number)) for number in (1, 2)]
    event.set()
    async with condition:
        await condition.wait_for(lambda: len(seen) == 2)
    await asyncio.gather(*tasks)
    return seen


async def queues() -> list[int]:
    plain, least, last = asyncio.Queue(), asyncio.PriorityQueue(), asyncio.LifoQueue()
    asyncio.get_running_loop().call_soon(plain.put_nowait, 1)
    for number in (3, 2):
        least.put_nowait(number)
        last.put_nowait(number + 5)
    return [await plain.get(), await least.get(), await last.get()]


async def cancels() -> list[int]:
    task = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        assert current is not None
        return [await echo(1), current.uncancel()]
    return []


async def calls() -> list[int]:
    loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    loop.call_later(TICK, seen.append, 2)
    loop.call_at(loop.time() + 2 * TICK, future.set_result, 3)
    seen.append(await future)
    return seen


async def introspects() -> list[int]:
    task = asyncio.create_task(later(1))
    current = asyncio.current_task()
    found = len(asyncio.all_tasks())
    return [await task, found, int(current in asyncio.all_tasks())]


variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


async def carries_context() -> list[int]:
    async def inner() -> int:
        before = variable.get()
        variable.set(9)
        return before + await later(1)

    variable.set(5)
    return [await asyncio.create_task(inner()), variable.get()]


async def streams() -> list[int]:
    async def numbers() -> AsyncIterator[int]:
        for number in (1, 2):
            yield await later(number)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.sleep, TICK)
        return [number async for number in numbers()]
    raise AssertionError


async def uses_anyio() -> list[int]:
    sender, receiver = anyio.create_memory_object_stream[int](4)
    event = anyio.Event()

    async def send() -> None:
        await anyio.sleep(TICK)
        await sender.send(await echo(1))
        event.set()

    async with sender, receiver, anyio.create_task_group() as group:
        group.start_soon(send)
        with anyio.move_on_after(3600):
            await event.wait()
        found = [await receiver.receive()]
        with anyio.move_on_after(TICK) as scope:
            await anyio.sleep(3600)
        return [*found, int(scope.cancelled_caught)]
    raise AssertionError


async def later(value: int) -> int:
    await asyncio.sleep(TICK)
    return await echo(value)


# The first cell of each row of the page's first table, and what runs it.
WORKS: dict[str, tuple[Any, list[int]]] = {
    "`asyncio.sleep(seconds)`": (sleeps, [1]),
    "`asyncio.gather(*aws)`": (gathers, [1, 2, 3]),
    "`asyncio.TaskGroup()`": (groups, [1, 2]),
    "`asyncio.create_task`, `ensure_future`": (creates, [1, 2]),
    "`asyncio.wait`, `as_completed`": (waits, [1, 2, 3]),
    "`asyncio.wait_for`, `timeout`, `timeout_at`": (times_out, [3]),
    "`asyncio.shield`": (shields, [1]),
    "`asyncio.Event`, `Lock`, `Condition`, `Semaphore`, `Barrier`": (synchronizes, [1, 2]),
    "`asyncio.Queue`, `PriorityQueue`, `LifoQueue`": (queues, [1, 2, 7]),
    "`task.cancel()`, `uncancel()`, `CancelledError`": (cancels, [1, 0]),
    "`loop.call_soon`, `call_later`, `call_at`, `time`": (calls, [1, 2, 3]),
    "`asyncio.current_task`, `all_tasks`": (introspects, [1, 2, 1]),
    "`contextvars`": (carries_context, [6, 5]),
    "async generators, `contextlib.AsyncExitStack`": (streams, [1, 2]),
    "`anyio`: task groups, cancel scopes, `sleep`, events, memory streams": (uses_anyio, [1, 1]),
}


async def to_thread() -> None:  # continuum: allow[CT1] what the loop refuses
    await asyncio.to_thread(print)


async def executor() -> None:  # continuum: allow[CT1] what the loop refuses
    await asyncio.get_running_loop().run_in_executor(None, print)


async def connection() -> None:  # continuum: allow[CT1] what the loop refuses
    await asyncio.open_connection("localhost", 1)


async def server() -> None:  # continuum: allow[CT1] what the loop refuses
    await asyncio.start_server(print, "localhost", 0)


async def process() -> None:  # continuum: allow[CT1] what the loop refuses
    await asyncio.create_subprocess_exec("true")


async def shell() -> None:  # continuum: allow[CT1] what the loop refuses
    await asyncio.create_subprocess_shell("true")


async def operating_system_signal() -> None:  # continuum: allow[CT1] what the loop refuses
    asyncio.get_running_loop().add_signal_handler(2, print)


async def descriptor() -> None:  # continuum: allow[CT1] what the loop refuses
    asyncio.get_running_loop().add_reader(0, print)


async def driving() -> None:  # continuum: allow[CT1] what the loop refuses
    asyncio.get_running_loop().stop()


REFUSED = [to_thread, executor, connection, server, process, shell, operating_system_signal, descriptor, driving]


@workflow(name="docs.asyncio.works")
async def works(which: str) -> list[int]:
    return await WORKS[which][0]()


@workflow(name="docs.asyncio.refused")
async def refused(which: int) -> str:
    try:
        await REFUSED[which]()
    except BlockingCall as error:
        return str(error)
    return "not refused"


@workflow(name="docs.asyncio.nested")
async def nested() -> str:
    coroutine = asyncio.sleep(0)
    try:
        asyncio.run(coroutine)  # continuum: allow[CT116] what the loop refuses
    except RuntimeError as error:
        return str(error)
    finally:
        coroutine.close()
    return "not refused"


@pytest.fixture(scope="module")
def continuum() -> Iterator[Continuum]:
    with Continuum("memory://") as instance, instance.running(concurrency=2):
        yield instance


def test_the_page_and_the_test_list_the_same() -> None:
    table = PAGE.partition("## Works")[2].partition("##")[0]
    rows = [
        row.split(" | ")[0].removeprefix("| ")
        for row in table.splitlines()
        if row.startswith("| `") or "async gen" in row
    ]
    assert rows == list(WORKS)


@pytest.mark.parametrize("which", list(WORKS))
def test_what_the_page_says_works_works_and_replays(continuum: Continuum, which: str) -> None:
    handle = continuum.start(works, which)
    assert handle.result(timeout=30) == WORKS[which][1]

    run = handle.refresh()
    info = RunInfo(run.id, run.chain_id, run.namespace, run.workflow, run.version)
    assert replay_history(works.entry, info, handle.history()).events == []


@pytest.mark.parametrize("which", range(len(REFUSED)), ids=[body.__name__ for body in REFUSED])
def test_what_the_page_says_is_refused_is_refused_with_advice(continuum: Continuum, which: int) -> None:
    message = continuum.start(refused, which).result(timeout=30)
    assert re.search(r"was called in a workflow, but .*\. ?", message), message
    assert threading.active_count() < 40


def test_a_loop_in_the_loop_is_refused_by_asyncio(continuum: Continuum) -> None:
    assert "cannot be called from a running event loop" in continuum.start(nested).result(timeout=30)
