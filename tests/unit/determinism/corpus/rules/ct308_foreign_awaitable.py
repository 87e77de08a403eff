import asyncio

from jinja2.async_utils import auto_await

from ..flows import charge


async def bad_foreign(value):
    return await auto_await(value)  # !CT308


async def own(order):
    return await charge(order)


async def good_awaits(order):
    queue = asyncio.Queue()
    await queue.put(order)
    event = asyncio.Event()
    event.set()
    await event.wait()
    future = asyncio.get_running_loop().create_future()
    future.set_result(1)
    return await queue.get(), await future, await own(order), await asyncio.wait_for(charge(order), 5)
