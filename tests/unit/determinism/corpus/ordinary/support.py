"""Helpers and activities that ordinary workflows share."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum, StrEnum, auto

from continuum import activity

CENT = Decimal("0.01")
RATES = {"de": Decimal("0.19"), "fr": Decimal("0.20")}
WEEKEND = frozenset({5, 6})


class Status(StrEnum):
    NEW = auto()
    PAID = auto()
    SHIPPED = auto()

    @property
    def is_open(self) -> bool:
        return self is not Status.SHIPPED


class Level(Enum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True, order=True)
class Item:
    sku: str
    price: Decimal
    quantity: int = 1
    tags: tuple[str, ...] = ()

    @property
    def total(self) -> Decimal:
        return self.price * self.quantity

    def discounted(self, percent: int) -> "Item":
        return replace(self, price=round_cents(self.price * (100 - percent) / 100))


@dataclass
class Order:
    id: str
    items: list[Item] = field(default_factory=list)
    status: Status = Status.NEW

    def add(self, item: Item) -> "Order":
        self.items.append(item)
        return self

    @classmethod
    def of(cls, order_id: str, *items: Item) -> "Order":
        return cls(order_id, list(items))

    @staticmethod
    def check(order_id: str) -> bool:
        return order_id.isalnum()

    def __len__(self) -> int:
        return len(self.items)


def round_cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, rounding=ROUND_HALF_UP)


@functools.lru_cache(maxsize=128)
def rate_of(country: str) -> Decimal:
    return RATES.get(country, Decimal(0))


def gross(items: Iterable[Item], country: str) -> Decimal:
    return round_cents(sum((item.total for item in items), start=Decimal(0)) * (1 + rate_of(country)))


def next_working_day(day: datetime) -> datetime:
    day += timedelta(days=1)
    while day.weekday() in WEEKEND:
        day += timedelta(days=1)
    return day


def traced(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return await function(*args, **kwargs)

    return wrapper


@activity(name="ordinary.charge")
def charge(order_id: str, amount: str) -> str:
    print("charged", order_id)
    return f"payment-{order_id}"


@activity(name="ordinary.refund")
def refund(order_id: str) -> None:
    print("refunded", order_id)


@activity(name="ordinary.ship")
async def ship(order_id: str) -> str:
    return f"label-{order_id}"


@activity(name="ordinary.notify")
def notify(text: str) -> None:
    print(text)


@activity(name="ordinary.fetch")
def fetch(page: int) -> dict:
    return {"page": page, "items": []}
