"""Here lives an application whose code depends on what it is told: ``ROLLING_CODE`` is old, extended or drifted.

A dispatcher of it is a real process, ``ROLLING_CODE=old continuum-dispatcher -A tests.support.rolling_app``; two with
different code are a deploy that is under way. ``ROLLING_BACKOFF`` is the back-off of stuck runs in seconds: an hour
where a run that is tried again must have been revived.
"""

import os
from datetime import timedelta

from continuum import Continuum, activity, wait_signal, workflow

CODE = os.environ.get("ROLLING_CODE", "old")
TTL = float(os.environ.get("ROLLING_TTL", "2"))

continuum = Continuum(
    concurrency=4,
    lease_ttl=timedelta(seconds=TTL),
    heartbeat_interval=timedelta(seconds=TTL / 4),
    poll_interval=timedelta(seconds=0.25),
    reap_interval=timedelta(seconds=0.5),
    stuck_backoff=timedelta(seconds=float(os.environ.get("ROLLING_BACKOFF", "3600"))),
)


@activity
def step(name: str) -> str:
    return name


if CODE == "old":

    @workflow(name="rolling.order")
    async def order(number: int) -> str:
        before = await step("before")
        return f"old {number} {before} {await wait_signal('go')}"

elif CODE == "extended":

    @workflow(name="rolling.order")
    async def order(number: int) -> str:
        before = await step("before")
        said = await wait_signal("go")
        return f"extended {number} {before} {said} {await step('after')}"

else:

    @workflow(name="rolling.order")
    async def order(number: int) -> str:
        first = await step("something else")
        return f"drifted {number} {first} {await wait_signal('go')}"
