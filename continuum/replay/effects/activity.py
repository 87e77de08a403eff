"""Here lives the activity effect: a call is a command at once, and a future of its outcome."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from continuum.errors import ActivityCancelled, ActivityFailed, ActivityTimedOut, CodecError
from continuum.model.events import EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import TaskOrder
from continuum.replay.effects.base import current_loop, get_running
from continuum.replay.loop import DeterministicLoop
from continuum.replay.primitives import Task

__all__ = ["ActivityFuture", "schedule"]

T = TypeVar("T")

_SCHEDULED: Final = EventType.ACTIVITY_SCHEDULED
_COMPLETED: Final = EventType.ACTIVITY_COMPLETED.value
_CANCELLED: Final = EventType.ACTIVITY_CANCELLED
_current_task: Final = asyncio.current_task
_future_await: Final = asyncio.Future.__await__


def schedule(
    name: str,
    arguments: str,
    *,
    policy: ActivityPolicy,
    policy_text: str,
    decode: Callable[[str], Any],
    idempotency_key: str | None = None,
) -> "ActivityFuture[Any]":
    """Ask for a call of an activity, and return the future of its outcome. It runs whether awaited or not.

    :param arguments: encoded arguments; on replay they must equal the recorded ones.
    :param decode: payload of the result to its value; may raise ``CodecError``, which makes the run stuck.

    Raises ``NotInWorkflow``, ``ReplayDriftError``.
    """
    loop = get_running()
    if type(loop) is not DeterministicLoop:
        loop = current_loop(f"activity {name}")
    ledger = loop.ledger
    command = ledger.issue(_SCHEDULED, name, arguments)
    if command >= ledger.recorded_count:
        ledger.orders[command] = TaskOrder(command, name, arguments, policy, policy_text, idempotency_key)
    # No __init__ of our own: no other line of a replay runs as often.
    future: ActivityFuture[Any] = ActivityFuture(loop=loop)
    future.serial = loop.next_serial()
    future.command = command
    future.activity = name
    future.decode = decode
    loop.activities[command] = future
    return future


if TYPE_CHECKING:

    class _Future(asyncio.Future[T], Coroutine[Any, Any, T]):
        """To a type checker a call is a coroutine as well: `TaskGroup.create_task` takes it, on this loop."""

        def send(self, value: Any, /) -> Any: ...
        def throw(self, *args: Any) -> Any: ...
        def close(self) -> None: ...
        def __await__(self) -> Generator[Any, None, T]: ...
else:
    # Only the name is generic: a future takes no parameters when a class is made of it with slots.
    _Future = asyncio.Future


class ActivityFuture(_Future[T], Generic[T]):
    """The outcome of a scheduled activity: await it, gather it, wait for it, shield it, or cancel it.

    Awaiting raises ``ActivityFailed``, ``ActivityTimedOut`` or ``ActivityCancelled`` if there is no result. Cancelling
    it, or the task that awaits it, withdraws the activity: a call not yet begun will not begin, a running one is asked
    to stop, and nobody waits for either.

    :ivar command: number of the ``activity_scheduled`` command.
    :ivar activity: name of the activity.
    """

    __slots__ = ("activity", "command", "decode", "serial")
    activity: str
    command: int
    decode: Callable[[str], Any]
    serial: int

    def __hash__(self) -> int:
        return self.serial

    def __repr__(self) -> str:
        return f"<activity {self.activity} (command {self.command}) {self._state.lower()}>"

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the outcome, or take it from the history at once if waiting could let nothing else happen.

        The inline rule: nothing is ready, no condition waits, this future has no callbacks, the current task has no
        cancellation pending and is not an eager task's first step, and the next recorded completion is this one's.
        Suspending would then resume exactly this task next. Fuzzed: with any of the conditions taken away, random
        programs replay differently.
        """
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        ledger = loop.ledger
        cursor = ledger.cursor
        if cursor < ledger.inline_due:
            event = ledger.completions[cursor]
            if event.command == self.command and loop.is_quiet() and not self.done() and not self._callbacks:
                task = _current_task(loop)
                if type(task) is Task and not task._must_cancel and ledger.barred is None:  # type: ignore[attr-defined] # noqa: SLF001
                    ledger.cursor = cursor + 1
                    loop.settle(event)
        return _future_await(self)

    __iter__ = __await__

    def cancel(self, msg: Any | None = None) -> bool:
        """Withdraw the activity. Return False if it has its outcome, or was cancelled before."""
        if not super().cancel(msg):
            return False
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        if loop.activities.pop(self.command, None) is not None:
            ledger = loop.ledger
            if loop.dead or not ledger.note_cancelled(_CANCELLED, self.command, self.activity):
                return True
            # An order of this very turn is taken back; an older one has become a task.
            if ledger.orders.pop(self.command, None) is None:
                ledger.cancelled.append(self.command)
        return True

    def settle(self, kind: str, payload: str | None) -> None:
        """Take in the outcome. Raises ``CodecError`` if it cannot be decoded."""
        if self.done():
            return
        if kind == _COMPLETED:
            try:
                value = self.decode(payload if payload is not None else "null")
            except Exception as error:
                raise self._loop.ledger.fail(_undecodable(self, error)) from error  # type: ignore[attr-defined]
            self.set_result(value)
            return
        try:
            failure = Failure.parse(payload or "")
        except Exception as error:
            raise self._loop.ledger.fail(_undecodable(self, error)) from error  # type: ignore[attr-defined]
        unheard = not self._callbacks
        self.set_exception(_failed(self.activity, failure))
        if unheard:
            self._loop.watch(self)  # type: ignore[attr-defined]


def _undecodable(future: ActivityFuture[Any], error: Exception) -> CodecError:
    message = f"the outcome of activity {future.activity} (command {future.command}) cannot be decoded: {error}"
    return CodecError(message, path=getattr(error, "path", "") or "result")


def _failed(activity: str, failure: Failure) -> Exception:
    """Return what workflow code gets to see of a failure: the same from every history, live or replayed."""
    known = {"activity": activity, "attempts": failure.attempts, "cause": failure.cause}
    tries = "1 attempt" if failure.attempts == 1 else f"{failure.attempts} attempts"
    match failure.kind:
        case FailureKind.TIMED_OUT | FailureKind.HEARTBEAT_TIMED_OUT:
            limit = "timeout" if failure.kind is FailureKind.TIMED_OUT else "heartbeat_timeout"
            return ActivityTimedOut(
                f"activity {activity} passed its {limit} ({tries}): {failure.message}", limit=limit, **known
            )
        case FailureKind.CANCELLED:
            return ActivityCancelled(f"activity {activity} was cancelled: {failure.message}", **known)
        case _:
            return ActivityFailed(
                f"activity {activity} failed ({tries}): {failure.type_name}: {failure.message}",
                type_name=failure.type_name,
                error_message=failure.message,
                remote_traceback=failure.traceback,
                **known,
            )
