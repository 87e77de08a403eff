"""Here lives the shop's app: a Celery app and an instance, both configured by the environment.

``celery -A tests.celery.shop worker`` and ``continuum-dispatcher -A tests.celery.shop`` load it.

The work itself is in :mod:`tests.celery.work`; with ``SHOP_WITHOUT_CODE`` this process does not know it.
``SHOP_STRIKE=probe:SIGKILL:child`` sends a signal to the first process, of all that share a ``SHOP_DIR``, that passes
the probe: to itself (``child``), to itself and its group (``group``), or to its parent and then itself (``main``).
"""

import os
import signal
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from celery import Celery

from continuum import Continuum
from continuum.telemetry.probes import armed


def seconds(name: str, default: float) -> timedelta:
    return timedelta(seconds=float(os.environ.get(f"SHOP_{name}", default)))


app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "memory://"))
app.conf.update(
    task_default_queue=os.environ.get("SHOP_DEFAULT_QUEUE", "celery"),
    result_backend=os.environ.get("SHOP_BACKEND"),
    broker_connection_retry_on_startup=True,
    broker_connection_retry_delay=0.2,
    broker_connection_max_retries=None,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=int(os.environ.get("SHOP_PREFETCH", "4")),
    worker_soft_shutdown_timeout=float(os.environ.get("SHOP_SOFT_SHUTDOWN", "0")),
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
for setting, value in (item.split("=", 1) for item in os.environ.get("SHOP_CONF", "").split(",") if item):
    app.conf[setting] = {"True": True, "False": False}.get(value, value)

continuum = Continuum(
    os.environ.get("CONTINUUM_DATABASE_URL"),
    name=os.environ.get("SHOP_NAME", "shop"),
    executor="celery",
    queue=os.environ.get("SHOP_QUEUE", "continuum_activities"),
    modules=[] if os.environ.get("SHOP_WITHOUT_CODE") else ["tests.celery.work"],
    concurrency=4,
    lease_ttl=seconds("LEASE", 3),
    heartbeat_interval=seconds("HEARTBEAT", 1),
    poll_interval=seconds("POLL", 0.25),
    reap_interval=seconds("REAP", 0.5),
    dispatch_deadline=seconds("DEADLINE", 60),
    dispatch_window=int(os.environ.get("SHOP_WINDOW", "1000")),
    drain_timeout=seconds("DRAIN", 10),
)


@app.task(name="shop.add")
def add(one: int, two: int) -> int:
    """A task of the shop that has nothing to do with workflows."""
    return one + two


forever = ExitStack()


def arm(strike: str) -> None:
    probe, number, whom = strike.split(":")
    once = Path(os.environ["SHOP_DIR"]) / f"struck-{probe}"

    def act() -> None:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        deadly = signal.Signals[number]
        if whom == "group":
            os.killpg(0, deadly)
        if whom == "main":
            os.kill(os.getppid(), deadly)
        os.kill(os.getpid(), deadly)

    forever.enter_context(armed(probe, act))


if os.environ.get("SHOP_STRIKE"):
    arm(os.environ["SHOP_STRIKE"])
