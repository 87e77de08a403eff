"""Here lives the timer effect."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from continuum.replay.effects.base import current_loop, seconds_of

__all__ = ["sleep"]


def sleep(delay: timedelta | float) -> Coroutine[Any, Any, None]:
    """Wait for this long: a row in the database, not a thread. `asyncio.sleep` with seconds does the same.

    A delay of zero or less only lets other tasks run. Raises ``NotInWorkflow``, ``TypeError``.
    """
    current_loop("sleep()")
    return asyncio.sleep(seconds_of(delay, "the delay"))
