import asyncio

from continuum import Compensated, compensate_all, saga, workflow

from .support import charge, notify, refund, ship


@workflow(name="ordinary.sagas")
async def sagas(order: str) -> str:
    async with saga():
        payment = await charge(order, "1").compensate(refund, order)
        label = await ship(order)
        if not label:
            raise ValueError(label)
    return f"{payment} {label}"


@workflow(name="ordinary.undo_by_hand")
async def undo_by_hand(order: str) -> str:
    try:
        await charge(order, "1").compensate(refund, order)
        await notify(order).compensate(notify, "sorry")
    except asyncio.CancelledError:
        await compensate_all()
        raise
    except Exception:
        await compensate_all(parallel=True)
        return "undone"
    return str(Compensated)
