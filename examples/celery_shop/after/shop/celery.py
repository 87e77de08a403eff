"""The shop's Celery app."""

import os
from datetime import timedelta

from celery import Celery

from continuum import Continuum

app = Celery("shop", broker=os.environ["CELERY_BROKER_URL"], include=["shop.tasks"])
app.conf.update(
    result_backend=os.environ["SHOP_RESULTS_URL"],
    task_routes={"shop.tasks.confirm": {"queue": "mail"}},
    task_acks_late=bool(os.environ.get("SHOP_ACKS_LATE")),
    broker_connection_retry_on_startup=True,
    beat_schedule={"stock": {"task": "shop.tasks.count_stock", "schedule": 2.0}},
)

# A process is believed dead after six seconds, not thirty: somebody is watching.
short = timedelta(seconds=2)
continuum = Continuum(executor="celery", modules=["shop.orders"], lease_ttl=3 * short, heartbeat_interval=short)
