"""Here lives what has to be done rarely: partitions ahead of time, and mail that nobody will ever read."""

import logging
from datetime import timedelta
from typing import Final

from continuum.journal.protocol import Journal
from continuum.runtime.service import Service

__all__ = ["Maintenance"]

logger = logging.getLogger("continuum.runtime")

_INTERVAL: Final = timedelta(minutes=10)


class Maintenance(Service):
    """Keeps event partitions ready and the inbox free of mail for ended chains."""

    name = "maintenance"

    def __init__(self, *, journal: Journal, months_ahead: int) -> None:
        super().__init__()
        self._journal = journal
        self._months_ahead = months_ahead

    def run_once(self) -> float:
        """Do one round; return the pause until the next."""
        made = self._journal.upkeep.ensure_partitions(months_ahead=self._months_ahead)
        if made:
            logger.info("event partitions created: %s", ", ".join(made))
        misplaced = self._journal.upkeep.misplaced_events()
        if misplaced:
            logger.error(
                "%d events or more sit in the default partition: partitions were missing when they were written",
                misplaced,
            )
        discarded = self._journal.upkeep.discard_dead_mail()
        if discarded:
            logger.warning("%d messages arrived as their run ended and were recorded as undeliverable", discarded)
        return _INTERVAL.total_seconds()
