"""The shop's Celery app."""

import os

from celery import Celery

app = Celery("shop", broker=os.environ["CELERY_BROKER_URL"], include=["shop.tasks"])
app.conf.update(
    result_backend=os.environ["SHOP_RESULTS_URL"],
    task_routes={"shop.tasks.confirm": {"queue": "mail"}},
    task_acks_late=bool(os.environ.get("SHOP_ACKS_LATE")),
    broker_connection_retry_on_startup=True,
    beat_schedule={"stock": {"task": "shop.tasks.count_stock", "schedule": 2.0}},
)
