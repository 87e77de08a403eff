"""Here lives what stands in for Celery's worker around the body of a task: request, current task, hooks."""

import asyncio
import inspect
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Any, Final

from billiard.einfo import ExceptionInfo
from celery import Task as CeleryTask
from celery import _state, signals, states
from celery.app.task import Context
from celery.app.trace import _install_stack_protection, task_has_custom
from celery.exceptions import Retry
from celery.utils.time import make_aware, maybe_iso8601

from continuum.celery_executor.messages import TASK_NAME
from continuum.declare.attempts import Attempt
from continuum.errors import PermanentError

__all__ = ["Running", "call_body", "pause_of", "request_for", "stand_in"]

logger = logging.getLogger("continuum.celery")

# Only Task.replace() asks a request for this one through get().
_ASKED_BY_REPLACE: Final = "replaced_task_nesting"
_ZERO: Final = timedelta(0)


class _Request(Context):  # type: ignore[misc]  # Celery ships no types
    """A request that refuses the one thing that cannot be had."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute."""
        if key == _ASKED_BY_REPLACE:
            raise PermanentError(
                "self.replace() is not possible in an activity: the call and its result belong to the workflow. Let"
                " the workflow call the other task instead."
            )
        return super().get(key, default)


def request_for(task: CeleryTask, attempt: Attempt, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context:
    """Return the request a task sees: that of the message it came with, as far as there is one, with its own args.

    Its id is that of the call, not of the message: as in Celery it stays the same for every retry, because shops give
    it to their payment provider as the key under which a card is charged once.
    """
    outer = _state.get_current_worker_task()
    message = outer.request if outer is not None and outer.name == TASK_NAME else Context()
    task_id = f"{attempt.run_id}.{attempt.command}"
    mark = {"run_id": attempt.run_id, "command": attempt.command, "attempt": attempt.number}
    limits = [task.time_limit, task.soft_time_limit] if task.time_limit or task.soft_time_limit else None
    return _Request(
        {
            "id": task_id,
            "correlation_id": message.id or task_id,
            "task": task.name,
            "args": args,
            "kwargs": kwargs,
            "root_id": attempt.run_id or task_id,
            "parent_id": None,
            "retries": attempt.number - 1,
            # Celery takes this as "whoever runs me will publish": self.retry() publishes nothing then.
            "is_eager": True,
            "called_directly": False,
            "hostname": message.hostname or socket.gethostname(),
            "headers": {**(message.headers or {}), "continuum": mark},
            "delivery_info": {**(message.delivery_info or {}), "is_eager": True},
            "timelimit": limits,
            "ignore_result": True,
            "origin": message.origin,
            "utc": True,
            "loglevel": 0,
        }
    )


@contextmanager
def stand_in(task: CeleryTask, request: Context) -> Iterator[None]:
    """Make a task the current one inside the block, with its request and its app, as a worker does."""
    # Threads of a dispatcher have no current app; other_task.delay() in the body must go to the shop's.
    before = _state._tls.current_app  # noqa: SLF001 - asking for the current app would make one
    _state._set_current_app(task.app)  # noqa: SLF001 - as Celery.set_current does, and back
    _state._task_stack.push(task)  # noqa: SLF001 - as the worker does
    task.request_stack.push(request)
    try:
        yield
    finally:
        task.request_stack.pop()
        _state._task_stack.pop()  # noqa: SLF001 - as above
        _state._set_current_app(before)  # noqa: SLF001 - as above
        # self.retry(max_retries=…) notes it on the task for autoretry_for, and only that forgets it.
        task.__dict__.pop("override_max_retries", None)


def call_body(task: CeleryTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a task's body, and a coroutine that it returns to its end."""
    body: Callable[..., Any] = task.run
    if task_has_custom(task, "__call__"):
        # As in a worker: a custom __call__ that calls super() gets to the body with the request there is. Without it,
        # Celery before 5.5 puts an empty one on top.
        _install_stack_protection()
        body = task
    result = body(*args, **kwargs)
    return _complete(result) if inspect.iscoroutine(result) else result


def _complete(coroutine: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # Somebody's loop runs on this thread (greenlets share one): it cannot run another inside.
    outcome: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="continuum-coroutine")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return outcome[0]


def pause_of(task: CeleryTask, asked: Retry) -> timedelta:
    """Return how long a task wants to wait for its retry: its countdown, or until its eta."""
    when = asked.when
    if when is None:  # raised by hand
        when = task.default_retry_delay or 0
    if isinstance(when, str):
        when = maybe_iso8601(when)
    if isinstance(when, timedelta):
        return max(when, _ZERO)
    if isinstance(when, datetime):
        aware = when if when.tzinfo is not None else make_aware(when, task.app.timezone)
        left: timedelta = aware - task.app.now()
        return max(left, _ZERO)
    return max(timedelta(seconds=float(when)), _ZERO)


class Running:
    """A task that runs, and its hooks, called as Celery would; what they raise is logged."""

    def __init__(self, task: CeleryTask, request: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task = task
        self._request = request
        self._args = args
        self._kwargs = kwargs

    def changed(self, asked: Retry) -> bool:
        """Whether a retry is to be called with other arguments."""
        signature = asked.sig
        if signature is None:
            return False
        args, kwargs = tuple(signature.args or ()), dict(signature.kwargs or {})
        return not (
            len(args) == len(self._args)
            and all(map(_same, args, self._args))
            and kwargs.keys() == self._kwargs.keys()
            and all(_same(value, self._kwargs[name]) for name, value in kwargs.items())
        )

    def succeeded(self, result: Any) -> None:
        """Call what Celery calls after a success."""
        self._hook(self.task.on_success, result, self._request.id, self._args, self._kwargs)
        signals.task_success.send(sender=self.task, result=result)
        self._returned(states.SUCCESS, result)

    def failed(self, error: Exception) -> None:
        """Call what Celery calls after a failure."""
        info = ExceptionInfo(sys.exc_info())
        self._hook(self.task.on_failure, error, self._request.id, self._args, self._kwargs, info)
        signals.task_failure.send(
            sender=self.task,
            task_id=self._request.id,
            exception=error,
            args=self._args,
            kwargs=self._kwargs,
            traceback=error.__traceback__,
            einfo=info,
        )
        if isinstance(error, tuple(self.task.throws)):
            logger.info("%s[%s] raised expected: %r", self.task.name, self._request.id, error)
        self._returned(states.FAILURE, error)

    def retried(self, asked: Retry) -> None:
        """Call what Celery calls before a retry."""
        info = ExceptionInfo(sys.exc_info())
        self._hook(self.task.on_retry, asked.exc, self._request.id, self._args, self._kwargs, info)
        signals.task_retry.send(sender=self.task, request=self._request, reason=asked, einfo=info)

    def _returned(self, state: str, value: Any) -> None:
        self._hook(self.task.after_return, state, value, self._request.id, self._args, self._kwargs, None)

    def _hook(self, hook: Callable[..., Any], *args: Any) -> None:
        try:
            hook(*args)
        except Exception:
            logger.exception("%s of %s[%s] failed", hook.__name__, self.task.name, self._request.id)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - arrays and the like have no one answer
        return False
