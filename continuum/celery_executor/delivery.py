"""Here lives what becomes of a message in the process that runs it: claim, run, report, and a word for Celery.

A message says only which attempt is meant; whether there is anything to do, the journal decides. So a message may be
lost, repeated, late or nonsense: what finds no claim ends with a word, never with an error.

=================== ==================================================================================================
``done``            the result is in the journal
``retry``           the attempt failed; another one is due after a pause. Celery shows RETRY with the exception
``failed``          the attempt failed and was the last one. Celery shows FAILURE with the exception
``put-back``        the process was told to end; the same attempt is offered again
``late``            nobody waited for the outcome any more, or it was given up as timed out before
``journal-away``    the database could not be asked or told; the task is offered again
``stale``           no such attempt waits: a duplicate, an old message, a run that has ended
``no-lease``        this Celery worker has no lease at present; the task is offered again at its deadline
``unknown-…``       ``activity``: its code is missing here, others are asked in a moment; ``instance``, ``message``
=================== ==================================================================================================
"""

import logging
import random
import time
from datetime import timedelta
from typing import Any, Final

import msgspec

from continuum.celery_executor.binding import CeleryExecutor
from continuum.celery_executor.bodies import presentable
from continuum.celery_executor.finishing import Finisher
from continuum.celery_executor.keeper import Keeper, find_keeper
from continuum.celery_executor.life import CeleryLife
from continuum.celery_executor.masking import Shield
from continuum.celery_executor.messages import WORKER_KEY, Ask
from continuum.celery_executor.occupied import occupy
from continuum.celery_executor.reports import InlineReports
from continuum.declare.registry import ActivityDeclaration, load_modules
from continuum.errors import ConfigError, ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.ids import WorkerId
from continuum.model.tasks import ClaimedTask
from continuum.runtime.job import Job
from continuum.telemetry.probes import probe

__all__ = ["Verdict", "deliver"]

logger = logging.getLogger("continuum.celery")

# Others have the code; meanwhile a deploy may bring it here. Never the same delay twice: workers of a Redis ask for a
# second at a time, one after the other, so after whole seconds the same one would be first in the row again, for ever.
_UNKNOWN_DELAY: Final = timedelta(seconds=4)
_UNKNOWN_JITTER: Final = timedelta(seconds=2)
_AGAIN: Final = 0.2
_TRIES: Final = 15
# Leases for which an outcome is reported again and again: five minutes, unless the lease is set otherwise.
_PATIENCE: Final = 10
_warned: Final[set[str]] = set()


class Verdict(msgspec.Struct, frozen=True):
    """How a message ended.

    :ivar error: what to show to Celery of a failed attempt.
    :ivar pause: seconds until the next attempt, of a ``retry``.
    """

    word: str
    error: Exception | None = None
    pause: float = 0.0


def deliver(executor: CeleryExecutor, ask: Ask, request: Any) -> Verdict:
    """Do what a message asks for. Raises nothing but what tells this process, or greenlet, to end.

    :param request: the Celery task's request, of which the parent has told the worker id.
    """
    since = time.monotonic()
    worker = getattr(request, WORKER_KEY, None)
    if not isinstance(worker, str) or not worker:
        return Verdict("no-lease")
    instance = executor.instance
    with Shield() as shield, occupy(ask.instance, ask.ref):
        try:
            journal = instance.journal
            activity = _find_activity(executor, ask.activity)
            if activity is None:
                return _pass_on(journal, ask)
        except Exception as error:  # noqa: BLE001 - Celery is not to make an attempt of it
            return _unclaimed(ask, error)
        try:
            claimed = journal.tasks.claim_dispatched(WorkerId(worker), [ask.ref])
        except Exception as error:  # noqa: BLE001 - as above
            _take_back(journal, WorkerId(worker), ask, shield)
            return _unclaimed(ask, error)
        if not claimed:
            return Verdict("stale")
        # Crash: the row is leased to this Celery worker and nobody runs it. A dead child is noticed by its parent, a
        # dead worker by the reaper; either offers the next attempt.
        probe("delivery.claimed")
        (task,) = claimed
        settings = instance.settings
        lease = settings.lease_ttl.total_seconds()
        what = f"attempt {task.attempt} of {task.activity} (run {task.run_id}, command {task.command})"
        reports = InlineReports(what, shield=shield, patience=lease * _PATIENCE)
        keeper = find_keeper(settings.name)
        life = CeleryLife(
            journal,
            worker=WorkerId(worker),
            finisher=Finisher(journal) if keeper is None else keeper.finisher(journal),
            shield=shield,
            reports=reports,
            limit=_limit_of(executor, task, request),
            since=since,
            max_result_bytes=settings.max_payload_bytes,
        )
        _run(life, Job(task, WorkerId(worker), activity, life.heard), keeper, shield=shield, until=since + lease)
        leaving = life.leaving or reports.leaving
    if leaving is not None:
        raise leaving
    if reports.failed or life.again:
        return Verdict("journal-away")
    if life.error is None or life.word not in {"retry", "failed"}:
        return Verdict(life.word)
    return Verdict(life.word, presentable(life.error), life.pause)


