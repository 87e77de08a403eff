"""Here lives an existing Celery task as an activity: its unchanged body, run by us, as if Celery ran it.

The task finds what it knows from Celery: itself as the current task, a request with its id and its number of retries,
its hooks and signals. Where it would ask Celery for something, it asks the journal: ``self.retry(...)`` and
``autoretry_for`` end in :class:`~celery.exceptions.Retry` before anything is published (the request says that it is
eager, which Celery takes as "whoever runs me will do that"), and that becomes ``RetryAfter``.

::

    returned ──────────────► on_success, after_return ─► the result
    Retry ─────────────────► on_retry ────────────────► RetryAfter, the same pause
    Reject, Ignore ────────► PermanentError: there is no message to reject
    any other exception ───► on_failure, after_return ─► final, as in Celery (`gives_up`)

# Invariant: whatever a hook or a receiver of a signal raises changes nothing about the outcome of the body.
"""

import functools
import types
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from celery import Task as CeleryTask
from celery import signals, states
from celery.exceptions import Ignore, Reject, Retry
from celery.local import Proxy

from continuum.celery_executor.messages import TASK_ATTRIBUTE
from continuum.celery_executor.sources import Source, read_source
from continuum.celery_executor.standins import Running, call_body, pause_of, request_for, stand_in
from continuum.declare.attempts import ATTEMPT, Attempt
from continuum.declare.executors import Adapted
from continuum.errors import PermanentError, RetryAfter
from continuum.model.policies import MAX_ATTEMPTS, MAX_TIMEOUT
from continuum.model.policies import Retry as RetryPolicy

__all__ = ["adapt"]

# What a body gets to clean up after its soft limit, where it has no hard one.
_AFTER_SOFT: Final = timedelta(seconds=60)


def adapt(task: Any) -> Adapted:
    """Return a Celery task as the parts of an activity. Raises ``DeclarationError`` if it is none."""
    source = read_source(task)
    return Adapted(name=source.name, function=_function_of(source), options=_options_of(source))


# ------------------------------------------------------------------ what it declares


def _function_of(source: Source) -> Callable[..., Any]:
    written: Any = source.function
    if source.validates:
        # Its hints speak of what the body sees; callers may pass and get plain dicts. Values carry their types anyway.
        written = types.FunctionType(
            written.__code__, written.__globals__, written.__name__, written.__defaults__, written.__closure__
        )
        functools.update_wrapper(written, source.function, assigned=("__module__", "__qualname__", "__doc__"))
        del written.__wrapped__

    @functools.wraps(written)
    def function(*args: Any, **kwargs: Any) -> Any:
        attempt = ATTEMPT.get(None)
        task = source.find()
        if attempt is None:
            return task(*args, **kwargs)  # a unit test, or a script: just the body
        return _run(task, attempt, args, kwargs)

    function.__signature__ = source.signature  # type: ignore[attr-defined]
    # As a proxy: whoever looks at it makes the task, and not before.
    setattr(function, TASK_ATTRIBUTE, Proxy(source.find, name=source.name))
    return function


def _options_of(source: Source) -> dict[str, Any]:
    retries = source.option("max_retries")
    automatic = (source.option("retry_kwargs") or {}).get("max_retries") if source.option("autoretry_for") else None
    if retries is not None and automatic is not None:
        retries = max(retries, automatic)
    attempts = MAX_ATTEMPTS if retries is None else min(max(int(retries), 0) + 1, MAX_ATTEMPTS)
    return {"retry": RetryPolicy(max_attempts=attempts, gives_up=True), "timeout": _timeout_of(source)}


def _timeout_of(source: Source) -> timedelta:
    """Return the task's limit. Celery has none by default, and neither is there a short one here then."""
    hard, soft = source.option("time_limit"), source.option("soft_time_limit")
    if hard:
        limit = timedelta(seconds=hard)
    elif soft:
        limit = timedelta(seconds=soft) + _AFTER_SOFT
    else:
        limit = MAX_TIMEOUT
    return min(limit, MAX_TIMEOUT)


# ------------------------------------------------------------------ how it runs


def _run(task: CeleryTask, attempt: Attempt, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    request = request_for(task, attempt, args, kwargs)
    run = Running(task, request, args, kwargs)
    with stand_in(task, request):
        result, state = None, None
        try:
            signals.task_prerun.send(sender=task, task_id=request.id, task=task, args=args, kwargs=kwargs)
            try:
                task.before_start(request.id, args, kwargs)
                result = call_body(task, args, kwargs)
                if isinstance(result, Retry):  # self.retry(throw=False)
                    raise result  # noqa: TRY301 - it is what the body asked for
            except Retry as asked:
                result, state = asked, states.RETRY
                raise _asked_again(run, asked) from asked.exc or asked.__context__
            except (Reject, Ignore) as left:
                result, state = left, states.REJECTED if isinstance(left, Reject) else states.IGNORED
                raise _without_message(task, left) from None
            except Exception as error:
                result, state = error, states.FAILURE
                run.failed(error)
                raise
            state = states.SUCCESS
            run.succeeded(result)
            return result
        finally:
            signals.task_postrun.send(
                sender=task, task_id=request.id, task=task, args=args, kwargs=kwargs, retval=result, state=state
            )


def _asked_again(run: Running, asked: Retry) -> Exception:
    """Return what to raise for a task that wants to be tried again."""
    if isinstance(asked.exc, PermanentError):
        return asked.exc  # autoretry_for=(Exception,) catches that as well
    if run.changed(asked):
        return PermanentError(
            f"{run.task.name} asked for a retry with other arguments (self.retry(args=…) or kwargs=…): a call's"
            " arguments are journaled and stay as they are. Let the workflow make the other call."
        )
    pause = pause_of(run.task, asked)
    run.retried(asked)
    why = f": {asked.excs}" if asked.excs else (f": {asked.__context__!r}" if asked.__context__ is not None else "")
    return RetryAfter(pause, f"{run.task.name} asked to be tried again in {pause}{why}")


def _without_message(task: CeleryTask, left: Reject | Ignore) -> PermanentError:
    what = f"{type(left).__name__}({left.reason!r})" if isinstance(left, Reject) else "Ignore"
    return PermanentError(
        f"{task.name} raised {what}, which tells Celery what to do with a message. An activity has none: raise another"
        " exception to fail, or self.retry() to be tried again."
    )
