"""Here lives what an outbox believes of its broker: up, or down until it is tried again.

::

    UP ──(a publish failed)──► DOWN ──(a publish succeeded)──► UP

Nobody asks a broker how it is; only publishing tells. While it is believed down it is tried after a growing pause, with
what waits to be published, or with one task that is marked for that. One line in the log when an outage begins and one
when it ends, however many tries lie between.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Belief"]

logger = logging.getLogger("continuum.runtime")

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
# Many dispatchers lose one broker at the same moment; they come back spread over this part of the pause.
_JITTER: Final = 0.5


class Belief:
    """Written by the outbox's thread, read by any.

    :ivar up: whether the broker is believed to be up.
    :ivar retry_at: while it is not: monotonic time of the next try.
    """

    def __init__(self, executor: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._executor = executor
        self._now = now
        self._pause = _FIRST_PAUSE
        self._since = 0.0
        self.up = True
        self.retry_at = 0.0

    @property
    def worth_trying(self) -> bool:
        """Whether to publish now."""
        return self.up or self._now() >= self.retry_at

    def failed(self, error: BaseException) -> None:
        """A publish failed."""
        now = self._now()
        self.retry_at = now + self._pause * (1 - _JITTER * random.random())  # noqa: S311 - jitter
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        if self.up:
            self.up = False
            self._since = now
            logger.warning(
                "executor %r: its broker cannot be reached (%s). Its activities wait in the database, everything else"
                " goes on; trying again until it answers",
                self._executor,
                error,
            )

    def succeeded(self) -> None:
        """A publish succeeded."""
        self._pause = _FIRST_PAUSE
        if not self.up:
            self.up = True
            logger.warning(
                "executor %r: its broker answers again after %.1f s", self._executor, self._now() - self._since
            )
