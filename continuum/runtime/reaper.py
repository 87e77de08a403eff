"""Here lives the reaper: death and sweep.

Death is the tiny DELETE of an expired worker row. The sweep frees what the dead held, by condition ("its holder does
not exist"), in chunks, and again and again: a sweep that dies half-way has done half the work, the next one does the
rest. Any number of dispatchers may run it at once.
"""

import logging
from collections.abc import Callable
from datetime import timedelta

from continuum.journal.protocol import Journal
from continuum.runtime.service import Service

__all__ = ["Reaper"]

logger = logging.getLogger("continuum.runtime")


class Reaper(Service):
    """Frees what dead workers held; tells the others that there is work."""

    name = "reaper"

    def __init__(self, *, journal: Journal, interval: timedelta, freed: Callable[[], None]) -> None:
        super().__init__()
        self._journal = journal
        self._interval = interval.total_seconds()
        self._freed = freed

    def run_once(self) -> float:
        """Reap one chunk; return the pause until the next."""
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
