"""The shop's Celery tasks."""

import outside
from celery import Task

from shop.celery import app


@app.task
def reserve(order_id: str, item: str) -> int:
    outside.act(f"reserved {item}", order_id)
    return 100 * len(item)


@app.task
def price(prices: list[int], order_id: str) -> int:
    outside.act("priced", order_id)
    return sum(prices)


@app.task(bind=True, autoretry_for=(outside.ProviderBusy,), retry_backoff=1, retry_jitter=False, max_retries=5)
def charge(self: Task, cents: int, order_id: str) -> str:
    # The same for every retry of this task, as the provider wants it.
    return outside.charge(order_id, cents, key=self.request.id)


@app.task
def ship(payment: str, order_id: str) -> str:
    outside.act("shipped", order_id)
    return f"label of {order_id} for {payment}"


@app.task
def confirm(label: str, order_id: str) -> str:
    outside.act("confirmed", order_id)
    return f"wrote to the customer: {label}"


@app.task
def count_stock() -> None:
    outside.act("counted the stock", "-")
