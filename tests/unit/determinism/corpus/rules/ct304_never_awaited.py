import asyncio

from ..flows import charge, child_flow


async def helper(order):
    return await charge(order)


async def bad_statement(order):
    charge(order)  # !CT304
    helper(order)  # !CT304
    asyncio.sleep(1)  # !CT304


async def good_kept(order):
    call = charge(order)
    other = helper(order)
    task = asyncio.create_task(helper(order))
    await asyncio.gather(call, other, child_flow(order))
    return await task
