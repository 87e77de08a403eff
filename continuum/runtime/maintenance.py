"""Here lives what has to be done rarely: partitions ahead of time, mail and snapshots that nobody will ever read.

Four duties that do not depend on each other: one that fails does not keep the others from being done. A role without
the rights for one of them is a way to run dispatchers, not an error; it is told once.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from continuum.errors import JournalBusy, JournalError, JournalUnavailable
from continuum.journal.protocol import Journal
from continuum.runtime.service import Service

__all__ = ["Maintenance"]

logger = logging.getLogger("continuum.runtime")

_INTERVAL: Final = timedelta(minutes=10)
_AFTER_FAILURE: Final = timedelta(minutes=1)
_NO_RIGHT: Final = "42501"
_CHUNK: Final = 1_000


class Maintenance(Service):
    """Keeps event partitions ready, and the inbox and the snapshots free of what belongs to ended runs."""

    name = "maintenance"

    def __init__(self, *, journal: Journal, months_ahead: int) -> None:
        super().__init__()
        self._journal = journal
        self._months_ahead = months_ahead
        self._told: set[str] = set()

    def run_once(self) -> float:
        """Do one round; return the pause until the next. Raises ``JournalUnavailable``."""
        done = [
            self._do("event partitions ahead of time", self._make_partitions),
            self._do("events without a partition", self._look_for_misplaced),
            self._do("mail of ended runs", self._discard_dead_mail),
            self._do("snapshots of ended runs", self._discard_snapshots),
        ]
        return (_INTERVAL if all(done) else _AFTER_FAILURE).total_seconds()

    def _do(self, duty: str, work: Callable[[], None]) -> bool:
        """Do one duty; return whether the next round has time."""
        try:
            work()
        except JournalUnavailable:
            raise
        except JournalBusy as error:
            logger.warning("maintenance: %s: %s; tried again", duty, error)
            return False
        except JournalError as error:
            if error.fields.get("sqlstate") != _NO_RIGHT:
                logger.exception("maintenance: %s failed", duty)
                return False
            if duty not in self._told:
                self._told.add(duty)
                logger.warning(
                    "maintenance: this role lacks the rights for %s (%s); a role that has them must run `continuum"
                    " migrate` at least once a month",
                    duty,
                    error,
                )
        except Exception:
            logger.exception("maintenance: %s failed", duty)
            return False
        else:
            self._told.discard(duty)
        return True

    def _make_partitions(self) -> None:
        made = self._journal.upkeep.ensure_partitions(months_ahead=self._months_ahead)
        if made:
            logger.info("event partitions created: %s", ", ".join(made))

    def _look_for_misplaced(self) -> None:
        misplaced = self._journal.upkeep.misplaced_events()
        if misplaced:
            logger.error(
                "%d events or more sit in the default partition: partitions were missing when they were written",
                misplaced,
            )

    def _discard_snapshots(self) -> None:
        # Most are deleted as their runs end. This is for those that were terminated, or whose dispatcher died.
        while self._journal.snapshots.discard_ended(limit=_CHUNK) == _CHUNK and not self.stopping:
            pass

    def _discard_dead_mail(self) -> None:
        discarded = self._journal.upkeep.discard_dead_mail()
        if discarded:
            what = "1 message" if discarded == 1 else f"{discarded:,} messages"
            logger.warning("%s came for runs that had ended: recorded as undeliverable", what)
