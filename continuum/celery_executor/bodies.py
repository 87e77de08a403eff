"""Here lives calling a body in a Celery worker, ``def`` or ``async def``, and telling how it was ended from outside.

What ends a body from outside, by pool:

- prefork: the soft time limit raises ``SoftTimeLimitExceeded``; the hard one, a terminating revoke and a cold shutdown
  raise ``SystemExit`` with the code of a signal (and SIGKILL may follow a tenth of a second later).
- gevent: the time limit raises ``gevent.Timeout``, a terminating revoke ``GreenletExit``; neither is an ``Exception``.
- solo, threads: nothing ever does; the keeper gives the attempt up and tells it.

Whatever else a body raises is its own failure, ``sys.exit()``, ``KeyboardInterrupt`` and ``MemoryError`` included. None
of the three may reach Celery: the first two would end the pool's child, the last one the whole worker.
"""

import asyncio
import sys
from collections.abc import Callable
from contextvars import copy_context
from importlib import import_module
from typing import Any, Final

from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import TaskPredicate, WorkerShutdown, WorkerTerminate
from kombu.utils.compat import detect_environment

from continuum.celery_executor.masking import soft_limit_calls
from continuum.errors import ExecutorError
from continuum.model.failures import describe_exception

__all__ = ["call_async", "is_green_timeout", "is_soft_limit", "is_told_to_end", "presentable"]

# billiard's handlers of terminating signals exit with -(256 - signal); no signal has a number above 64.
_SIGNAL_CODES: Final = range(-255, -191)


def call_async(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a coroutine function on an event loop of its own. Raises what it raises."""
    if detect_environment() == "gevent":
        # Greenlets share their thread, and a thread runs one event loop at a time.
        return import_module("gevent").get_hub().threadpool.apply(copy_context().run, (_run, function, args, kwargs))
    return _run(function, args, kwargs)


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    passed: list[bool] = []

    async def body() -> Any:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def cancel() -> None:
            passed.append(True)
            loop.call_soon_threadsafe(task.cancel)

        with soft_limit_calls(cancel):
            return await function(*args, **kwargs)

    try:
        return asyncio.run(body())
    except asyncio.CancelledError:
        if passed:
            raise SoftTimeLimitExceeded from None
        raise


def is_soft_limit(error: BaseException) -> bool:
    """Whether the soft time limit ended the body."""
    return isinstance(error, SoftTimeLimitExceeded)


def is_told_to_end(error: BaseException) -> bool:
    """Whether the pool ended the body: the process, or its greenlet, is to go."""
    if isinstance(error, SystemExit):
        return isinstance(error, WorkerShutdown | WorkerTerminate) or error.code in _SIGNAL_CODES
    return _is_a(error, "greenlet", "GreenletExit")


def is_green_timeout(error: BaseException) -> bool:
    """Whether it is a gevent timeout: the pool's, or one of the body's own."""
    return _is_a(error, "gevent", "Timeout")


def _is_a(error: BaseException, module: str, name: str) -> bool:
    # Only if the library is loaded can it have raised.
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and isinstance(error, cls)


def presentable(error: BaseException) -> Exception:
    """Return the exception to show to Celery: the very one, unless Celery would do something about it."""
    if isinstance(error, Exception) and not isinstance(error, MemoryError | TaskPredicate):
        return error
    failure = describe_exception(error)
    return ExecutorError(f"the body raised {failure.type_name}: {failure.message}")
