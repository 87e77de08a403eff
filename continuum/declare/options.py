"""Here live the options of an activity: which there are, what they may be, what they become."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, TypedDict

import msgspec

from continuum.declare.executors import flaw_of_executor
from continuum.errors import DeclarationError
from continuum.model.policies import ActivityPolicy, Retry

__all__ = [
    "MAX_KEY",
    "CallOptions",
    "DeclaredOptions",
    "IdempotencyKey",
    "check_key",
    "check_key_function",
    "check_known",
    "policy_with",
]

IdempotencyKey = str | Callable[..., str] | None

# Long enough for any business key, short enough for an index row.
MAX_KEY: Final = 512


class CallOptions(TypedDict, total=False):
    """What a call may override. The fields are those of :class:`~continuum.model.policies.ActivityPolicy`.

    ``retry`` may be a number of attempts, a duration a number of seconds; ``idempotency_key=None`` opts out.
    """

    retry: Retry | int
    timeout: timedelta | float
    heartbeat_timeout: timedelta | float | None
    queue: str
    priority: int
    executor: str | None
    idempotency_key: IdempotencyKey


class DeclaredOptions(CallOptions, total=False):
    """What a declaration may say: all that a call may, the name, and whether the activity is transactional."""

    name: str
    transactional: bool


_VARIABLE: Final = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
_DURATIONS: Final = frozenset({"timeout", "heartbeat_timeout"})


def check_known(options: Mapping[str, Any], allowed: type, *, what: str) -> None:
    """Raise ``TypeError`` if there is an option that does not exist, naming those that do."""
    names = sorted(allowed.__annotations__)
    if allowed is DeclaredOptions:
        names = sorted({*names, *CallOptions.__annotations__})
    for option in options:
        if option not in names:
            near = difflib.get_close_matches(option, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{what} has no option {option!r}.{hint} Options: {', '.join(names)}.")


def policy_with(base: ActivityPolicy, options: Mapping[str, Any]) -> ActivityPolicy:
    """Return the policy with some fields replaced. Raises ``DeclarationError`` naming the field and what to write."""
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name in _DURATIONS:
            changes[name] = _duration(name, value)
        elif name == "retry" and isinstance(value, int) and not isinstance(value, bool):
            changes[name] = Retry(max_attempts=value)
        elif name == "transactional" and not isinstance(value, bool):
            raise DeclarationError(f"transactional={value!r} is not valid: write True or False.")
        elif name == "executor" and value is not None and (flaw := flaw_of_executor(value)) is not None:
            raise DeclarationError(flaw)
        else:
            changes[name] = value
    return msgspec.structs.replace(base, **changes) if changes else base


def check_key(key: object, *, activity: str) -> str:
    """Return an idempotency key. Raises ``DeclarationError`` unless it is a text that can be stored."""
    if not isinstance(key, str):
        raise DeclarationError(f"the idempotency key of {activity} is {key!r:.100}: it must be a text.")
    if not key or len(key) > MAX_KEY:
        raise DeclarationError(
            f"the idempotency key of {activity} has {len(key)} characters: it must have 1 to {MAX_KEY}."
            + (" Hash what it is made of." if key else "")
        )
    if "\0" in key or not _is_utf8(key):
        raise DeclarationError(f"the idempotency key of {activity} cannot be stored: {key!a:.100}")
    return key


def check_key_function(function: Callable[..., str], calls: inspect.Signature, *, activity: str) -> None:
    """Raise ``DeclarationError`` if the function could not take some call's arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C; the first call will tell
        return
    given = [parameter for parameter in calls.parameters.values() if parameter.kind not in _VARIABLE]
    needed = [parameter for parameter in given if parameter.default is inspect.Parameter.empty]
    for parameters in (given, needed):  # the longest call, and the shortest
        named = {item.name: None for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}
        placed = [None] * (len(parameters) - len(named))
        try:
            signature.bind(*placed, **named)
        except TypeError as error:
            raise DeclarationError(
                f"the idempotency_key function of {activity} must take the arguments the activity takes, which are"
                f" {calls}, and its own are {signature}: {error}."
            ) from None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _duration(name: str, value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise DeclarationError(f"{name}={value!r} is not valid: write a number of seconds.") from None
    return value  # the policy judges it
