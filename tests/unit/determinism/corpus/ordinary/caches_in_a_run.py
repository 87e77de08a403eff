from dataclasses import dataclass, field

from continuum import workflow

from .support import fetch, notify

DEFAULTS = {"size": 10, "names": ["a", "b"]}
LIMITS = (1, 2, 3)


@dataclass
class Cache:
    pages: dict[int, dict] = field(default_factory=dict)
    hits: int = 0

    async def get(self, page: int) -> dict:
        if page in self.pages:
            self.hits += 1
        else:
            self.pages[page] = await fetch(page)
        return self.pages[page]


@workflow(name="ordinary.caches")
async def caches(wanted: list[int]) -> int:
    cache, options = Cache(), dict(DEFAULTS)
    options["size"] = 20
    options["names"] = [*DEFAULTS["names"], "c"]
    for page in wanted:
        await cache.get(page % DEFAULTS["size"])
    names = list(DEFAULTS["names"])
    names.append("d")
    DEFAULTS_HERE = DEFAULTS.copy()
    DEFAULTS_HERE.update(size=1)
    await notify(str(names))
    return cache.hits + len(LIMITS)
