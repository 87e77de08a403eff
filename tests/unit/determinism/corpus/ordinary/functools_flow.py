import functools
from collections.abc import Callable
from functools import cached_property, partial, reduce, singledispatch

from continuum import workflow

from .support import charge, traced


@singledispatch
def weigh(value: object) -> int:
    return 0


@weigh.register
def _(value: int) -> int:
    return value


@weigh.register
def _(value: str) -> int:
    return len(value)


@functools.cache
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@traced
async def pay(order: str, amount: str) -> str:
    return await charge(order, amount)


class Report:
    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    @cached_property
    def total(self) -> int:
        return reduce(lambda a, b: a + b, self.rows, 0)


def compose(*functions: Callable[[int], int]) -> Callable[[int], int]:
    return reduce(lambda f, g: lambda x: g(f(x)), functions)


@workflow(name="ordinary.functools")
async def functools_flow(order: str) -> int:
    pay_one = partial(pay, order)
    await pay_one("1")
    add = compose(lambda x: x + 1, partial(max, 3), fibonacci)
    return add(weigh(order)) + Report([1, 2]).total
