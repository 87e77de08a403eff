"""Here lives the difference of two payloads, path by path, for a person."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

__all__ = ["compare_payloads"]

# A reader needs the first few places; the whole is in the history.
_MOST_LINES: Final = 10
_MOST_CHARACTERS: Final = 60
_MOST_PATH: Final = 120
_NOTHING: Final = "(nothing)"


def compare_payloads(recorded: str | None, requested: str | None, *, what: str = "") -> str:
    r"""Return a line for each place in which two JSON texts differ, at most ten; "" if they say the same.

    >>> compare_payloads('[1,{"a":2}]', '[1,{"a":3,"b":4}]', what="arguments")
    'arguments[1].a: 2 → 3\narguments[1].b: (nothing) → 4'
    """
    try:
        old = _MISSING if recorded is None else msgspec.json.decode(recorded)
        new = _MISSING if requested is None else msgspec.json.decode(requested)
        lines = list(_take(_differences(what, old, new)))
    except (msgspec.DecodeError, RecursionError):  # what cannot be read cannot be compared by place
        return ""
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "… and more"]
    return "\n".join(lines)


class _Missing:
    """Stands for what one side does not have."""


_MISSING: Final = _Missing()


def _take(found: Iterator[str]) -> Iterator[str]:
    for _, line in zip(range(_MOST_LINES + 1), found, strict=False):
        yield line


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{path}.{key}" if path else str(key)
            yield from _differences(place, old.get(key, _MISSING), new.get(key, _MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            one = old[index] if index < len(old) else _MISSING
            other = new[index] if index < len(new) else _MISSING
            yield from _differences(f"{path}[{index}]", one, other)
    elif type(old) is not type(new) or old != new:
        place = _cut(_plain(path), _MOST_PATH)
        yield f"{place}: {_shown(old)} → {_shown(new)}" if place else f"{_shown(old)} → {_shown(new)}"


def _shown(value: Any) -> str:
    # Encoded again, so that no control character of a user's text reaches whoever reads it.
    return _NOTHING if value is _MISSING else _cut(msgspec.json.encode(value).decode(), _MOST_CHARACTERS)


def _plain(path: str) -> str:
    return path if path.isprintable() else msgspec.json.encode(path).decode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
