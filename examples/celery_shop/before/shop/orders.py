"""How an order goes: reserve each item, add up, charge, ship, write to the customer."""

from celery import chord

from shop.tasks import charge, confirm, price, reserve, ship


def place(order_id: str, items: list[str]) -> None:
    reserved = chord([reserve.s(order_id, item) for item in items], price.s(order_id))
    (reserved | charge.s(order_id) | ship.s(order_id) | confirm.s(order_id)).apply_async()
