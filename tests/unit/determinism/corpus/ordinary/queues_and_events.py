import asyncio

from continuum import workflow

from .support import charge, fetch


@workflow(name="ordinary.queues")
async def queues(orders: list[str]) -> int:
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    done, lock, changed = asyncio.Event(), asyncio.Lock(), asyncio.Condition()
    count = 0

    async def worker() -> None:
        nonlocal count
        while (order := await queue.get()) is not None:
            await charge(order, "1")
            async with lock:
                count += 1
            async with changed:
                changed.notify_all()
        done.set()

    task = asyncio.create_task(worker())
    for order in orders:
        queue.put_nowait(order)
    await queue.put(None)
    await done.wait()
    await asyncio.shield(fetch(count))
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.call_soon(future.set_result, 1)
    await task
    return count + await future
