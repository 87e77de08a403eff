"""Here live the numbers of a local pool."""

from dataclasses import dataclass
from datetime import timedelta

__all__ = ["PoolSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Numbers of a local pool.

    :ivar async_concurrency: bodies of ``async def`` at once. They cost memory, not threads.
    :ivar heartbeat_interval: how often the heartbeats of one attempt are written.
    :ivar max_result_bytes: largest encoded result.
    """

    async_concurrency: int = 1000
    heartbeat_interval: timedelta = timedelta(seconds=1)
    max_result_bytes: int = 2 * 1024 * 1024
