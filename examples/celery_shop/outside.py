"""The world outside the shop: a payment provider, a warehouse, a mail server. What they did stands in a file.

The file is what the comparison counts. ``SHOP_LEDGER`` names it; ``SHOP_PACE`` is how many seconds each of them takes.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

PACE = float(os.environ.get("SHOP_PACE", "0.05"))


class ProviderBusy(Exception):
    """Try again in a moment."""


def charge(order_id: str, cents: int, key: str) -> str:
    """Charge a card, once per key, as providers do; every seventh order is told to try again first."""
    asked = do("charge asked", order_id, key=key)
    if order_id.endswith("7") and asked == 1:
        raise ProviderBusy(order_id)
    time.sleep(PACE)
    do("charged", order_id, key=key, cents=cents, once=True)
    time.sleep(PACE)
    return f"payment of {order_id}"


def act(what: str, order_id: str) -> None:
    """Do something that takes a while."""
    time.sleep(PACE)
    do(what, order_id)


def do(what: str, order_id: str, *, key: str = "", once: bool = False, **more: Any) -> int:
    """Write a line, and return how many there are like it; with ``once`` not if there is one already."""
    with Path(os.environ["SHOP_LEDGER"]).open("a+", encoding="utf-8") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        ledger.seek(0)
        wanted = (what, order_id, key)
        same = sum((line["what"], line["order"], line["key"]) == wanted for line in map(json.loads, ledger))
        if same and once:
            return same
        line = {"at": time.time(), "what": what, "order": order_id, "key": key, "pid": os.getpid(), **more}
        ledger.write(json.dumps(line) + "\n")
        return same + 1
