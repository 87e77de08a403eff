"""Here lives ``continuum.start``, the Celery task by which beat and other services start workflows.

A message may come twice (two beats, a redelivery, a sender that was not sure), and the worker that has it may die. So
each start has a key, and the message is acknowledged when the run is there. What the key is made of:

- ``idempotency_key``, if given;
- with ``every``, the workflow, its arguments and the slot of time: however many beats send it, one run per slot;
- else the message's Celery id, so that at least a redelivered message starts nothing twice.

While the database is away the message is sent again later, with the key it had: Postgres cannot keep it, so the broker
has to. A broker that loses it then loses the start.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from celery import Celery, Task

from continuum.celery_executor.binding import find_executor, list_executors
from continuum.celery_executor.messages import START_TASK_NAME
from continuum.client.instance import Continuum
from continuum.errors import ConfigError, ContinuumError

__all__ = ["StartTask", "register", "slot_of"]

_DEFAULT: Final = "default"
_LONGEST_PAUSE: Final = 300.0
_WORDS: Final = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
# Slots begin a little early: a worker's clock that is behind beat's must not put a message into the slot before.
_EARLY: Final = timedelta(seconds=30)
_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


class StartTask(Task):  # type: ignore[misc]  # Celery has no types
    """The task. A start can be repeated, so the message is kept until it has happened."""

    abstract = True
    acks_late = True
    acks_on_failure_or_timeout = True
    acks_on_failure = True
    acks_on_timeout = True
    reject_on_worker_lost = True
    retry_on_worker_lost = False
    max_retries = None
    autoretry_for = ()


def register(app: Celery) -> None:
    """Put the task on an app that is finalized or just being finalized."""
    app.task(
        _start, name=START_TASK_NAME, base=StartTask, bind=True, shared=False, lazy=False, autoretry_for=(), throws=()
    )


def _start(
    task: Any,
    workflow: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
    every: str | float | None = None,
    instance: str | None = None,
    namespace: str | None = None,
) -> str:
    """Start a run of a workflow; return its id."""
    where = _instance(instance, app=task.app)
    key = idempotency_key
    if key is None and every is not None:
        key = f"{slot_of(every, task.app.now())} {_digest(args, kwargs)}"
    elif key is None:
        key = f"celery {task.request.id}"
    try:
        placed, named = _arguments(where, workflow, args, kwargs or {})
        return where.start(workflow, *placed, **named, idempotency_key=key, namespace=namespace).id
    except ContinuumError as error:
        if not error.transient or task.request.is_eager:
            raise
        pause = min(2.0 ** min(task.request.retries, 20), _LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        # The key as it is now: by the time of another attempt the slot may be the next one.
        again = {"idempotency_key": key, "instance": instance, "namespace": namespace}
        raise task.retry(args=(workflow, args, kwargs), kwargs=again, exc=error, countdown=pause) from error


def _instance(name: str | None, *, app: Celery) -> Continuum:
    """Return the instance of this name; if none is given, the app's only one, else the one named ``default``."""
    executors = list_executors()
    own = [executor for executor in executors if executor.attached is app]
    executor = own[0] if name is None and len(own) == 1 else find_executor(name or _DEFAULT)
    if executor is None:
        known = ", ".join(sorted({repr(each.instance.settings.name) for each in executors})) or "none"
        raise ConfigError(
            f"{START_TASK_NAME}: no Continuum instance named {name or _DEFAULT!r} is loaded in this Celery worker."
            f" Loaded: {known}. Import the module that makes it, or pass instance=."
        )
    return executor.instance


def _arguments(
    instance: Continuum, workflow: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments as the workflow's hints want them: a date from another service comes as a text."""
    call = {"args": list(args), "kwargs": dict(kwargs)}
    if not _is_json(call):
        return tuple(args), dict(kwargs)  # pickled, say: they are what they are
    return instance.get_workflow(workflow).read_input(msgspec.json.encode(call).decode())


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) for name in value) and all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or type(value) in {bool, int, float, str}


def _digest(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> str:
    text = msgspec.json.encode([list(args), dict(kwargs or {})], enc_hook=repr, order="sorted")
    return hashlib.sha256(text).hexdigest()[:16]


def slot_of(every: str | float, now: datetime) -> str:
    """Return the name of the slot of time that a moment is in.

    ``every`` is ``minute``, ``hour``, ``day``, ``week`` or ``month``, a number of seconds, or such as ``15m``, ``6h``.
    Slots are counted in UTC, weeks from Monday. Raises ``ConfigError`` on anything else.
    """
    if every == "month":
        moment = now.astimezone(UTC) + _EARLY
        return f"{moment:%Y-%m}"
    length = timedelta(seconds=_seconds(every))
    moment = now.astimezone(UTC) + min(_EARLY, length / 4)
    begun = _MONDAY + (moment - _MONDAY) // length * length
    return f"{begun.isoformat()} {length / _SECOND:g}s"


def _seconds(every: Any) -> float:
    seconds = 0.0
    if isinstance(every, str):
        number, unit = every[:-1], _UNITS.get(every[-1:])
        if every in _WORDS:
            seconds = _WORDS[every]
        elif unit is not None and number.isascii() and number.isdigit():
            seconds = int(number) * unit
        elif every.isascii() and every.isdigit():
            seconds = int(every)
    elif isinstance(every, int | float) and not isinstance(every, bool):
        seconds = every
    if not 1 <= seconds <= 366 * 86_400:  # also nan
        raise ConfigError(
            f"every={every!r} is not valid: write 'minute', 'hour', 'day', 'week', 'month', a number of seconds, or"
            " such as '15m'."
        )
    return seconds
