"""Here lives telling the journal, from a process that has nobody to do it later: at once, and again while it is away.

A Celery task must not return before the journal has heard of it, or a warm shutdown would end the process in between.
So reports are made where they arise, with pauses, for several leases: after an outage nobody is buried before the
living had time to beat, so the claim is probably still good, and a success is accepted even late. After that the
slot is needed: whoever is dead is swept, and what a living worker holds without running it is found by its keeper.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from continuum.celery_executor.masking import Shield
from continuum.errors import ContinuumError
from continuum.runtime.reporter import Report

__all__ = ["InlineReports"]

logger = logging.getLogger("continuum.celery")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
# An error that is not the database's absence does not go away by itself.
_MOST_BUGS: Final = 5


class InlineReports:
    """Reports on the calling thread.

    :param what: what is reported on, for the log.
    :param patience: seconds for which a journal that is away is asked again.
    :ivar failed: whether a report was given up.
    :ivar leaving: an exception by which this thread was told to end while it reported; raise it when all is said.
    """

    def __init__(self, what: str, *, shield: Shield, patience: float) -> None:
        self._what = what
        self._shield = shield
        self._patience = patience
        self.failed = False
        self.leaving: BaseException | None = None

    def put(self, report: Report, *, after: float = 0.0, give_up: Callable[[], None] | None = None) -> None:
        """Call a report until it succeeds or patience ends. Raises nothing."""
        until = time.monotonic() + self._patience
        pause, bugs, again = _FIRST_PAUSE, 0, after
        while True:
            last = self._sleep(again)
            try:
                wanted = report()
            except BaseException as error:  # noqa: BLE001 - a thread that is being killed still reports
                transient = isinstance(error, ContinuumError) and error.transient
                if not isinstance(error, Exception):
                    # GreenletExit or a gevent timeout: it may have struck before or after the commit.
                    self.leaving = error
                if not transient:
                    bugs += 1
                if last or bugs >= _MOST_BUGS or time.monotonic() + pause > until:
                    self._give_up(error, give_up)
                    return
                logger.warning("%s could not be reported (%s); next try in %.1f s", self._what, error, pause)
                again, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            else:
                if wanted is None:
                    return
                again = wanted

    def _sleep(self, seconds: float) -> bool:
        """Sleep; return whether the process was told to end, so that the next try is the last."""
        if seconds <= 0:
            return False
        try:
            self._shield.sleep(seconds)
        except BaseException as error:  # noqa: BLE001 - as in put
            self.leaving = error
        return self._shield.late is not None or self.leaving is not None

    def _give_up(self, error: BaseException, give_up: Callable[[], None] | None) -> None:
        self.failed = True
        logger.error(
            "%s was not reported: %s. It is offered again as its next attempt when its claim is missed here, or swept.",
            self._what,
            error,
            exc_info=None if isinstance(error, ContinuumError) and error.transient else error,
        )
        if give_up is not None:
            give_up()
