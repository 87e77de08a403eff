"""Here lives the heartbeat: it keeps one row alive, and only while the turns thread is alive as well."""

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta

from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.ids import new_worker_id
from continuum.model.leases import WITHDRAWN, WorkerInfo
from continuum.runtime.lease import Lease, LeaseState
from continuum.runtime.service import Service

__all__ = ["Heartbeat"]

logger = logging.getLogger("continuum.runtime")


class Heartbeat(Service):
    """Prolongs the worker's lease; registers a new id after one was lost.

    A process whose turns thread hangs must not look alive: its runs would wait for ever. So no heartbeat is sent
    once the thread has not passed its loop for ``turn_limit``; the lease runs out and another worker takes over.
    """

    name = "heartbeat"

    def __init__(
        self,
        *,
        journal: Journal,
        lease: Lease,
        interval: timedelta,
        turn_limit: timedelta,
        silence: Callable[[], float],
        changed: Callable[[], None],
        queues: tuple[str, ...] = (),
        workflows: tuple[str, ...] = (),
        version_hashes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._journal = journal
        self._lease = lease
        self._interval = interval.total_seconds()
        # After an outage the living have the time of a lease to say that they are (see the reaper).
        self.longest_pause = min(self.longest_pause, lease.ttl.total_seconds() / 6)
        self._turn_limit = turn_limit.total_seconds()
        self._silence = silence
        self._changed = changed
        self._queues = queues
        self._workflows = workflows
        self._version_hashes = version_hashes
        self._to_withdraw = False

    def withdraw(self) -> None:
        """Say soon, on this service's thread, that no more runs are claimed: others take those of our code as well."""
        self._version_hashes = WITHDRAWN
        self._to_withdraw = True
        self.wake()

    def run_once(self) -> float:
        """Beat, or register; return the pause until the next beat."""
        match self._lease.state:
            case LeaseState.LIVE:
                self._beat()
                if self._to_withdraw:
                    self._journal.workers.withdraw(self._lease.worker)
                    self._to_withdraw = False
                    self._journal.hint(Hint(HintKind.START))
            case LeaseState.LOST:
                # The turns thread has to let go first; it wakes us when it has.
                self._changed()
                return 0.05
            case LeaseState.DROPPED:
                self.register()
                self._changed()
        return self._interval

    def register(self) -> None:
        """Register a new worker id. Raises ``JournalUnavailable``."""
        worker = new_worker_id()
        sent = time.monotonic()
        self._journal.workers.register(
            WorkerInfo(
                id=worker,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                ttl=self._lease.ttl,
                queues=self._queues,
                workflows=self._workflows,
                version_hashes=self._version_hashes,
            )
        )
        # Crash: the row exists and nobody holds anything under it; it expires and is deleted.
        self._lease.registered(worker, sent=sent)

    def _beat(self) -> None:
        silence = self._silence()
        if silence > self._turn_limit:
            logger.error("the turns thread has not moved for %.0f s; its lease is left to expire", silence)
            return
        worker = self._lease.worker
        sent = time.monotonic()
        if self._journal.workers.beat(worker, self._lease.ttl):
            self._lease.prolonged(worker, sent=sent)
        else:
            logger.warning("worker %s was declared dead; dropping its runs and taking a new id", worker)
            self._lease.lose()
            self._changed()
