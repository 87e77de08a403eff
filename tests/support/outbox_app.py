"""Here lives the application whose dispatchers are killed while they publish: everything it does is done elsewhere.

A dispatcher of it is a real process, ``continuum-dispatcher -A tests.support.outbox_app``. Its broker is the file
``OUTBOX_APP_MESSAGES``; the test itself is the worker that reads it.
"""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from continuum import Retry, activity, workflow
from continuum.runtime.instance import Dispatcher
from tests.support.external import External
from tests.support.transports import FileTransport


class App(External):
    def dispatcher(self, *, activities: bool = True, **overrides: Any) -> Dispatcher:
        return super().dispatcher(activities=activities, **{"executor": "celery", **overrides})


continuum = App(
    os.environ.get("CONTINUUM_DATABASE_URL"),
    concurrency=2,
    lease_ttl=timedelta(seconds=2),
    heartbeat_interval=timedelta(seconds=0.5),
    poll_interval=timedelta(seconds=0.25),
    reap_interval=timedelta(seconds=0.5),
    # So small that most tasks are marked by the outbox, and not by their commits.
    dispatch_window=3,
)
if "OUTBOX_APP_MESSAGES" in os.environ:
    continuum.transports = {"celery": FileTransport(Path(os.environ["OUTBOX_APP_MESSAGES"]))}


@activity(name="outbox.step", retry=Retry(max_attempts=3, base=timedelta(milliseconds=20)))
def step(value: int) -> int:
    return value


@workflow(name="outbox.steps", version=1)
async def steps(count: int) -> int:
    for number in range(count):
        await step(number)
    return count


@workflow(name="outbox.fan", version=1)
async def fan(width: int) -> int:
    return sum(await asyncio.gather(*(step(number) for number in range(width))))
