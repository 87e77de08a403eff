"""Here live the workflows that tests of the client start."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from continuum import Continuum, Signal, activity, wait_signal, workflow
from continuum.errors import DeterminismError

approval = Signal("client.approval", str)
price_of = Signal("client.price_of", str, reply=Decimal)


@dataclass(frozen=True)
class Item:
    name: str
    price: Decimal


@activity(name="client.add")
def add(a: int, b: int) -> int:
    return a + b


@workflow(name="client.sum")
async def total(a: int, b: int = 1) -> int:
    return await add(a, b)


@workflow(name="client.echo")
async def echo(items: list[Item], note: str | None = None) -> list[Item]:
    return items


@workflow(name="client.wait")
async def wait_for_approval() -> str:
    return await approval.wait()


@workflow(name="client.first")
async def first_signal(name: str) -> Any:
    return await wait_signal(name)


@workflow(name="client.clerk", signals=[price_of, approval])
async def clerk() -> str:
    request = await price_of.receive()
    request.answer(Decimal(len(request.value)))
    return await approval.wait()


@workflow(name="client.broken")
async def broken(text: str) -> None:
    raise ValueError(text)


@workflow(name="client.forever")
async def forever() -> None:
    await asyncio.sleep(86_400)


@workflow(name="client.greedy")
async def greedy(namespace: str) -> str:
    return namespace


INSTANCE: list[Continuum] = []


@workflow(name="client.impure")
async def impure(what: str) -> str:
    """Use an instance inside workflow code, which must be refused."""
    [instance] = INSTANCE
    try:
        match what:
            case "start":
                instance.start(total, 1)
            case "result":
                instance.handle("0190a6f0-0000-7000-8000-000000000001").result(timeout=0)
            case "signal":
                instance.signal("0190a6f0-0000-7000-8000-000000000001", "s")
            case _:
                instance.search()
    except DeterminismError as error:
        return str(error)
    return "not refused"
