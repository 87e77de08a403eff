"""Here live the workflows that tests of the client start."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from continuum import Signal, activity, wait_signal, workflow

approval = Signal("client.approval", str)


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


@workflow(name="client.broken")
async def broken(text: str) -> None:
    raise ValueError(text)


@workflow(name="client.forever")
async def forever() -> None:
    await asyncio.sleep(86_400)


@workflow(name="client.greedy")
async def greedy(namespace: str) -> str:
    return namespace
