"""Here lives ``continuum.activity``, the one Celery task that runs every activity.

One, because Celery throws away messages whose task it does not know; a message that reaches a worker without the code
must come back instead. Whatever the shop has set for its tasks (late acknowledgement, rejecting, retrying, rate limits,
annotations, a base class of its own) does not apply to this one: the journal alone decides about another attempt, and a
second opinion would run a body twice.

What Celery and Flower show: an attempt whose body raised is a RETRY if the journal has accepted another attempt, a
FAILURE if it was the last one, each with the very exception, so that logs, events and whoever listens to
``task_retry`` and ``task_failure`` (error trackers) treat activities as they treat tasks; an alert for each attempt
that will be made again would be noise. It is safe, because it is said after the journal has accepted the outcome, and
because raising ``Retry`` publishes nothing (``Task.retry`` does, before it raises), early acknowledgement leaves
nothing to reject, and nothing is stored under ``ignore_result``. Exceptions that Celery would act upon are wrapped.
"""

import logging
from typing import Any, Final

from celery import Celery, Task
from celery.exceptions import Retry
from kombu.utils.encoding import safe_repr

from continuum.celery_executor.binding import find_executor, list_executors
from continuum.celery_executor.delivery import deliver
from continuum.celery_executor.messages import TASK_NAME, parse_args

__all__ = ["ActivityTask", "register"]

logger = logging.getLogger("continuum.celery")

_warned: Final[set[str]] = set()


class ActivityTask(Task):  # type: ignore[misc] # Celery has no types
    """The generic task. Its attributes are final: what is not None here no configuration replaces."""

    abstract = True
    Request = "continuum.celery_executor.requests:ActivityRequest"
    ignore_result = True
    store_errors_even_if_ignored = False
    store_eager_result = False
    track_started = False
    acks_late = False
    acks_on_failure_or_timeout = True
    acks_on_failure = True
    acks_on_timeout = True
    reject_on_worker_lost = False
    retry_on_worker_lost = False
    max_retries = 0
    autoretry_for = ()
    throws = ()
    rate_limit = 0  # none; None would mean the shop's default, for all activities together
    typing = False  # later releases may add arguments
    serializer = "json"

    @classmethod
    def annotate(cls) -> None:
        """Take no annotations: those for ``*`` would switch on what is off here."""


def register(app: Celery) -> None:
    """Put the task on an app that is finalized or just being finalized."""
    app.task(
        _run,
        name=TASK_NAME,
        base=ActivityTask,
        bind=True,
        shared=False,
        lazy=False,
        autoretry_for=(),
    )


def _run(task: ActivityTask, /, *args: Any, **_: Any) -> str:
    """Run the attempt that a message names, if the journal agrees."""
    ask = parse_args(args)
    if ask is None:
        return "unknown-message"
    executor = find_executor(ask.instance)
    if executor is None:
        _warn_of_stranger(ask.instance)
        return "unknown-instance"
    verdict = deliver(executor, ask, task.request)
    if verdict.error is None:
        return verdict.word
    if verdict.word == "retry":
        pause = round(verdict.pause, 1)
        message = f"attempt {ask.ref.attempt}: {safe_repr(verdict.error)}; next attempt in {pause} s"
        raise Retry(message, exc=verdict.error, when=pause) from verdict.error
    raise verdict.error


def _warn_of_stranger(name: str) -> None:
    """Say it once: the task waits for its deadline, may come here again then, and nobody would know why."""
    if name in _warned:
        return
    _warned.add(name)
    known = ", ".join(sorted({repr(each.instance.settings.name) for each in list_executors()})) or "none"
    logger.warning(
        "a message of the Continuum instance %r came to this Celery worker, which has %s. Its task is offered again"
        " later. Import the module that makes that instance here, or keep the apps apart: instances of different names"
        " may share neither a queue nor a database schema (queue=…, schema=…).",
        name,
        known,
    )
