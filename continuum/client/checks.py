"""Here lives the checking of what callers pass: refused before anything is written, with what to write instead."""

import math
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from continuum.errors import CodecError, ConfigError, RunNotFound
from continuum.model.codec import check_size
from continuum.model.ids import RunId, parse_run_id
from continuum.model.names import is_storable

__all__ = ["MAX_ATTRIBUTES", "attributes_text", "check_key", "check_namespace", "check_run_id", "check_timeout"]

_MAX_NAME: Final = 200
# Bytes. An index entry holds a third of a page, and keys share theirs with a namespace and a workflow's name.
_MAX_KEY: Final = 1_000
# Attributes are for searching; what is larger belongs into the input.
MAX_ATTRIBUTES: Final = 64 * 1024
_MAX_DEPTH: Final = 32


def check_namespace(namespace: object) -> str | None:
    """Return the namespace, None meaning "not said". Raises ``ConfigError``."""
    if namespace is None:
        return None
    if not isinstance(namespace, str) or not namespace or len(namespace) > _MAX_NAME or not is_storable(namespace):
        message = f"namespace={namespace!r} is not valid: write a text of 1 to {_MAX_NAME} characters."
        raise ConfigError(message)
    return namespace


def check_key(name: str, key: object) -> str | None:
    """Return an idempotency key or delivery id. Raises ``ConfigError``."""
    if key is None:
        return None
    if not isinstance(key, str) or not key or not is_storable(key) or len(key.encode()) > _MAX_KEY:
        advice = f", {name}=str({key!r})" if isinstance(key, int) else ""
        message = f"{name}={key!r} is not valid: write a text of 1 to {_MAX_KEY} bytes{advice}."
        raise ConfigError(message)
    return key


def check_run_id(run_id: object) -> RunId:
    """Return the canonical id. Raises ``RunNotFound`` for what cannot be one: no run has it."""
    text = str(run_id)
    try:
        return parse_run_id(text)
    except ValueError:
        message = f"no run has the id {text!r}: run ids are UUIDs."
        raise RunNotFound(message, run_id=text) from None


def check_timeout(timeout: object) -> float | None:
    """Return seconds; None for no limit. Raises ``ValueError``."""
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds) or seconds < 0:
        message = f"timeout={timeout!r} is not valid: write seconds of zero or more, a timedelta, or None to wait on."
        raise ValueError(message)
    # Whoever waits longer than a lock can, waits for ever.
    return None if seconds > threading.TIMEOUT_MAX else float(seconds)


def attributes_text(attributes: Mapping[str, Any] | None) -> str | None:
    """Return attributes as the text of a JSON object. Raises ``CodecError`` with the path of what is not JSON."""
    if attributes is None:
        return None
    if not isinstance(attributes, Mapping):
        message = f"attributes must be a dict such as {{'customer': 7}}, not {type(attributes).__name__}"
        raise CodecError(message, path="attributes")
    text = msgspec.json.encode(_searchable(attributes, "attributes", 0)).decode()
    check_size(text, MAX_ATTRIBUTES, "attributes")
    return text


def _searchable(value: object, path: str, depth: int) -> Any:
    """Return the value as plain JSON types; refuse what would not come back, or could not be searched, as it is."""
    problem = None
    if depth > _MAX_DEPTH:
        problem = f"nested deeper than {_MAX_DEPTH} levels"
    elif value is None or isinstance(value, bool):
        return value
    elif isinstance(value, str):
        # Subclasses (a Markup, a StrEnum) as what they are to a search: their text.
        if is_storable(value):
            return str.__str__(value)
        problem = "text with NUL characters or lone surrogates cannot be stored"
    elif isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        problem = f"{value} is not JSON"
    elif isinstance(value, int):
        return int(value)
    elif isinstance(value, Mapping):
        found = {}
        for key, item in value.items():
            if not isinstance(key, str):
                problem = f"the key {key!r} is not text"
                break
            name = _searchable(key, f"{path}.{key!r}", depth)
            found[name] = _searchable(item, f"{path}.{key}", depth + 1)
        else:
            return found
    elif isinstance(value, list | tuple):
        return [_searchable(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    else:
        problem = f"a {type(value).__name__} is not JSON; write it as text or a number"
    message = f"{path}: {problem}"
    raise CodecError(message, path=path)
