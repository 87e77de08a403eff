"""Here lives the checking of what callers pass: refused before anything is written, with what to write instead."""

import threading
from datetime import timedelta
from typing import Final

from continuum.errors import ConfigError, RunNotFound
from continuum.model.ids import RunId, parse_run_id
from continuum.model.names import is_storable, shown

__all__ = ["check_key", "check_namespace", "check_run_id", "check_timeout"]

_MAX_NAME: Final = 200
# Bytes. An index entry holds a third of a page, and keys share theirs with a namespace and a workflow's name.
_MAX_KEY: Final = 1_000
_READABLE: Final = 10**30


def check_namespace(namespace: object) -> str | None:
    """Return the namespace, None meaning "not said". Raises ``ConfigError``."""
    if namespace is None:
        return None
    if not isinstance(namespace, str) or not namespace or len(namespace) > _MAX_NAME or not is_storable(namespace):
        message = f"namespace={shown(namespace)} is not valid: write a text of 1 to {_MAX_NAME} characters."
        raise ConfigError(message)
    return namespace


def check_key(name: str, key: object) -> str | None:
    """Return an idempotency key or delivery id. Raises ``ConfigError``."""
    if key is None:
        return None
    if not isinstance(key, str) or not key or not is_storable(key) or len(key.encode()) > _MAX_KEY:
        advice = f", {name}=str({shown(key)})" if isinstance(key, int) and abs(key) < _READABLE else ""
        message = f"{name}={shown(key)} is not valid: write a text of 1 to {_MAX_KEY} bytes{advice}."
        raise ConfigError(message)
    return key


def check_run_id(run_id: object) -> RunId:
    """Return the canonical id. Raises ``RunNotFound`` for what cannot be one: no run has it."""
    text = ""
    try:
        text = str(run_id)
        return parse_run_id(text)
    except Exception:  # noqa: BLE001 - it may be anybody's __str__
        message = f"no run has the id {shown(run_id)}: run ids are UUIDs."
        raise RunNotFound(message, run_id=text) from None


def check_timeout(timeout: object) -> float | None:
    """Return seconds; None for no limit. Raises ``ValueError``."""
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    # Not so: a number that is none. (An int of thousands of digits is too long for math.isnan.)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        message = (
            f"timeout={shown(timeout)} is not valid: write seconds of zero or more, a timedelta, or None to wait on."
        )
        raise ValueError(message)
    # Whoever waits longer than a lock can, waits for ever.
    return None if seconds > threading.TIMEOUT_MAX else float(seconds)
