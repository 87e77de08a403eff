from contextlib import asynccontextmanager

from ..flows import charge, refund


async def charges(orders):
    try:
        for order in orders:
            yield await charge(order)
    finally:
        await refund("all")  # !CT302


async def bad_generator(orders):
    return [payment async for payment in charges(orders)]


@asynccontextmanager
async def charged(order):
    payment = await charge(order)
    try:
        yield payment
    finally:
        await refund(order)


async def plain(orders):
    try:
        for order in orders:
            yield await charge(order)
    finally:
        orders.clear()


async def good_finally(order):
    try:
        await charge(order)
    finally:
        # A cancel is delivered once: what is awaited here runs to its end.
        await refund(order)
    async with charged(order) as payment:
        return payment, [order async for order in plain([order])]
