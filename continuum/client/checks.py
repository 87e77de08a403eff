"""Here lives the checking of what callers pass: refused before anything is written, with what to write instead."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from continuum.errors import CodecError, ConfigError, RunNotFound
from continuum.model.codec import check_size
from continuum.model.ids import RunId, parse_run_id

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
    if not isinstance(namespace, str) or not namespace or len(namespace) > _MAX_NAME or not _storable(namespace):
        message = f"namespace={namespace!r} is not valid: write a text of 1 to {_MAX_NAME} characters."
        raise ConfigError(message)
    return namespace


def check_key(name: str, key: object) -> str | None:
    """Return an idempotency key or delivery id. Raises ``ConfigError``."""
    if key is None:
        return None
    if not isinstance(key, str) or not key or not _storable(key) or len(key.encode()) > _MAX_KEY:
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
    return None if math.isinf(seconds) else float(seconds)


def attributes_text(attributes: Mapping[str, Any] | None) -> str | None:
    """Return attributes as the text of a JSON object. Raises ``CodecError`` with the path of what is not JSON."""
    if attributes is None:
        return None
    if not isinstance(attributes, Mapping):
        message = f"attributes must be a dict such as {{'customer': 7}}, not {type(attributes).__name__}"
        raise CodecError(message, path="attributes")
    _refuse_unsearchable(attributes, "attributes", 0)
    text = msgspec.json.encode(dict(attributes)).decode()
    check_size(text, MAX_ATTRIBUTES, "attributes")
    return text


def _refuse_unsearchable(value: object, path: str, depth: int) -> None:
    """Refuse whatever would not come back, or could not be searched, as the JSON value it is."""
    problem = None
    if depth > _MAX_DEPTH:
        problem = f"nested deeper than {_MAX_DEPTH} levels"
    elif isinstance(value, str):
        problem = None if _storable(value) else "text with NUL characters or lone surrogates cannot be stored"
    elif isinstance(value, float):
        problem = None if math.isfinite(value) else f"{value} is not JSON"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                problem = f"the key {key!r} is not text"
                break
            _refuse_unsearchable(key, f"{path}.{key!r}", depth)
            _refuse_unsearchable(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unsearchable(item, f"{path}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, bool | int):
        problem = f"a {type(value).__name__} is not JSON; write it as text or a number"
    if problem is not None:
        message = f"{path}: {problem}"
        raise CodecError(message, path=path)


def _storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
