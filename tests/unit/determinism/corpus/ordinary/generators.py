from collections.abc import AsyncIterator, Iterator

from continuum import workflow

from .support import fetch, notify


def chunks(values: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def flattened(values) -> Iterator[int]:
    for value in values:
        if isinstance(value, list):
            yield from flattened(value)
        else:
            yield value


async def pages(limit: int) -> AsyncIterator[dict]:
    for number in range(limit):
        yield await fetch(number)


@workflow(name="ordinary.generators")
async def generators(values: list[int]) -> int:
    total = 0
    for chunk in chunks(values, 10):
        await notify(",".join(map(str, chunk)))
        total += sum(x for x in flattened([chunk, [chunk]]) if x % 2)
    async for page in pages(3):
        total += len(page["items"])
    found = [page["page"] async for page in pages(2)]
    gen = chunks(values, 2)
    head = next(gen, None)
    pairs = dict(zip(values, range(len(values)), strict=False))
    return total + len(found) + len(head or []) + len(pairs)
