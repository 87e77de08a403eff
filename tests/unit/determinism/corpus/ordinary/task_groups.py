import asyncio

from continuum import workflow

from .support import charge, ship


@workflow(name="ordinary.task_groups")
async def task_groups(orders: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    limit = asyncio.Semaphore(3)

    async def one(order: str) -> None:
        async with limit:
            await charge(order, "1")
            labels[order] = await ship(order)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(order), name=order) for order in orders]
            extra = group.create_task(ship("extra"))
    except* ValueError as errors:
        labels["errors"] = str(len(errors.exceptions))
    return {**labels, "extra": extra.result(), "tasks": str(len(tasks))}
