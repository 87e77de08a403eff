from operator import attrgetter, itemgetter

from continuum import workflow

from .support import Item, notify


@workflow(name="ordinary.sorting")
async def sorting(rows: list[dict[str, int]], items: list[Item]) -> list[str]:
    rows.sort(key=itemgetter("rank"), reverse=True)
    best = max(items, key=lambda item: (item.total, item.sku))
    cheapest = sorted(items, key=attrgetter("price"))[:3]
    by_length = sorted((item.sku for item in items), key=str.lower)
    width = max(map(len, by_length), default=0)
    lines = [f"{item.sku:<{width}} {item.total:>10.2f} {item.quantity!r:^5}" for item in cheapest]
    await notify("\n".join([*lines, f"{best.sku=}", "%-10s|%5d" % ("total", len(rows)), str(rows).center(20, "*")]))
    return list(reversed(lines))
