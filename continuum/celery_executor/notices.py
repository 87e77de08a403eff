"""Here lives what a Celery worker's main process has to tell the journal: deaths, and messages that it will not run.

Whoever notices puts it into a queue; the keeper's thread tells it, however long the database is away. What has been
told leaves the queue, so a notice may be told twice, which is harmless: the journal ends an attempt once.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import msgspec

from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId
from continuum.model.tasks import TaskRef
from continuum.telemetry.probes import probe

__all__ = ["Notices", "lost"]

logger = logging.getLogger("continuum.celery")

_AT_ONCE: Final = timedelta(0)


class _Death(msgspec.Struct, frozen=True):
    worker: WorkerId
    ref: TaskRef
    failure: Failure


class Notices:
    """The queue. Adding never waits; any thread.

    :param active: attempts that the pool has begun and not ended.
    """

    def __init__(self, active: Callable[[], frozenset[TaskRef]]) -> None:
        self._active = active
        self._lock = threading.Lock()  # never held while anything waits
        self._deaths: list[_Death] = []
        self._put_off: list[TaskRef] = []

    def add_death(self, worker: WorkerId, ref: TaskRef, failure: Failure) -> None:
        """The process that ran this attempt, claimed under this id, is dead."""
        with self._lock:
            self._deaths.append(_Death(worker, ref, failure))

    def add_put_off(self, ref: TaskRef) -> None:
        """The message of this attempt will not be executed here."""
        with self._lock:
            self._put_off.append(ref)

    def tell(self, journal: Callable[[], Journal]) -> None:
        """Tell the journal everything. Raises ``JournalUnavailable`` and keeps what has not been told."""
        with self._lock:
            deaths, put_off = list(self._deaths), list(self._put_off)
        for death in deaths:
            self._abandon(journal(), death)
            with self._lock, suppress(ValueError):  # at the end two threads may have told it
                self._deaths.remove(death)
        if put_off:
            opened = journal()
            if opened.tasks.defer(put_off, delay=_AT_ONCE):
                opened.hint(Hint(HintKind.TASKS))
            with self._lock:
                self._put_off = [ref for ref in self._put_off if ref not in put_off]

    def _abandon(self, journal: Journal, death: _Death) -> None:
        if death.ref in self._active():
            # Its process gave it back before it died, and this Celery worker got it again. If not, it will be missed.
            return
        # Crash: nobody has heard of the death, and the worker's own follows: whatever it held is swept.
        probe("keeper.mourning")
        try:
            written = journal.tasks.abandon(death.worker, death.ref, failure=death.failure)
        except ContinuumError as error:
            if error.transient:
                raise
            logger.exception("the death of attempt %s could not be written", death.ref)
            return
        if written:
            logger.warning("%s; another attempt follows, if there is one left", death.failure.message)
            journal.hint(Hint(HintKind.TASKS))
            journal.hint(Hint(HintKind.MAIL))


def lost(ref: TaskRef, message: str, *, kind: FailureKind = FailureKind.WORKER_DIED) -> Failure:
    """Return the failure of an attempt whose process did not live to report it."""
    name = "WorkerDied" if kind is FailureKind.WORKER_DIED else "TimeoutError"
    return Failure(type_name=name, message=message, kind=kind, attempts=ref.attempt)
