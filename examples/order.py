"""An order: price it, charge it, wait for a review but not for ever, then ship and notify at the same time.

python examples/order.py             in memory
python examples/order.py --postgres  on a Postgres that the script starts by itself
"""

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from continuum import Continuum, PermanentError, Retry, Signal, activity, log, workflow
from continuum.errors import RunFailed


@dataclass(frozen=True)
class Item:
    """What is ordered."""

    name: str
    price: Decimal


@dataclass(frozen=True)
class Payment:
    """What the payment provider says."""

    order_id: str
    amount: Decimal


class OrderRejected(Exception):
    """The review said no."""


fraud_review = Signal("fraud_review", str)


@activity
def price(items: list[Item]) -> Decimal:
    return sum((item.price for item in items), Decimal(0))


@activity(retry=Retry(max_attempts=5, backoff="exponential"), timeout=timedelta(seconds=30))
def charge(order_id: str, amount: Decimal) -> Payment:
    if amount <= 0:
        raise PermanentError("nothing to charge")  # trying again would not help
    return Payment(order_id, amount)


@activity(idempotency_key=lambda order_id: f"ship:{order_id}")
def ship(order_id: str) -> str:
    return f"label of {order_id}"


@activity
async def notify(order_id: str) -> str:
    await asyncio.sleep(0.01)
    return f"wrote to the customer of {order_id}"


@workflow(version=1, retention=timedelta(days=30))
async def order_flow(order_id: str, items: list[Item], patience: timedelta) -> str:
    total = await price(items)
    payment = await charge(order_id, total)
    log.info("%s is paid: %s", order_id, payment.amount)
    try:
        decision = await fraud_review.wait(timeout=patience)
    except TimeoutError:
        decision = "approved"
    if decision == "rejected":
        raise OrderRejected(order_id)
    label, _ = await asyncio.gather(ship(order_id), notify(order_id))
    return label


def main() -> None:
    items = [Item("book", Decimal("12.50")), Item("pen", Decimal("2.20"))]
    instance = Continuum.dev() if "--postgres" in sys.argv else Continuum("memory://")
    with instance as continuum, continuum.running():
        reviewed = continuum.start(order_flow, "o1", items, timedelta(hours=24), idempotency_key="o1")
        rejected = continuum.start(order_flow, "o2", items, timedelta(hours=24))
        impatient = continuum.start(order_flow, "o3", items, timedelta(milliseconds=50))

        reviewed.signal(fraud_review, "approved", delivery_id="msg-17")
        rejected.signal(fraud_review, "rejected")

        print("reviewed: ", reviewed.result(timeout=30))
        print("impatient:", impatient.result(timeout=30))
        try:
            rejected.result(timeout=30)
        except RunFailed as error:
            print("rejected: ", error.type_name, error.error_message)

        print("\nthe history of", reviewed.id)
        for event in reviewed.history():
            print(f"  {event.seq:>2} {event.type:<20} {event.name or '':<22} {event.location or ''}")


if __name__ == "__main__":
    main()
