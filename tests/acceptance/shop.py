"""Here lives the app of the acceptance tests: a newcomer's, with a database from the environment."""

import time
from datetime import timedelta
from pathlib import Path

from continuum import Continuum, Signal, activity, workflow

continuum = Continuum(
    lease_ttl=timedelta(seconds=2),
    heartbeat_interval=timedelta(seconds=0.5),
    poll_interval=timedelta(seconds=0.5),
    reap_interval=timedelta(seconds=0.5),
    drain_timeout=timedelta(seconds=20),
    concurrency=4,
)
approval = Signal("approval", str)


@activity(name="shop.double")
def double(value: int) -> int:
    return value * 2


@activity(name="shop.linger")
def linger(flag: str) -> str:
    """Say that it has begun, then work until it is told to end."""
    Path(f"{flag}.began").touch()
    while not Path(f"{flag}.end").exists():
        time.sleep(0.01)
    return "ended"


@activity(name="shop.pay", queue="payments")
def pay(value: int) -> int:
    return value


@workflow(name="shop.order")
async def order(value: int) -> str:
    doubled = await double(value)
    decision = await approval.wait(timeout=timedelta(hours=24))
    return f"{decision} {doubled}"


@workflow(name="shop.lingering")
async def lingering(flag: str) -> str:
    return await linger(flag)


@workflow(name="shop.paying")
async def paying(value: int) -> int:
    return await pay(value)
