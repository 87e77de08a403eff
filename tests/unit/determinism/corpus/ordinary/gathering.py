import asyncio

from continuum import ActivityFailed, workflow

from .support import charge, fetch, notify, ship


async def both(order: str) -> tuple[str, str]:
    payment, label = await asyncio.gather(charge(order, "1"), ship(order))
    return payment, label


@workflow(name="ordinary.gathering")
async def gathering(orders: list[str]) -> int:
    results = await asyncio.gather(*(both(order) for order in orders), return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    for done in asyncio.as_completed([fetch(page) for page in range(3)]):
        page = await done
        await notify(str(page["page"]))
    first, rest = await asyncio.wait(
        [asyncio.ensure_future(ship(order)) for order in orders], return_when="FIRST_COMPLETED"
    )
    for task in rest:
        task.cancel()
    try:
        await charge("last", "2")
    except ActivityFailed as error:
        await notify(error.error_message)
    return len(failed) + len(first)
