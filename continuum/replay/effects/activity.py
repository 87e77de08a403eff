"""Here lives the activity effect: a call is a command at once, and a future of its outcome.

A compensation is the same under another command, which says what it undoes.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from continuum.errors import ActivityCancelled, ActivityFailed, ActivityTimedOut
from continuum.model.codec import check_size
from continuum.model.events import EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import TaskOrder
from continuum.replay.calls import Call
from continuum.replay.effects.base import current_loop, get_running
from continuum.replay.loop import DeterministicLoop

__all__ = ["ActivityFuture", "plan", "schedule"]

T = TypeVar("T")

_SCHEDULED: Final = EventType.ACTIVITY_SCHEDULED
_COMPENSATION: Final = EventType.COMPENSATION_SCHEDULED
_CANCELLED: Final = EventType.ACTIVITY_CANCELLED
_MANY: Final = 10**12  # more commands than any run has


def schedule(
    name: str,
    arguments: str,
    *,
    policy: ActivityPolicy,
    policy_text: str,
    decode: Callable[[str], Any],
    idempotency_key: str | None = None,
    kind: EventType = _SCHEDULED,
    recorded: str | None = None,
) -> "ActivityFuture[Any]":
    """Ask for a call of an activity, and return the future of its outcome. It runs whether awaited or not.

    :param arguments: encoded arguments; on replay they must equal the recorded ones.
    :param decode: payload of the result to its value; may raise ``CodecError``, which makes the run stuck.
    :param kind: the command it is.
    :param recorded: the command's payload, if that is more than the arguments.

    Raises ``NotInWorkflow``, ``ReplayDriftError``.
    """
    loop = get_running()
    if type(loop) is not DeterministicLoop:
        loop = current_loop(f"activity {name}")
    ledger = loop.ledger
    command = ledger.issue(kind, name, arguments if recorded is None else recorded)
    if command >= ledger.recorded_count:
        ledger.orders[command] = TaskOrder(command, name, arguments, policy, policy_text, idempotency_key)
    # No __init__ of our own: no other line of a replay runs as often.
    future: ActivityFuture[Any] = ActivityFuture(loop=loop)
    future.serial = loop.next_serial()
    future.command = command
    future.target = name
    future.undo = None
    future.decode = decode
    loop.activities[command] = future
    return future


def plan(
    name: str,
    arguments: str,
    *,
    policy: ActivityPolicy,
    policy_text: str,
    decode: Callable[[str], Any],
    idempotency_key: str | None = None,
) -> "Callable[[int | None], ActivityFuture[Any]]":
    """Return what schedules a call as the compensation of a command, or of none; parameters as for `schedule`.

    Raises ``NotInWorkflow``, and ``CodecError`` if the arguments are too large: what is returned then never is.
    """
    loop = current_loop(f"compensation {name}")
    check_size(_undoing(_MANY, arguments), loop.ledger.max_payload, f"arguments of compensation {name}")

    def order(undoes: int | None) -> ActivityFuture[Any]:
        return schedule(
            name,
            arguments,
            policy=policy,
            policy_text=policy_text,
            decode=decode,
            idempotency_key=idempotency_key,
            kind=_COMPENSATION,
            recorded=_undoing(undoes, arguments),
        )

    return order


def _undoing(command: int | None, arguments: str) -> str:
    return f'{{"undoes":{"null" if command is None else command},"arguments":{arguments}}}'


class ActivityFuture(Call[T], Generic[T]):
    """The outcome of a scheduled activity: await it, gather it, wait for it, shield it, or cancel it.

    Awaiting raises ``ActivityFailed``, ``ActivityTimedOut`` or ``ActivityCancelled`` if there is no result. Cancelling
    it, or the task that awaits it, withdraws the activity: a call not yet begun will not begin, a running one is asked
    to stop, and nobody waits for either. One with a compensation is not withdrawn: see `compensate`.
    """

    __slots__ = ()
    what = "activity"
    success = EventType.ACTIVITY_COMPLETED.value

    def cancel(self, msg: Any | None = None) -> bool:
        """Withdraw the activity. Return False if it has its outcome, or was cancelled before."""
        if not super().cancel(msg):
            return False
        if self.undo is None:
            self.withdraw()
        return True

    def withdraw(self) -> None:
        """Take the activity back: its task goes, and an outcome that comes all the same is dropped."""
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        if loop.activities.pop(self.command, None) is not None:
            ledger = loop.ledger
            if loop.dead or not ledger.note_cancelled(_CANCELLED, self.command, self.target):
                return
            # An order of this very turn is taken back; an older one has become a task.
            if ledger.orders.pop(self.command, None) is None:
                ledger.cancelled.append(self.command)

    def _failed(self, kind: str, payload: str | None) -> Exception:  # noqa: ARG002 - there is only one kind
        return _failed(self.target, Failure.parse(payload or ""))


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
