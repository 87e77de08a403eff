from continuum import workflow

from .support import charge, fetch


def counter(start: int = 0):
    count = start

    def step(by: int = 1) -> int:
        nonlocal count
        count += by
        return count

    return step


def bucket_of(limit: int):
    buckets: dict[int, list[int]] = {}

    def put(value: int) -> int:
        buckets.setdefault(value % limit, []).append(value)
        return len(buckets)

    return put


@workflow(name="ordinary.closures")
async def closures(order: str) -> dict:
    step, put = counter(), bucket_of(3)
    seen: list[int] = []
    handlers = {"charge": lambda: charge(order, str(step())), "fetch": lambda: fetch(step())}
    for name in ("charge", "fetch"):
        result = await handlers[name]()
        seen.append(put(len(result)))

    async def again(depth: int) -> int:
        if depth == 0:
            return step()
        await fetch(depth)
        return await again(depth - 1)

    return {"seen": seen, "depth": await again(2)}
