"""Here lives what a Celery worker says about Continuum when it starts: what it runs, and what will not work so well."""

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from continuum.celery_executor.binding import CeleryExecutor
from continuum.celery_executor.checks import Finding, clock_findings, find_settings, pool_findings
from continuum.model.clock import DatabaseClock

__all__ = ["announce", "warn_of_clock", "warn_of_worker"]

logger = logging.getLogger("continuum.celery")


def announce(executor: CeleryExecutor, queues: tuple[str, ...]) -> None:
    """Say what this worker runs of an instance."""
    names = [activity.name for activity in executor.instance.registry.activities()]
    logger.info(
        "Continuum instance %r: this Celery worker runs %d activities from the queues %s (%s)",
        executor.instance.settings.name,
        len(names),
        ", ".join(queues),
        ", ".join(names) or "none is declared here: import their modules",
    )


def warn_of_worker(worker: Any) -> None:
    """Say what the worker's pool and configuration make harder."""
    pool = worker.pool_cls if isinstance(worker.pool_cls, str) else worker.pool_cls.__module__
    _say([*pool_findings(pool), *find_settings(worker.app)])


def warn_of_clock(clock: DatabaseClock) -> bool:
    """Say if this host's clock is too far from the database's; return whether that could be told yet."""
    if not clock.known:
        return False
    _say(clock_findings(timedelta(seconds=time.time()) - timedelta(microseconds=clock.now_us())))
    return True


def _say(findings: Iterable[Finding]) -> None:
    for finding in findings:
        logger.warning("%s (%s)", finding.message, finding.code)
