"""Here lives the form of attributes: a JSON object to search by, checked where it is given.

One check for all floors: a client sets them from outside, workflow code from inside.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from continuum.errors import CodecError
from continuum.model.codec import check_size
from continuum.model.names import is_storable

__all__ = ["MAX_ATTRIBUTES", "attributes_text"]

# Bytes. Attributes are for searching; what is larger belongs into the input.
MAX_ATTRIBUTES: Final = 64 * 1024
_MAX_DEPTH: Final = 32
# Of a whole number: Python writes none of more than 4,300 digits.
_MAX_BITS: Final = 14_000


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
        if value.bit_length() <= _MAX_BITS:
            return int(value)
        problem = "a number as long as that is not stored; write it as text"
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
