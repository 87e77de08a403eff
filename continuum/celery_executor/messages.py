"""Here lives the shape of a message: which attempt of which task, and a name to show. Never a payload.

The names of headers and arguments are an agreement between releases: a dispatcher of one and a Celery worker of
another must understand each other during a deploy. Arguments may be added at the end; what a reader does not know it
ignores.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from continuum.model.ids import parse_run_id
from continuum.model.tasks import TaskRef

__all__ = [
    "START_TASK_NAME",
    "TASK_ATTRIBUTE",
    "TASK_NAME",
    "WORKER_KEY",
    "Ask",
    "celery_id",
    "describe",
    "parse_args",
    "task_id",
    "to_args",
]

TASK_NAME: Final = "continuum.activity"
START_TASK_NAME: Final = "continuum.start"
# Under this key the worker's main process tells the process that runs a task its worker id (its lease).
WORKER_KEY: Final = "continuum_worker"
# The function of an adapted activity carries the Celery task it runs under this name.
TASK_ATTRIBUTE: Final = "celery_task"

_LEAST_ARGUMENTS: Final = 4
# What a column of the task row holds.
_MOST: Final = 2**31 - 1
_MOST_DIGITS: Final = 10


class Ask(msgspec.Struct, frozen=True, gc=False):
    """What a message asks for: an attempt of a task of an instance.

    :ivar activity: its name, to show; the journal's row decides.
    """

    instance: str
    ref: TaskRef
    activity: str


def task_id(ref: TaskRef) -> str:
    """Return a task's id in messages: its run and its command."""
    return f"{ref.run_id}.{ref.command}"


def celery_id(ref: TaskRef, dispatch_no: int) -> str:
    """Return the Celery id of one message.

    It names the dispatch as well: Celery remembers the ids of expired and revoked messages for hours and throws later
    ones of the same id away.
    """
    return f"{ref.run_id}.{ref.command}.{ref.attempt}.{dispatch_no}"


def to_args(instance: str, ref: TaskRef, activity: str) -> list[Any]:
    """Return the positional arguments of a message."""
    return [instance, task_id(ref), ref.attempt, activity]


def describe(ref: TaskRef) -> str:
    """Return what logs, events and Flower show as the arguments."""
    return f"(run {ref.run_id}, command {ref.command}, attempt {ref.attempt})"


def parse_args(args: Sequence[Any]) -> Ask | None:
    """Return what a message asks for; None if it is none of ours."""
    if len(args) < _LEAST_ARGUMENTS:
        return None
    instance, task, attempt, activity = args[:_LEAST_ARGUMENTS]
    if not isinstance(instance, str) or not isinstance(task, str) or not isinstance(activity, str):
        return None
    run_id, _, command = task.rpartition(".")
    if len(command) > _MOST_DIGITS or not command.isascii() or not command.isdigit() or int(command) > _MOST:
        return None
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 1 <= attempt <= _MOST:
        return None
    try:
        run = parse_run_id(run_id)
    except ValueError:
        return None
    return Ask(instance, TaskRef(run, int(command), attempt), activity)
