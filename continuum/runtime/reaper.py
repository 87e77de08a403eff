"""Here lives the reaper: death and sweep.

Death is the tiny DELETE of an expired worker row. The sweep frees what the dead held, by condition ("its holder does
not exist"), in chunks, and again and again: a sweep that dies half-way has done half the work, the next one does the
rest. Any number of dispatchers may run it at once.

Nobody can beat while the database is away. Whoever outlived it there is not dead, and has time to say so before anybody
is buried: or every outage that is longer than a lease would end all attempts that run in Celery workers, and have them
made again beside themselves.
"""

import logging
import math
import time
from collections.abc import Callable
from datetime import timedelta

from continuum.journal.protocol import Journal
from continuum.runtime.service import Service

__all__ = ["Reaper"]

logger = logging.getLogger("continuum.runtime")


class Reaper(Service):
    """Frees what dead workers held; tells the others that there is work.

    :param away_at: when (monotonic) another service, one that asks often, last found the journal away.
    :param patience: how long after that nobody is buried.
    """

    name = "reaper"

    def __init__(
        self,
        *,
        journal: Journal,
        interval: timedelta,
        freed: Callable[[], None],
        away_at: Callable[[], float] = lambda: -math.inf,
        patience: timedelta = timedelta(0),
    ) -> None:
        super().__init__()
        self._heard_away_at = away_at
        self._patience = patience.total_seconds()
        self._journal = journal
        self._interval = interval.total_seconds()
        self._freed = freed

    def run_once(self) -> float:
        """Reap one chunk; return the pause until the next."""
        left = max(self.away_at, self._heard_away_at()) + self._patience - time.monotonic()
        if left > 0:
            return left
        done = self._journal.workers.reap()
        for worker in done.workers:
            logger.warning("worker %s is dead; its runs and tasks are offered again", worker)
        if done.runs or done.requeued or done.exhausted or done.reoffered:
            logger.warning(
                "swept: %d runs freed, %d tasks offered again, %d tasks out of attempts, %d messages to be sent again",
                done.runs,
                done.requeued,
                done.exhausted,
                done.reoffered,
            )
            self._freed()
        return 0.0 if done.more else self._interval
