"""Here lives the plain Celery app of P8: one task that does nothing and stores its result."""

import os
from typing import Any

from celery import Celery

from benchmarks.workloads.celerying import BROKER_VARIABLE, RESULTS_VARIABLE
from benchmarks.workloads.flows import RESULT

__all__ = ["QUEUE", "app", "noop"]

QUEUE = "bench"

app = Celery("bench", broker=os.environ[BROKER_VARIABLE], backend=os.environ[RESULTS_VARIABLE])
app.conf.update(broker_connection_retry_on_startup=True, task_default_queue=QUEUE)


@app.task(name="noop")
def noop(_previous: Any = None) -> dict[str, Any]:
    return dict(RESULT)
