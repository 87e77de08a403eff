from dataclasses import dataclass

from .helpers import price


@dataclass
class Order:
    total: int

    def gross(self):
        return self.total * 2


async def bad_receiver(order):
    return order.first().total()  # !CT402 !CT402


async def good_receiver(order: Order, items: list[int]):
    text = "a,b"
    return order.total, order.gross(), text.split(","), price(items), (lambda x: x)(1), items.copy()
