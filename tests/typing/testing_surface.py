"""What a type checker says about users' tests. Read by mypy in `test_testing_surface`, never run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from continuum import Signal, activity, workflow
from continuum.testing import (
    HANG,
    REAL,
    Call,
    Calls,
    Faults,
    Harness,
    TestRun,
    fail,
    outcomes,
    run,
    run_async,
    start,
    takes,
)

approved = Signal("approved", bool)
nudge = Signal("nudge")
quote = Signal("quote", int, reply=str)


@dataclass
class Payment:
    amount: int


@activity
def charge(order_id: str, amount: int) -> Payment:
    return Payment(amount)


@workflow
async def order_flow(order_id: str, *, amount: int = 1) -> Payment:
    return await charge(order_id, amount)


assert_type(run(order_flow, "o1", amount=3), Payment)
assert_type(run(order_flow, "o1", activities={charge: Payment(3)}), Payment)
assert_type(run(order_flow, "o1", signals={approved: True}, activities={charge: fail(OSError, times=2)}), Payment)
assert_type(run(order_flow, "o1", signals=[(approved, True), (nudge, None)]), Payment)
assert_type(run(order_flow, "o1", restart_always=True), Payment)
assert_type(run(order_flow, "o1", strict=True, now=datetime(2030, 1, 1, tzinfo=UTC)), Payment)
assert_type(run(order_flow, "o1", faults=Faults(crash_at="commit.sent:2", lose_hints=True)), Payment)
run(order_flow, 3)  # type: ignore[call-overload]
run(order_flow)  # type: ignore[call-overload]
run(order_flow, "o1", amuont=3)  # type: ignore[call-arg]
run(charge, "o1", 1)  # type: ignore[call-overload]
run(order_flow, "o1", restart_always="yes")  # type: ignore[call-arg]
run(order_flow, "o1", faults="commit.sent")  # type: ignore[call-arg]

order = start(order_flow, "o1", activities={charge: outcomes(HANG, takes(timedelta(seconds=3)), REAL)})
assert_type(order, TestRun[Payment])
assert_type(order.result(), Payment)
assert_type(order.calls(charge), Calls)
assert_type(order.calls(charge)[0], Call)
assert_type(order.advance(timedelta(hours=1)), TestRun[Payment])
assert_type(order.fire_timer().run_until_blocked().result(), Payment)
order.signal(approved, True)
order.signal(approved, "yes")  # type: ignore[misc]
order.signal(nudge)
order.signal("anything", {"any": 1}, delivery_id="m1")
assert_type(order.ask(quote, 3), str)
order.ask(quote, "three")  # type: ignore[misc]
with start(order_flow, "o1") as held:
    assert_type(held.result(), Payment)

harness = Harness(activities={charge: lambda order_id, amount: Payment(amount)}, strict=True)
assert_type(harness.run(order_flow, "o1", amount=3), Payment)
harness.run(order_flow, "o1", amount="3")  # type: ignore[arg-type]
assert_type(harness.start(order_flow, "o1"), TestRun[Payment])
assert_type(harness.follow(harness.continuum.start(order_flow, "o1")), TestRun[Payment])
assert_type(harness.follow("018f0000-0000-7000-8000-000000000001"), TestRun[Any])


async def in_a_loop() -> None:
    assert_type(await run_async(order_flow, "o1", amount=3), Payment)
    assert_type(await run_async(order_flow, "o1", activities={charge: REAL}), Payment)
    assert_type(await harness.run_async(order_flow, "o1"), Payment)
