from continuum import compensate_all

from ..flows import charge, refund, ship


async def bad_uncompensated(order):
    await charge(order).compensate(refund, order)
    try:
        await ship(order)  # !CT501
    except Exception:
        await compensate_all()
        raise


async def good_compensated(order):
    await charge(order).compensate(refund, order)
    if order is None:
        await compensate_all()


async def good_no_undoing(order):
    await charge(order)
    await ship(order)
