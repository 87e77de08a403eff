"""Here lives what a Celery worker's main process does for the messages of activities: before they run, and if they die.

Celery's ``Request`` stands for one message there. On the way into the pool ours gets the worker id of the present
lease, for whoever runs it to claim with. Afterwards the pool tells it how the job ended. A failure that the body's own
process reported is none of its business: the journal knows. But a process that was killed, or ran into the hard time
limit, could not report, and that is told to the keeper at once, who writes it down in its own time.

# Invariant: nothing here waits, and nothing raises: this is the loop that feeds the pool. Telling twice is harmless (a
hard limit calls two hooks): the journal ends an attempt once.

The hooks are methods that all pools call and that Celery, which derives a class of its own from ours for each task,
leaves alone (``execute_using_pool`` and ``on_success`` it does not).
"""

import logging
import threading
import weakref
from typing import Any, Final

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request

from continuum.celery_executor.keeper import find_keeper
from continuum.celery_executor.messages import WORKER_KEY, Ask, parse_args
from continuum.celery_executor.notices import lost
from continuum.celery_executor.occupied import lives
from continuum.celery_executor.summons import summon
from continuum.model.failures import FailureKind
from continuum.model.tasks import TaskRef

__all__ = ["ActivityRequest", "list_active"]

logger = logging.getLogger("continuum.celery")

# What the pool reports when there is no process left that could.
_DEATHS: Final = (WorkerLostError, Terminated, TimeLimitExceeded, SystemExit, KeyboardInterrupt)

_lock: Final = threading.Lock()
_begun: Final[weakref.WeakSet["ActivityRequest"]] = weakref.WeakSet()


def list_active(instance: str) -> frozenset[TaskRef]:
    """Return the attempts of an instance which the pool of this process has begun and not ended.

    Older releases of Celery forget what their pool runs when they lose their broker, and call no hook at its end: what
    is gone with its process has ended.
    """
    with _lock:
        begun = list(_begun)
    asks = [request.continuum_ask for request in begun if not request.worker_pid or lives(request.worker_pid)]
    return frozenset(ask.ref for ask in asks if ask is not None and ask.instance == instance)


class ActivityRequest(Request):  # type: ignore[misc] # Celery has no types
    """A message that asks for an attempt of an activity."""

    continuum_ask: Ask | None = None
    continuum_worker: str | None = None

    def revoked(self) -> bool:
        """Whether the message is not to be executed. Asked when it comes, and again on its way into the pool."""
        revoked = bool(super().revoked())
        try:
            self._prepare(revoked=revoked)
        except Exception:
            logger.exception("message %s could not be prepared", self.id)
        return revoked

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Note that the pool has begun it."""
        with _lock:
            _begun.add(self)
        super().on_accepted(pid, time_accepted)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Note that it has ended; tell the keeper if it was by a death."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        self._ended(error)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> Any:  # noqa: FBT001
        """Tell the keeper of a hard limit; a soft one is the body's to report."""
        if not soft:
            self._ended(TimeLimitExceeded(timeout))
        return super().on_timeout(soft, timeout)

    def terminate(self, pool: Any, signal: Any = None) -> Any:
        """Say that the process is told to end by Celery."""
        summon(self.worker_pid)
        return super().terminate(pool, signal)

    def cancel(self, pool: Any, *args: Any, **kwargs: Any) -> Any:
        """Say that the process is told to end by Celery."""
        summon(self.worker_pid)
        return super().cancel(pool, *args, **kwargs)

    # ------------------------------------------------------------------ inner

    def _prepare(self, *, revoked: bool) -> None:
        ask = self.continuum_ask
        if ask is None:
            ask = self.continuum_ask = parse_args(self._args or ())
        keeper = None if ask is None else find_keeper(ask.instance)
        self.continuum_worker = None if keeper is None else keeper.worker
        self._request_dict[WORKER_KEY] = self.continuum_worker
        if revoked and ask is not None and keeper is not None and not self._has_expired():
            # Somebody revoked it by hand; the journal wants it all the same. What expired was dispatched anew long
            # ago, at its deadline; or clocks disagree, and then doing it at once would go round in circles.
            keeper.put_off(ask.ref)

    def _has_expired(self) -> bool:
        return bool(self.maybe_expire())

    def _ended(self, error: BaseException | None) -> None:
        try:
            with _lock:
                _begun.discard(self)
            ask = self.continuum_ask
            if not isinstance(error, _DEATHS) or ask is None:
                return
            keeper = find_keeper(ask.instance)
            if keeper is None:
                return
            if isinstance(error, TimeLimitExceeded):
                message = f"attempt {ask.ref.attempt} of {ask.activity} passed its time limit and was killed"
                failure = lost(ask.ref, message, kind=FailureKind.TIMED_OUT)
            else:
                message = f"the process that ran attempt {ask.ref.attempt} of {ask.activity} died: {error}"
                failure = lost(ask.ref, message)
            keeper.died(ask.ref, failure, worker=self.continuum_worker)
        except Exception:
            logger.exception("the end of message %s could not be told", self.id)
