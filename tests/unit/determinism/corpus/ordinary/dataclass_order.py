from decimal import Decimal

from continuum import workflow

from .support import Item, Order, Status, charge, gross


@workflow(name="ordinary.dataclass_order")
async def dataclass_order(order_id: str, prices: list[str]) -> str:
    order = Order.of(order_id)
    for number, price in enumerate(prices, start=1):
        order.add(Item(f"sku-{number}", Decimal(price)))
    if not Order.check(order_id):
        raise ValueError(f"{order_id!r} is no order")
    payment = await charge(order_id, str(gross(order.items, "de")))
    order.status = Status.PAID
    return f"{payment}: {len(order)} items, {order.status}, open: {order.status.is_open}"
