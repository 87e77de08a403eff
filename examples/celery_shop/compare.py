"""Here lives the comparison: the same orders as a Celery chord and chain, and as a workflow, while things go wrong.

Nothing is simulated: real workers, a real ``kill -9``, a real FLUSHALL. What is counted is what the world outside has
seen. An operator who finds unfinished orders afterwards places them again, and that is counted, too.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from continuum import Continuum
from examples.celery_shop.brokers import open_broker
from examples.celery_shop.processes import Shop, Urls

__all__ = ["COLUMNS", "Outcome", "compare", "table_of"]

# What is measured: a name, the variant of the shop, and settings that differ.
COLUMNS: Final = {
    "chord and chain, as Celery comes": ("before", {}),
    "chord and chain, acks_late": ("before", {"SHOP_ACKS_LATE": "1"}),
    "workflow": ("after", {}),
}
ORDERS: Final = 24
# Longer than everything that repairs something by itself within minutes: a lease, a deadline, a reconnect.
QUIET_SECONDS: Final = 30.0
RIPE_SECONDS: Final = 60.0
# Slow enough that things are under way when it happens.
PACE: Final = "0.1"


@dataclass(frozen=True)
class Outcome:
    """What became of the orders.

    :ivar finished: by themselves. :ivar lost: never, however long one waits for it (``QUIET_SECONDS`` without a sign).
    :ivar seconds: from the mishap to the last of those that finished by themselves.
    :ivar asked_again: charges that the provider was asked for more than once before anybody did anything.
    :ivar charged_twice: customers who have paid twice after the unfinished orders were placed again.
    :ivar finished_at_last: after they were.
    """

    placed: int
    finished: int
    lost: int
    asked_again: int
    charged_twice: int
    finished_at_last: int
    seconds: int


def compare(
    kind: str, *, orders: int = ORDERS, quiet: float = QUIET_SECONDS, columns: Iterable[str] = COLUMNS
) -> dict[str, dict[str, Outcome]]:
    """Return, for each mishap, what became of the orders in each column."""
    mishaps: dict[str, Callable[[Shop, Urls], None]] = {"kill -9 of the worker": _kill}
    if kind == "redis":
        mishaps["FLUSHALL with a full queue"] = _flush
    found = {}
    for mishap, do in mishaps.items():
        # Each column has servers of its own, so they may run at the same time: no one waits for another's patience.
        with ThreadPoolExecutor() as pool:
            run = partial(_run, kind, do, orders, quiet)
            found[mishap] = dict(zip(columns, pool.map(run, columns), strict=True))
    return found


def _run(kind: str, mishap: Callable[[Shop, Urls], None], orders: int, quiet: float, column: str) -> Outcome:
    variant, settings = COLUMNS[column]
    names = [f"o{number}" for number in range(1, orders + 1)]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-")))
        urls = _open_servers(kind, variant, stack)
        shop = Shop(variant, urls, directory, stack, settings={"SHOP_PACE": PACE, **settings})
        if variant == "after":
            shop.start_dispatcher()
        shop.start_worker()
        shop.place(names)
        _wait_until_ripe(shop)
        began = time.time()
        mishap(shop, urls)
        shop.wait_for_orders(names, quiet=quiet)
        finished = set(shop.ledger.count("confirmed"))
        last = max((line["at"] for line in shop.ledger.lines() if line["what"] == "confirmed"), default=began)
        # The provider says "busy" to every seventh order by itself.
        asked = {order: times - order.endswith("7") for order, times in shop.ledger.count("charge asked").items()}
        lost = [name for name in names if name not in finished]
        if lost:
            shop.place(lost)
            shop.wait_for_orders(names, quiet=quiet)
        return Outcome(
            placed=orders,
            finished=len(finished),
            lost=len(lost),
            asked_again=sum(times > 1 for times in asked.values()),
            charged_twice=sum(times > 1 for times in shop.ledger.count("charged").values()),
            finished_at_last=len(shop.ledger.count("confirmed")),
            seconds=round(last - began),
        )


def _open_servers(kind: str, variant: str, stack: ExitStack) -> Urls:
    """Start a broker, a Redis for results (chords need one), and a Postgres if the shop has workflows."""
    broker = stack.enter_context(open_broker(kind))
    results = broker.url if kind == "redis" else stack.enter_context(open_broker("redis")).url
    if variant == "before":
        return Urls(broker.url, results)
    return Urls(broker.url, results, stack.enter_context(Continuum.dev()).url)


def _wait_until_ripe(shop: Shop) -> None:
    """Wait until some orders are charged, and another is being charged right now."""
    deadline = time.monotonic() + RIPE_SECONDS
    while not (shop.ledger.count("charged") and shop.ledger.under_way()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no order is being charged:\n{shop.log('worker.log')}")
        time.sleep(0.005)


def _kill(shop: Shop, _: Urls) -> None:
    """Kill the worker in the middle of its tasks; something starts it again, as systemd would."""
    shop.kill_worker()
    shop.start_worker()


def _flush(_: Shop, urls: Urls) -> None:
    """Forget everything in the Redis that is the broker, and the result backend as in many shops."""
    import redis  # noqa: PLC0415 - not needed with RabbitMQ

    with redis.Redis.from_url(urls.broker) as connection:
        connection.flushall()


def table_of(found: dict[str, dict[str, Outcome]]) -> str:
    """Return the outcomes as a table."""
    titles = {
        "placed": "orders placed",
        "finished": "finished by themselves",
        "seconds": "  the last of them after so many seconds",
        "lost": "stopped half-way",
        "asked_again": "charges asked for again by the system",
        "charged_twice": "customers charged twice, after placing the stopped ones again",
        "finished_at_last": "finished after that",
    }
    width = max(map(len, titles.values()))
    parts = []
    for mishap, columns in found.items():
        lines = [f"{mishap:<{width}}  " + "  ".join(columns)]
        for name, title in titles.items():
            cells = [f"{asdict(outcome)[name]:>{len(column)}}" for column, outcome in columns.items()]
            lines.append(f"{title:<{width}}  " + "  ".join(cells))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
