import asyncio

from continuum import ChildFailed, start_child, workflow

from .support import ship


@workflow(name="ordinary.leaf")
async def leaf(order: str) -> str:
    return await ship(order)


@workflow(name="ordinary.children")
async def children(orders: list[str]) -> list[str]:
    handles = [start_child(leaf, order, key=order) for order in orders]
    first = await leaf("first")
    try:
        labels = await asyncio.gather(*handles)
    except ChildFailed as error:
        return [first, error.error_message]
    ids = [handle.id for handle in handles]
    return [first, *labels, *ids]
