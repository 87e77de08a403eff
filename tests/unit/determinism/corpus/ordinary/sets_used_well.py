from continuum import workflow

from .support import notify

ALLOWED = {"eu", "us"}


@workflow(name="ordinary.sets")
async def sets_flow(regions: list[str]) -> list[str]:
    seen: set[str] = set()
    unique: list[str] = []
    for region in regions:
        if region in ALLOWED and region not in seen:
            seen.add(region)
            unique.append(region)
    missing = ALLOWED - seen
    both = seen & ALLOWED
    if missing and not seen.isdisjoint(ALLOWED):
        await notify(f"{len(missing)} missing: {sorted(missing)}")
    for region in sorted(both | {"zz"}):
        await notify(region)
    ok = all(region in ALLOWED for region in unique) and seen <= ALLOWED and seen == set(regions)
    total = sum({1, 2, 3})
    return [*unique, str(ok), max(both, default=""), str(total), *sorted({name.upper() for name in unique})]
