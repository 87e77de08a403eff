import asyncio


async def bad_loops(work):
    asyncio.new_event_loop()  # !CT116
    asyncio.set_event_loop(None)  # !CT116
    asyncio.run(work())  # !CT116


async def good_loop(work):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    loop.call_later(1, future.cancel)
    asyncio.current_task().get_name()
    return await future, loop.time(), await asyncio.ensure_future(work())
