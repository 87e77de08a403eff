"""Here lives the watchdog: it reports turns that take too long, with the stack, and does nothing else.

Breaking off a slow turn would not help: replay would meet the same code again. The spin guard ends loops
deterministically; a turn that hangs for good costs the worker its lease (see :mod:`continuum.runtime.heartbeat`).
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from continuum.runtime.service import Service
from continuum.runtime.stacks import stack_of

__all__ = ["Watchdog"]

logger = logging.getLogger("continuum.runtime")


class Watchdog(Service):
    """Looks at the turns thread several times within the limit."""

    name = "watchdog"

    def __init__(
        self,
        *,
        limit: timedelta,
        turning_since: Callable[[], float | None],
        thread_id: Callable[[], int | None],
    ) -> None:
        super().__init__()
        self._limit = limit.total_seconds()
        self._turning_since = turning_since
        self._thread_id = thread_id
        self._reported: float | None = None

    def run_once(self) -> float:
        """Report a slow turn once."""
        since = self._turning_since()
        if since is not None and since != self._reported and time.monotonic() - since > self._limit:
            self._reported = since
            logger.warning(
                "a turn has been running for more than %.1f s. Workflow code must only await; move the work into an"
                " activity. It is here:\n%s",
                self._limit,
                stack_of(self._thread_id()) or "<no stack>",
            )
        return self._limit / 4
