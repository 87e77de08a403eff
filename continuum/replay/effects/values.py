"""Here live the effects that give workflow code a value it could not compute: time, chance, and side effects."""

import inspect
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

from continuum.errors import ActivityFailed
from continuum.model.codec import check_size, decode, encode
from continuum.model.failures import Failure, describe_exception
from continuum.model.names import check_effect_name
from continuum.replay.effects.base import current_loop

__all__ = ["now", "random", "side_effect", "today", "uuid4"]

P = ParamSpec("P")
R = TypeVar("R")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# An encoded value never begins like this: the codec escapes dicts whose first key begins with a dollar sign.
_FAILURE: Final = '{"$failure":'


def now() -> datetime:
    """Return the present, as an aware UTC datetime: when what the run waited for last arrived.

    It stands still until the run waits again. Costs no row. Raises ``NotInWorkflow``.
    """
    return _EPOCH + timedelta(microseconds=current_loop("now()").ledger.now)


def today() -> date:
    """Return the present date in UTC. Raises ``NotInWorkflow``."""
    return (_EPOCH + timedelta(microseconds=current_loop("today()").ledger.now)).date()


def uuid4() -> UUID:
    """Return a random UUID (version 4), drawn from the run's seed: the same on every replay. Costs no row."""
    return UUID(bytes=current_loop("uuid4()").ledger.draw(16), version=4)


def random() -> float:
    """Return a random number in [0, 1), drawn from the run's seed: the same on every replay. Costs no row."""
    # 53 bits fill the mantissa of a double exactly.
    return (int.from_bytes(current_loop("random()").ledger.draw(8), "big") >> 11) * 2.0**-53


def side_effect(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a quick function once, record what it returns, and return that: on replay from the record.

    For what is read rather than done: an environment variable, a configuration value. It runs on the dispatcher's
    thread and must not block; it may run again if the process dies before the record is committed. What reaches the
    world belongs into an activity. The value passes through the codec, so that it is the same on replay.

    Raises ``ActivityFailed`` if the function raised, or returned what cannot be stored: that is recorded, too.
    ``TypeError`` for an async function, ``NotInWorkflow``; effects used inside the function are refused.
    """
    loop = current_loop("side_effect()")
    ledger = loop.ledger
    name = check_effect_name(_name_of(function), "the name of the side effect")
    if inspect.iscoroutinefunction(function):
        message = f"side_effect() takes a plain function, and {name} is async: make it an activity, and await that"
        raise TypeError(message)
    payload = ledger.recorded_value(name)
    if payload is None:
        ledger.bar(f"side_effect({name})")
        try:
            payload = _recordable(function(*args, **kwargs), name, ledger.max_payload)
        except Exception as error:  # noqa: BLE001 - recorded, and raised below
            payload = f"{_FAILURE}{describe_exception(error, attempts=1).encode()}}}"
        finally:
            ledger.barred = None
        ledger.write_value(name, payload)
    if payload.startswith(_FAILURE):
        raise _raised(name, Failure.parse(payload[len(_FAILURE) : -1]))
    return decode(payload)  # type: ignore[no-any-return]


def _recordable(value: Any, name: str, limit: int) -> str:
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        message = f"side_effect() takes a plain function, and {name} returned an awaitable: make it an activity"
        raise TypeError(message)
    payload = encode(value, where=f"side_effect {name}")
    check_size(payload, limit, f"side_effect {name}")
    return payload


def _raised(name: str, failure: Failure) -> ActivityFailed:
    return ActivityFailed(
        f"side effect {name} raised {failure.type_name}: {failure.message}",
        activity=name,
        attempts=1,
        cause=failure.cause,
        type_name=failure.type_name,
        error_message=failure.message,
        remote_traceback=failure.traceback,
    )


def _name_of(function: Any) -> str:
    # Never an address or an index: the name is what a replay compares.
    while hasattr(function, "func"):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__
