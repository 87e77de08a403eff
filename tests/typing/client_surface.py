"""What a type checker is told about starting runs and holding on to them. Checked by mypy, never run."""

from decimal import Decimal
from typing import Any, Literal, assert_type

from continuum import AsyncRunHandle, Continuum, Run, RunHandle, Signal, workflow
from continuum.journal.protocol import PostResult

approval = Signal("approval", str)
price = Signal("price_of", str, reply=Decimal)
maybe = Signal[str | None]("maybe", str | None)
anything = Signal("anything")
nothing = Signal[None]("nothing", None)


@workflow(version=1)
async def order(name: str, count: int = 1) -> float:
    return 1.0


def sync(continuum: Continuum, connection: Any) -> None:
    assert_type(continuum.start(order, "a"), RunHandle[float])
    assert_type(continuum.start(order, "a", count=2).result(), float)
    assert_type(continuum.start(order, "a", idempotency_key="k"), RunHandle[float])
    assert_type(continuum.start(order, "a", 2, namespace="eu", attributes={"a": 1}), RunHandle[float])
    assert_type(continuum.start(order, "a", connection=connection), RunHandle[float])
    assert_type(continuum.start("order", 1, b=2), RunHandle[Any])
    assert_type(
        continuum.start_unique(order, "a", idempotency_key="k"),
        tuple[RunHandle[float], Literal["started", "existing"]],
    )
    handle = continuum.start(order, "a")
    assert_type(handle.signal(approval, "yes"), PostResult)
    assert_type(handle.ask(price, "tea", timeout=3), Decimal)
    assert_type(handle.ask("price_of", "tea"), Any)
    handle.ask(price, 7)  # type: ignore[misc]
    handle.ask(approval, "yes")  # type: ignore[call-overload]
    assert_type(handle.signal(price, "tea"), PostResult)
    assert_type(handle.signal(maybe), PostResult)
    assert_type(handle.signal(maybe, "yes", delivery_id="d"), PostResult)
    assert_type(handle.signal(anything), PostResult)
    assert_type(handle.signal(anything, 5, connection=connection), PostResult)
    assert_type(handle.signal(nothing), PostResult)
    assert_type(handle.signal("approval"), PostResult)
    assert_type(handle.signal("approval", 5), PostResult)
    handle.signal(approval, 5)  # type: ignore[misc]
    handle.signal(approval)  # type: ignore[arg-type]
    handle.signal(nothing, 5)  # type: ignore[misc]
    assert_type(continuum.signal(handle.id, approval, "yes", namespace="eu"), PostResult)
    assert_type(continuum.signal(handle.id, nothing), PostResult)
    assert_type(continuum.signal(handle.id, "approval", 5, delivery_id="d"), PostResult)
    continuum.signal(handle.id, approval, 5)  # type: ignore[misc]
    continuum.signal(handle.id, approval)  # type: ignore[arg-type]
    assert_type(handle.refresh(), Run)
    assert_type(handle.aio, AsyncRunHandle[float])
    assert_type(continuum.handle(handle.id), RunHandle[Any])

    continuum.start(order)  # type: ignore[call-overload]
    continuum.start(order, 7)  # type: ignore[call-overload]
    continuum.start(order, "a", nonsense=1)  # type: ignore[call-arg]
    continuum.start(order.function, "a")  # type: ignore[call-overload]
    continuum.start_unique(order, "a")  # type: ignore[call-overload]
    Continuum(concurency=3)  # type: ignore[call-arg]
    Continuum(concurrency="many")  # type: ignore[arg-type]


async def twins(continuum: Continuum) -> None:
    handle = await continuum.aio.start(order, "a")
    assert_type(handle, AsyncRunHandle[float])
    assert_type(await handle.result(timeout=3), float)
    assert_type(await continuum.aio.start(order, "a", idempotency_key="k"), AsyncRunHandle[float])
    assert_type(
        await continuum.aio.start_unique(order, "a", idempotency_key="k"),
        tuple[AsyncRunHandle[float], Literal["started", "existing"]],
    )
    assert_type(await continuum.aio.get(handle.id), Run)
    assert_type(await continuum.aio.find(handle.id, namespace="eu"), Run | None)
    assert_type(await handle.signal("approval", "yes", delivery_id="d"), PostResult)
    assert_type(await handle.signal(approval, "yes", delivery_id="d"), PostResult)
    assert_type(await handle.signal(nothing), PostResult)
    await handle.signal(approval, 5)  # type: ignore[misc]
    await handle.signal(approval)  # type: ignore[arg-type]
    assert_type(await continuum.aio.signal(handle.id, approval, "yes", namespace="eu"), PostResult)
    assert_type(await continuum.aio.signal(handle.id, "approval", 5), PostResult)
    assert_type(await continuum.aio.signal(handle.id, maybe), PostResult)
    await continuum.aio.signal(handle.id, approval, 5)  # type: ignore[misc]
    assert_type(await handle.ask(price, "tea", delivery_id="d"), Decimal)
    assert_type(await handle.ask("price_of"), Any)
    await handle.ask(price, 7)  # type: ignore[misc]
    assert_type(handle.sync, RunHandle[float])

    await continuum.aio.start(order, 7)  # type: ignore[call-overload]
    await continuum.aio.get(7)  # type: ignore[arg-type]
    await handle.signal()  # type: ignore[call-overload]
