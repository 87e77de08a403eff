from contextlib import aclosing

from ..flows import charge


async def charges(orders):
    for order in orders:
        yield await charge(order)


async def bad_early(orders):
    async for payment in charges(orders):  # !CT307
        if payment:
            return payment
    return None


async def bad_break(orders):
    async for payment in charges(orders):  # !CT307
        if payment:
            break


async def good_to_the_end(orders):
    found = [payment async for payment in charges(orders)]
    async for payment in charges(orders):
        found.append(payment)
    async with aclosing(charges(orders)) as generator:
        async for payment in generator:
            break
    return found
