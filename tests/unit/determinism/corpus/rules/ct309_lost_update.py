import asyncio

from ..flows import charge


async def bad_shared(orders):
    total = 0

    async def one(order):
        nonlocal total
        total += await charge(order)  # !CT309

    await asyncio.gather(*(one(order) for order in orders))
    return total


async def good_own(orders):
    total = 0
    for order in orders:
        total += await charge(order)
    done = 0

    async def one(order):
        nonlocal done
        paid = await charge(order)
        done += paid

    await asyncio.gather(*(one(order) for order in orders))
    return total, done
