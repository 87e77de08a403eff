import asyncio

from ..flows import charge


async def bad_bare(order):
    try:
        await charge(order)
    except:  # !CT301
        order = None
    return order


async def bad_base(order):
    try:
        await charge(order)
    except BaseException:  # !CT301
        order = None
    return order


async def bad_cancelled(order):
    while True:
        try:
            await charge(order)
        except asyncio.CancelledError:  # !CT301
            continue


async def good_handlers(order):
    try:
        await charge(order)
    except Exception:
        order = None
    try:
        await charge(order)
    except BaseException as error:
        order = error
        raise
    try:
        order = int("1")
    except:
        order = 0
    try:
        await charge(order)
    except asyncio.CancelledError:
        await charge(order)
        raise
    return order


async def good_own_task(order):
    task = asyncio.create_task(charge(order))
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