def _run(life: CeleryLife, job: Job, keeper: Keeper | None, *, shield: Shield, until: float) -> None:
    """Run a job; from its beginning again while the journal is away at the wrong moment and nothing has changed."""
    while True:
        life.again = False
        if keeper is not None:
            keeper.watch(job)
        try:
            life.run(job)
        finally:
            if keeper is not None:
                keeper.forget(job)
        if not life.again:
            return
        if shield.late is not None or life.leaving is not None or time.monotonic() > until:
            life.leave(job)
            return
        shield.sleep(_AGAIN)
        job = Job(job.task, job.worker, job.activity, life.heard)


def _find_activity(executor: CeleryExecutor, name: str) -> ActivityDeclaration | None:
    instance = executor.instance
    found = instance.registry.find_activity(name)
    if found is None:
        # A child that was spawned rather than forked has imported nothing but the app.
        load_modules(instance.settings.modules)
        found = instance.registry.find_activity(name)
    return found


def _pass_on(journal: Journal, ask: Ask) -> Verdict:
    if ask.activity not in _warned:
        _warned.add(ask.activity)
        logger.warning(
            "activity %r is not declared in this Celery worker; import its module here (modules=[…] or the app's"
            " include), or consume its queue elsewhere. Its tasks are offered to others.",
            ask.activity,
        )
    delay = _UNKNOWN_DELAY + _UNKNOWN_JITTER * random.random()  # noqa: S311 - jitter
    if journal.tasks.defer([ask.ref], delay=delay):
        journal.hint(Hint(HintKind.TASKS))
    return Verdict("unknown-activity")


def _take_back(journal: Journal, worker: WorkerId, ask: Ask, shield: Shield) -> None:
    """Free what may have been claimed without our hearing of it: nothing has begun, so no attempt is to be counted."""
    for _ in range(_TRIES):
        try:
            if journal.tasks.put_back(worker, [ask.ref]):
                journal.hint(Hint(HintKind.TASKS))
        except ContinuumError:
            shield.sleep(_AGAIN)
            if shield.late is not None:
                return
        else:
            return


def _unclaimed(ask: Ask, error: Exception) -> Verdict:
    what = f"attempt {ask.ref.attempt} of {ask.activity} (run {ask.ref.run_id}, command {ask.ref.command})"
    if isinstance(error, ContinuumError):
        logger.warning("%s could not be claimed: %s. It is offered again.", what, error)
    else:
        logger.error("%s could not be claimed; it is offered again", what, exc_info=error)
    return Verdict("journal-away")


def _limit_of(executor: CeleryExecutor, task: ClaimedTask, request: Any) -> float:
    """Return after how many seconds the pool may end the body: the message's limit, else the app's."""
    limit = (getattr(request, "timelimit", None) or (None, None))[0]
    if limit is None:
        try:
            limit = executor.app.conf.task_time_limit
        except ConfigError:
            limit = None
    own = task.policy.timeout.total_seconds()
    return own if limit is None else min(own, float(limit))
