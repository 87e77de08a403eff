"""Here lives the declaration of ordinary workflows: what reading their code costs, with all that they call.

Each module pair (a workflow with its classes, helpers in another module) is new to the process, as at its start.
"""

import importlib
import inspect
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import median
from continuum import workflow
from continuum.determinism.policy import postponed_checks
from continuum.determinism.scanner import examine

FLOWS = """
import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from continuum import ActivityFailed, Signal, activity, log, now, saga, sleep
from {helpers} import Item, gross, label_of, next_working_day

approved = Signal("approved", str)


@dataclass
class Order:
    id: str
    items: list[Item] = field(default_factory=list)

    @property
    def total(self) -> Decimal:
        return gross(self.items, "de")

    def describe(self) -> str:
        return f"{{self.id}}: {{len(self.items)}} items, {{self.total:.2f}}"


@activity(name="{name}.charge")
def charge(order: str, amount: str) -> str:
    return order


@activity(name="{name}.refund")
def refund(order: str) -> None: ...


@activity(name="{name}.ship")
def ship(order: str) -> str:
    return order


async def pay(order: Order) -> str:
    for attempt in range(3):
        try:
            return await charge(order.id, str(order.total)).compensate(refund, order.id)
        except ActivityFailed as error:
            log.warning("attempt %s: %s", attempt, error)
            await sleep(timedelta(minutes=2**attempt))
    raise RuntimeError(order.describe())


async def order_flow(order_id: str, prices: list[str]) -> dict[str, str]:
    order = Order(order_id, [Item(f"sku-{{n}}", Decimal(price)) for n, price in enumerate(prices)])
    async with saga():
        payment = await pay(order)
        try:
            decision = await approved.wait(timeout=timedelta(hours=24))
        except TimeoutError:
            decision = "approved"
        if decision != "approved":
            raise ValueError(decision)
        labels = await asyncio.gather(*(ship(item.sku) for item in order.items))
    due = next_working_day(now())
    names = ",".join(sorted(labels))
    return {{"payment": payment, "labels": names, "due": due.isoformat(), "label": label_of(order_id)}}


async def other_flow(order_id: str) -> str:
    order = Order(order_id)
    match order_id.split("-"):
        case [prefix, number] if number.isdigit():
            payment = await pay(order)
        case _:
            payment = label_of(order_id)
    return payment
"""

HELPERS = """
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
RATES = {"de": Decimal("0.19"), "fr": Decimal("0.20")}
WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Item:
    sku: str
    price: Decimal
    quantity: int = 1

    @property
    def total(self) -> Decimal:
        return self.price * self.quantity


def rounded(value: Decimal) -> Decimal:
    return value.quantize(CENT, rounding=ROUND_HALF_UP)


@functools.cache
def rate_of(country: str) -> Decimal:
    return RATES.get(country, Decimal(0))


def gross(items: Iterable[Item], country: str) -> Decimal:
    return rounded(sum((item.total for item in items), start=Decimal(0)) * (1 + rate_of(country)))


def next_working_day(day: datetime) -> datetime:
    day += timedelta(days=1)
    while day.weekday() >= 5:
        day += timedelta(days=1)
    return day


def label_of(order: str) -> str:
    return json.dumps({"order": order, "words": WORD.findall(order.lower())}, sort_keys=True)
"""


def declaring(options: dict[str, Any]) -> dict[str, Any]:
    """Declare: the first workflow of a module, another one of it, and a look at what is known."""
    first, unread, second, cached = [], [], [], []
    read = 0
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        for number in range(options["modules"]):
            name = f"declared_{number}"
            Path(folder, f"{name}_helpers.py").write_text(HELPERS, encoding="utf-8")
            source = FLOWS.format(name=name, helpers=f"{name}_helpers")
            Path(folder, f"{name}.py").write_text(source, encoding="utf-8")
            importlib.invalidate_caches()
            module = importlib.import_module(name)
            if number % 2:
                with postponed_checks():
                    unread.append(_timed(lambda m=module, n=name: workflow(name=f"{n}.order")(m.order_flow)))
                continue
            first.append(_timed(lambda m=module, n=name: workflow(name=f"{n}.order")(m.order_flow)))
            second.append(_timed(lambda m=module, n=name: workflow(name=f"{n}.other")(m.other_flow)))
            cached.append(_timed(lambda m=module, n=name: examine(m.order_flow, workflow=n)))
            seen = examine(module.order_flow, workflow=name)
            read = seen.read
            if seen.findings or seen.pending:
                raise MeasurementError(f"an ordinary workflow is not clean: {seen}")
    return {
        "figures": {
            "first_ms": round(median(first) * 1e3, 3),
            "worst_ms": round(max(first) * 1e3, 3),
            "unread_ms": round(median(unread) * 1e3, 3),
            "second_ms": round(median(second) * 1e3, 3),
            "cached_ms": round(median(cached) * 1e3, 3),
        },
        "detail": {
            "modules": options["modules"],
            "functions_read": read,
            "lines": len(inspect.cleandoc(FLOWS + HELPERS).splitlines()),
        },
        "verified": f"{read} functions read, nothing found",
    }


def _timed(call: Any) -> float:
    # Of this thread: reading waits for nobody, and others on the machine do not count.
    began = time.thread_time()
    call()
    return time.thread_time() - began


if __name__ == "__main__":
    serve({"declaring": declaring})
