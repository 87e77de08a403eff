"""A Celery shop before and after it has workflows, with real servers and processes of its own.

python -m examples.celery_shop                              after, on Redis
python -m examples.celery_shop --broker rabbitmq before
python -m examples.celery_shop --broker redis compare       both, with things going wrong
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from continuum import Continuum
from continuum.errors import ConfigError
from examples.celery_shop.brokers import MissingBrokerError, open_broker
from examples.celery_shop.compare import ORDERS, QUIET_SECONDS, compare, table_of
from examples.celery_shop.processes import Shop, Urls

LONGEST: Final = 120.0


def main() -> int:
    """Run what was asked for; 1 if an order of the shop did not finish."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so everything that was started is ended
    try:
        if options.what == "compare":
            return _compare(options.broker, options.orders or ORDERS)
        return _run(options.what, options.broker, options.orders or 8, flower=options.flower)
    except (MissingBrokerError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def _run(variant: str, kind: str, orders: int, *, flower: bool) -> int:
    names = [f"o{number}" for number in range(1, orders + 1)]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-")))
        urls = _servers(variant, kind, stack)
        print(f"broker {urls.broker}" + (f", journal {_shown(urls.database)}" if urls.database else ""))
        shop = Shop(variant, urls, directory, stack)
        if variant == "after":
            shop.start_dispatcher()
        shop.start_worker(*(["-E"] if flower else []))  # -E: tell Flower
        shop.start_beat()
        if flower:
            print("Flower:", shop.start_flower())
        shop.place(names)
        print(f"{orders} orders are placed")
        done = _follow(shop, names)
        print(f"{len(done)} of {orders} orders are finished")
        if flower:
            print("Flower runs until Ctrl-C")
            while True:
                time.sleep(1)
        if len(done) < orders:
            print(shop.log("worker.log"), file=sys.stderr)
        return int(len(done) < orders)


def _follow(shop: Shop, names: list[str]) -> set[str]:
    """Print what happens in the world until every order is confirmed; return those that are."""
    shown, done, began = 0, set[str](), time.time()
    deadline = time.monotonic() + LONGEST
    while not done >= set(names) and time.monotonic() < deadline:
        lines = shop.ledger.lines()
        for line in lines[shown:]:
            print(f"  {line['at'] - began:6.2f} s  process {line['pid']:<8} {line['order']:<4} {line['what']}")
            if line["what"] == "confirmed":
                done.add(line["order"])
        shown = len(lines)
        time.sleep(0.05)
    return done


def _servers(variant: str, kind: str, stack: ExitStack) -> Urls:
    given = os.environ.get("CELERY_BROKER_URL")
    broker = given or stack.enter_context(open_broker(kind)).url
    results = broker if broker.startswith("redis") else stack.enter_context(open_broker("redis")).url
    if variant == "before":
        return Urls(broker, results)
    url = os.environ.get("CONTINUUM_DATABASE_URL")
    if url is None:
        return Urls(broker, results, stack.enter_context(Continuum.dev()).url)
    with Continuum(url) as continuum:
        continuum.migrate()
    return Urls(broker, results, url)


def _compare(kind: str, orders: int) -> int:
    print(
        f"{orders} orders in each column; Celery's defaults but for what the column says; the worker is started again\n"
        f"at once; “stopped” means that nothing has happened for {QUIET_SECONDS:.0f} seconds. It takes some minutes.\n"
    )
    found = compare(kind, orders=orders)
    print(table_of(found))
    workflows = [columns["workflow"] for columns in found.values()]
    return int(any(outcome.lost or outcome.charged_twice for outcome in workflows))


def _shown(url: str) -> str:
    return url.rpartition("@")[2]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.celery_shop",
        description="A Celery shop, before and after it has workflows.",
        epilog="CELERY_BROKER_URL and CONTINUUM_DATABASE_URL name servers of yours for before and after; compare always"
        " starts its own, because it destroys what is in them.",
    )
    parser.add_argument("what", nargs="?", choices=["before", "after", "compare"], default="after")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--orders", type=int, help=f"how many (8; compare: {ORDERS})")
    parser.add_argument("--flower", action="store_true", help="run Flower, too, until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
