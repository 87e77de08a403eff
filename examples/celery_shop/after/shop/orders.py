"""How an order goes: reserve each item, add up, charge, ship, write to the customer."""

import asyncio

from continuum import activity, workflow
from shop import tasks
from shop.celery import continuum

reserve, price, charge = map(activity.from_celery, (tasks.reserve, tasks.price, tasks.charge))
ship, confirm = map(activity.from_celery, (tasks.ship, tasks.confirm))


@workflow
async def order_flow(order_id: str, items: list[str]) -> str:
    prices = await asyncio.gather(*(reserve(order_id, item) for item in items))
    payment = await charge(await price(prices, order_id), order_id)
    label = await ship(payment, order_id)
    return await confirm(label, order_id)


def place(order_id: str, items: list[str]) -> None:
    continuum.start(order_flow, order_id, items, idempotency_key=order_id)
