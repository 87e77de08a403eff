"""What a type checker says about users' code. Read by mypy in `test_surface`, never run."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, assert_type

from continuum.declare.activities import Activity, activity
from continuum.declare.attempts import Attempt, current_attempt
from continuum.declare.children import start_child
from continuum.declare.signals import Signal
from continuum.declare.workflows import Workflow, workflow
from continuum.model.policies import Retry
from continuum.replay.effects.activity import ActivityFuture
from continuum.replay.effects.saga import compensate, compensate_all, saga
from continuum.replay.outcomes import Compensated, Rollback


@dataclass
class Payment:
    amount: Decimal


@activity
def charge(order_id: str, amount: Decimal) -> Payment:
    return Payment(amount)


@activity(retry=Retry(max_attempts=5), timeout=timedelta(seconds=30), queue="payments")
async def refund(order_id: str, *, reason: str = "") -> bool:
    return bool(reason)


@activity(retry=3, timeout=1.5, idempotency_key=lambda order_id: f"ship:{order_id}")
def ship(order_id: str) -> str:
    return order_id


class SendTask:
    """What stubs of Celery say of a task made by a decorator."""

    name = "mail.send"

    def run(self, to: str, copies: int = 1) -> bool:
        return bool(to * copies)


class FetchTask:
    name = "mail.fetch"

    async def run(self, box: str) -> list[str]:
        return [box]


send = activity.from_celery(SendTask(), queue="mail", retry=3)
fetch = activity.from_celery(FetchTask())
activity.from_celery(ship)  # type: ignore[call-overload]
activity.from_celery(SendTask(), name="other")  # type: ignore[call-overload]


review = Signal("review", str)
anything = Signal("anything")
maybe = Signal[str | None]("maybe", str | None)
price_of = Signal("price_of", str, reply=Decimal)


@workflow(signals=[review, "stop", price_of])
async def clerk() -> Decimal:
    request = await price_of.receive(timeout=3)
    assert_type(request.value, str)
    request.answer(Decimal(1))
    request.answer("dear")  # type: ignore[arg-type]
    await review.receive()  # type: ignore[attr-defined]
    assert_type(await price_of.wait(), str)
    return Decimal(0)


@workflow
async def bare(n: int) -> str:
    return str(n)


@workflow
async def sends() -> None:
    child = start_child(bare, 1)
    child.signal(review, "fine")
    child.signal(price_of, "tea")
    child.signal(maybe)
    child.signal(anything, 5)
    child.signal("review", 5)
    child.signal("review")
    child.signal(review, 5)  # type: ignore[misc]
    child.signal(review)  # type: ignore[arg-type]


@workflow(version=2, retention=timedelta(days=1))
async def order_flow(order_id: str) -> Payment:
    payment = await charge(order_id, Decimal(1))
    assert_type(payment, Payment)
    assert_type(await refund(order_id, reason="late"), bool)
    assert_type(await charge.options(queue="bulk", priority=3)(order_id, Decimal(2)), Payment)
    assert_type(charge(order_id, Decimal(1)), ActivityFuture[Payment])
    assert_type(await asyncio.gather(ship(order_id), refund(order_id)), tuple[str, bool])
    assert_type(await asyncio.wait_for(ship(order_id), 3), str)
    done, _ = await asyncio.wait([ship(order_id), ship(order_id)])
    assert_type(done, set[ActivityFuture[str]])
    assert_type(await review.wait(timeout=timedelta(hours=1)), str)
    assert_type(await anything.wait(), Any)
    assert_type(await maybe.wait(3.5), str | None)

    assert_type(await send(order_id, copies=2), bool)
    assert_type(await fetch(order_id), list[str])
    assert_type(send.options(priority=3)(order_id), ActivityFuture[bool])

    assert_type(await charge(order_id, Decimal(1)).compensate(refund, order_id, reason="late"), Payment)
    assert_type(charge(order_id, Decimal(1)).compensate(ship, order_id), ActivityFuture[Payment])
    async with saga(parallel=True) as undo:
        undo.add(refund, order_id)
        call = ship(order_id).compensate(refund.options(queue="bulk"), order_id)
        assert_type(await asyncio.gather(call, ship(order_id)), tuple[str, str])
    assert_type(undo.outcome, Rollback | None)
    rollback = await compensate_all(parallel=True)
    assert_type(rollback.failed, tuple[Compensated, ...])
    await compensate(call)
    charge(order_id, Decimal(1)).compensate(refund)  # type: ignore[call-arg]
    charge(order_id, Decimal(1)).compensate(refund, 3)  # type: ignore[arg-type]
    charge(order_id, Decimal(1)).compensate(bare, 3)  # type: ignore[arg-type]
    undo.add(refund, 3)  # type: ignore[arg-type]

    send(3)  # type: ignore[arg-type]
    fetch()  # type: ignore[call-arg]
    charge(order_id)  # type: ignore[call-arg]
    charge(order_id, "1")  # type: ignore[arg-type]
    refund(order_id, "late")  # type: ignore[call-arg]
    charge.options(queue=3)  # type: ignore[arg-type]
    charge.options(quue="x")  # type: ignore[call-arg]
    return payment


assert_type(current_attempt(), Attempt)
plain: Coroutine[Any, Any, str] = bare(3)
other: Coroutine[Any, Any, Payment] = order_flow("o")
wrong = order_flow(3)  # type: ignore[arg-type]
assert_type(review.encode("ok"), str)
review.encode(3)  # type: ignore[arg-type]


def takes(one: Activity[[str], str], two: Workflow[[int], str]) -> None: ...


takes(ship, bare)


@workflow  # type: ignore[arg-type]
def not_async(n: int) -> int:
    return n


@activity(timeuot=3)  # type: ignore[call-overload, untyped-decorator]
def misspelt() -> None: ...
