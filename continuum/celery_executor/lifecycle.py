"""Here lives when things happen in a Celery worker: what it imports, when its keepers begin, and when they end.

::

    worker made ─► modules imported ─► pool started ─► keepers started ─► consumer … ─► pool stopped ─► keepers stopped
                   children inherit    children are    a lease before                   after minutes,
                   them                forked          the first message                perhaps

A thread and a connection made before the fork would be copied into every child, so the keeper waits for the pool. It
must outlive the pool as well, or the attempts that a warm shutdown waits for would lose their lease. A boot step that
starts after the pool is stopped before it; Celery's ``worker_shutdown`` is sent too early by a second signal, and not
at all at a cold shutdown. So the end is hooked into the blueprint, which calls ``on_stopped`` after its last step.

Children that are forked later (a dead one is replaced) inherit a copy of the keeper without its thread, and never use
it: connections are forgotten in every child (``client/access.py``, ``journal/postgres/forks.py``).
"""

import logging
from functools import partial
from typing import Any, Final

from celery import Celery, bootsteps

from continuum.celery_executor import occupied, summons
from continuum.celery_executor.binding import CeleryExecutor, list_executors
from continuum.celery_executor.greeting import announce, warn_of_worker
from continuum.celery_executor.keeper import Keeper, install
from continuum.celery_executor.requests import list_active
from continuum.declare.registry import load_modules
from continuum.errors import ConfigError

__all__ = ["KeeperStep", "register"]

logger = logging.getLogger("continuum.celery")

# A worker whose database is away starts without a lease; its other tasks must not wait for that.
_FIRST_LEASE: Final = 3.0


def register(app: Celery) -> None:
    """Put the keepers on an app's workers."""
    app.steps["worker"].add(KeeperStep)


class KeeperStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """Starts the keepers after the pool, and ends them when everything has stopped."""

    label = "Continuum"
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        summons.prepare()
        occupied.prepare()
        self._keepers: dict[str, Keeper] = {}
        for executor in _executors_of(worker.app):
            load_modules(executor.instance.settings.modules)

    def start(self, worker: Any) -> None:
        """Start a keeper for each instance, and wait a moment for its lease."""
        blueprint = worker.blueprint
        blueprint.on_stopped = partial(self._stopped, blueprint.on_stopped)
        queues = tuple(sorted(worker.app.amqp.queues.consume_from))
        for executor in _executors_of(worker.app):
            settings = executor.instance.settings
            keeper = Keeper(
                settings=settings,
                journal=partial(_journal_of, executor),
                hostname=worker.hostname,
                queues=queues,
                active=partial(list_active, settings.name),
                running=partial(occupied.occupied, settings.name),
            )
            keeper.start()
            install(settings.name, keeper)
            self._keepers[settings.name] = keeper
            announce(executor, queues)
        if self._keepers:
            warn_of_worker(worker)
        for name, keeper in self._keepers.items():
            if not keeper.registered.wait(_FIRST_LEASE):
                logger.warning(
                    "instance %r: its database does not answer; activities that come meanwhile are offered again", name
                )

    def stop(self, worker: Any) -> None:
        """Do nothing yet: the pool still works."""

    def terminate(self, worker: Any) -> None:  # noqa: ARG002 - as Celery calls it
        """Say to the children that it is Celery who ends them now; the keepers go on until it has."""
        summons.summon_all()

    def _stopped(self, then: Any) -> None:
        try:
            for name, keeper in self._keepers.items():
                keeper.stop()
                install(name, None)
            self._keepers.clear()
        finally:
            if then is not None:
                then()


def _executors_of(app: Celery) -> list[CeleryExecutor]:
    found = []
    for executor in list_executors():
        try:
            if executor.app is app:
                found.append(executor)
        except ConfigError:
            continue  # an instance without an app, or one that is just going
    return found


def _journal_of(executor: CeleryExecutor) -> Any:
    return executor.instance.journal
