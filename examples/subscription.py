"""A subscription: charged every month for ever, each month a run of its own, one id for all of them.

python examples/subscription.py             in memory
python examples/subscription.py --postgres  on a Postgres that the script starts by itself
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from continuum import Continuum, Signal, SignalRefused, activity, continue_as_new, set_attributes, workflow

MONTH = timedelta(milliseconds=300)  # the demo is impatient


@dataclass(frozen=True)
class Plan:
    """What is subscribed to."""

    name: str
    price: int


change_plan = Signal("change_plan", Plan)
leave = Signal("leave", str)
charges: list[str] = []


@activity(idempotency_key=lambda customer, month, _: f"{customer}/{month}")
def charge(customer: str, month: int, plan: Plan) -> None:
    charges.append(f"{customer} {plan.price} for month {month}")


@workflow(signals=[change_plan, leave])
async def subscription(customer: str, plan: Plan, month: int, length: timedelta) -> str:
    set_attributes({"customer": customer, "plan": plan.name, "month": month})
    await charge(customer, month, plan)

    async def listen() -> NoReturn:
        nonlocal plan
        while True:
            plan = await change_plan.wait()  # from next month on
            set_attributes({"next_plan": plan.name})

    listener = asyncio.create_task(listen())
    try:
        reason = await leave.wait(timeout=length)
    except TimeoutError:
        continue_as_new(customer, plan, month + 1, length)  # a new run with a short history; nothing below is reached
    finally:
        listener.cancel()
    return f"{customer} left in month {month}: {reason}"


def wait_for_charge(words: str) -> None:
    deadline = time.monotonic() + 30
    while not any(words in charge for charge in charges):
        assert time.monotonic() < deadline, charges
        time.sleep(0.02)


def main() -> None:
    instance = Continuum.dev() if "--postgres" in sys.argv else Continuum("memory://")
    with instance as continuum, continuum.running():
        handle = continuum.start(subscription, "Ada", Plan("small", 5), 1, MONTH)
        wait_for_charge("month 2")

        handle.signal(change_plan, Plan("large", 9))  # the id of the first month goes on working
        wait_for_charge("Ada 9")
        try:
            handle.signal("change_plan", "the best one")
        except SignalRefused as error:
            print("refused: ", error)

        [run] = continuum.search(where={"attributes.customer": "Ada", "attributes.plan": "large", "is_tip": True}).runs
        print("found:   ", run.workflow, run.attributes["plan"], run.id != handle.id)

        handle.signal(leave, "too large")
        print("left:    ", handle.result(timeout=30))
        months = continuum.search(where={"chain_id": handle.id}, order="created_at").runs
        print("months:  ", ", ".join(f"{run.attributes['month']} {run.state}" for run in months))
        print("charges: ", ", ".join(charges))
        assert [run.state for run in months] == ["continued"] * (len(months) - 1) + ["completed"]
        assert len(charges) == len(months)


if __name__ == "__main__":
    main()
