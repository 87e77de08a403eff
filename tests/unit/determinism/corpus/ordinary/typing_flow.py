from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, Generic, Literal, NewType, TypedDict, TypeVar, assert_never, cast

from continuum import workflow

from .support import charge

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
OrderId = NewType("OrderId", str)
Mode = Literal["fast", "slow"]


class Row(TypedDict, total=False):
    name: str
    size: int


class Box(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    def map(self, function: typing.Callable[[T], T]) -> Box[T]:
        return Box(function(self.value))


def first(values: Sequence[T]) -> T | None:
    return values[0] if values else None


def speed(mode: Mode) -> int:
    if mode == "fast":
        return 10
    if mode == "slow":
        return 1
    assert_never(mode)


@workflow(name="ordinary.typing")
async def typing_flow(order: str, mode: str) -> Any:
    key = OrderId(order)
    row: Row = {"name": key, "size": speed(cast("Mode", mode))}
    box = Box(3).map(lambda n: n * 2)
    await charge(first([key]) or "none", str(box.value))
    return row
