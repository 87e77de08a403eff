"""Here lives the keeper: a Celery worker's lease, and the news of what died under it.

One per instance, a thread in the Celery worker's main process (the parent of a prefork pool; the one process of the
others). In the parent, because a child whose body holds the interpreter's lock for seconds could not beat. It

- keeps one row in ``continuum_workers`` alive: the lease of every attempt that runs here, however many;
- writes down, as often as it takes, what the parent noticed: a dead child (`died`), a message that will not be executed
  here (`put_off`). The hooks only put it into a queue;
- compares what the journal says is held here with what runs here: a claim whose answer was lost, or whose end was never
  reported, is given up after a few seconds;
- in pools that cannot end a body (threads, solo; gevent for want of a time limit on the message) ends attempts that
  passed a limit, as the local pool's watch does: the body goes on, its outcome is thrown away, its slot is taken.

# Invariant: no id is handed out that the database may take for dead. The lease is reckoned from when a heartbeat was
sent. Unlike a dispatcher's, a lease that ran out while the database was away is taken up again if its row is still
there: every write of a Celery worker names its claim, and the claims live exactly as long as that row.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from continuum.celery_executor.finishing import Finisher
from continuum.celery_executor.greeting import warn_of_clock
from continuum.celery_executor.notices import Notices, lost
from continuum.celery_executor.running import Running
from continuum.config import Settings
from continuum.journal.protocol import Journal
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId, new_worker_id
from continuum.model.leases import WorkerInfo
from continuum.model.tasks import TaskRef
from continuum.runtime.job import Job
from continuum.runtime.service import Service
from continuum.telemetry.probes import probe

__all__ = ["Keeper", "find_keeper", "install"]

logger = logging.getLogger("continuum.celery")

# The part of a lease that is not used, for a host whose clock runs slower than the database's.
_MARGIN: Final = 0.1
_RECONCILE: Final = 10.0
# A child may have claimed what its parent has not heard of yet.
_MISSED_FOR: Final = 5.0
# How long the end of the worker may wait for the journal to hear what is left to say.
_LAST_WORDS: Final = 5.0


class Keeper(Service):
    """Keeps the lease of one instance in this process.

    :param journal: opens the instance's journal; may raise while the database is away.
    :param active: attempts that the pool has begun and not ended, by reference.
    :param running: attempts that the pool's children say they are busy with, whatever the pool has heard.
    """

    name = "celery-keeper"

    def __init__(
        self,
        *,
        settings: Settings,
        journal: Callable[[], Journal],
        hostname: str,
        queues: tuple[str, ...] = (),
        active: Callable[[], frozenset[TaskRef]],
        running: Callable[[], frozenset[TaskRef]] = frozenset,
    ) -> None:
        super().__init__()
        self._settings = settings
        # After an outage the living have the time of a lease to say that they are (see the reaper).
        self.longest_pause = min(self.longest_pause, settings.lease_ttl.total_seconds() / 6)
        self._open = journal
        self._hostname = hostname
        self._queues = queues
        self._active = active
        self._told = running
        self._pid = os.getpid()
        self._worker: WorkerId | None = None
        self._good_until = 0.0
        self._beat_at = self._reconcile_at = 0.0
        self._notices = Notices(active)
        self._missed: dict[TaskRef, float] = {}
        self._running = Running(self.wake)
        self._finisher: Finisher | None = None
        self._finishing = threading.Lock()
        self._compared = False
        self.registered = threading.Event()

    # ------------------------------------------------------------------ what the parent's hooks ask; nothing blocks

    @property
    def worker(self) -> WorkerId | None:
        """The id to claim with; None while the lease may be dead."""
        return self._worker if time.monotonic() < self._good_until else None

    @property
    def here(self) -> bool:
        """Whether this process is the keeper's; a forked child only has a copy."""
        return os.getpid() == self._pid

    def died(self, ref: TaskRef, failure: Failure, *, worker: str | None = None) -> None:
        """The process that ran this attempt is dead; ``worker`` is the id it claimed with, if not the present one."""
        known = WorkerId(worker) if worker else self._worker
        if known is not None:
            self._notices.add_death(known, ref, failure)
            self.wake()

    def put_off(self, ref: TaskRef) -> None:
        """The message of this attempt will not be executed here: it is to be dispatched anew."""
        self._notices.add_put_off(ref)
        self.wake()

    # ------------------------------------------------------------------ for deliveries in this process

    def watch(self, job: Job) -> None:
        """Enforce the limits of a job that begins on this thread."""
        self._running.add(job)

    def forget(self, job: Job) -> None:
        """The job has left its thread."""
        self._running.remove(job)

    def finisher(self, journal: Journal) -> Finisher:
        """Return where this process's outcomes gather."""
        with self._finishing:
            if self._finisher is None or self._finisher.journal is not journal:  # it was reopened
                self._finisher = Finisher(journal)
            return self._finisher

    # ------------------------------------------------------------------ the service

    def run_once(self) -> float:
        """Do what is due; return in how many seconds something will be."""
        now = time.monotonic()
        soonest = self._running.scan(now, self._open)
        if now >= self._beat_at:
            self._beat(self._open())
            self._beat_at = now + self._settings.heartbeat_interval.total_seconds()
        self._notices.tell(self._open)
        if now >= self._reconcile_at and self._worker is not None:
            self._reconcile_at = now + _RECONCILE
            self._reconcile(self._open(), self._worker, now)
        if self._missed:
            self._reconcile_at = min(self._reconcile_at, now + _MISSED_FOR)
        return max(0.01, min(self._beat_at, self._reconcile_at, soonest) - time.monotonic())

    def stop(self, timeout: float | None = _LAST_WORDS) -> bool:
        """Say what is left to say, and give the lease up; the pool has stopped."""
        ended = super().stop(timeout)
        self._running.stop()
        until = time.monotonic() + (_LAST_WORDS if timeout is None else timeout)
        while True:
            try:
                self._notices.tell(self._open)
                if self._worker is not None:
                    # Crash: without the row whatever was held under it is swept, as if the worker had been killed.
                    probe("keeper.leaving")
                    self._open().workers.deregister(self._worker)
                break
            except Exception as error:  # noqa: BLE001 - the process ends whatever happens
                if time.monotonic() >= until:
                    logger.warning(
                        "worker %s could not be deregistered (%s); its lease will expire", self._worker, error
                    )
                    break
                time.sleep(0.1)
        self._worker, self._good_until = None, 0.0
        return ended

    # ------------------------------------------------------------------ the lease

    def _beat(self, journal: Journal) -> None:
        sent = time.monotonic()
        ttl = self._settings.lease_ttl
        if self._worker is None or not journal.workers.beat(self._worker, ttl):
            if self._worker is not None:
                logger.warning("worker %s was declared dead; taking a new id", self._worker)
                self._good_until = 0.0
                self._running.cancel_all()
            self._register(journal)
        self._good_until = sent + ttl.total_seconds() * (1 - _MARGIN)
        self.registered.set()
        self._compared = self._compared or warn_of_clock(journal.clock)

    def _register(self, journal: Journal) -> None:
        worker = new_worker_id()
        journal.workers.register(
            WorkerInfo(
                id=worker, hostname=self._hostname, pid=self._pid, ttl=self._settings.lease_ttl, queues=self._queues
            )
        )
        # Crash: the row exists and nobody holds anything under it; it expires and is deleted.
        probe("keeper.registered")
        self._worker = worker
        self._missed.clear()

    def _reconcile(self, journal: Journal, worker: WorkerId, now: float) -> None:
        active = self._active() | self._told()
        held = {TaskRef(task.run_id, task.command, task.attempt): task for task in journal.tasks.held(worker)}
        self._missed = {ref: self._missed.get(ref, now) for ref in held if ref not in active}
        for ref, since in list(self._missed.items()):
            if now - since >= _MISSED_FOR:
                del self._missed[ref]
                activity = held[ref].activity
                self.died(ref, lost(ref, f"attempt {ref.attempt} of {activity} was claimed here, and is not running"))


_keepers: Final[dict[str, Keeper]] = {}


def find_keeper(instance: str) -> Keeper | None:
    """Return the keeper of an instance, if it lives in this process; children of a prefork pool have none."""
    keeper = _keepers.get(instance)
    return keeper if keeper is not None and keeper.here else None


def install(instance: str, keeper: Keeper | None) -> None:
    """Make a keeper the one that :func:`find_keeper` returns; None for none."""
    if keeper is None:
        _keepers.pop(instance, None)
    else:
        _keepers[instance] = keeper
