"""Here lives the shop of P8: the steps of the other workloads, through Celery.

For `continuum-dispatcher -A`, `celery -A` and the caller; broker and database are in the environment.
"""

import os
from typing import Any

from celery import Celery

from benchmarks.workloads.celerying import BROKER_VARIABLE
from benchmarks.workloads.flows import RESULT
from continuum import Continuum, activity, workflow

__all__ = ["QUEUE", "app", "continuum", "noop", "steps"]

QUEUE = "bench"

# No result backend: the journal has the results.
app = Celery("bench", broker=os.environ[BROKER_VARIABLE])
app.conf.update(broker_connection_retry_on_startup=True, task_default_queue=QUEUE)

continuum = Continuum(name="bench", executor="celery", queue=QUEUE)
continuum.init_celery(app)


@activity(name="celery_noop")
def noop(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is recorded, and that is its use
    return dict(RESULT)


@workflow(name="celery_steps")
async def steps(count: int) -> int:
    """Do ``count`` steps, one after the other."""
    total = 0
    for number in range(count):
        result = await noop(number)
        total += result["value"]
    return total
