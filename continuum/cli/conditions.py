"""Here lives how conditions of a search are written in a shell: ``state=failed``, ``attributes.amount>=100``."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from continuum.errors import SearchError
from continuum.model.conditions import FIELDS, FieldKind, Op

__all__ = ["parse_conditions"]

_SIGNS: Final = {
    "=": Op.EQ,
    "!=": Op.NE,
    "<": Op.LT,
    "<=": Op.LTE,
    ">": Op.GT,
    ">=": Op.GTE,
    "~": Op.CONTAINS,
}
_WRITTEN: Final = re.compile(r"(?P<field>[^=!<>~]+?)\s*(?P<sign>!=|<=|>=|=|<|>|~)\s*(?P<value>.*)", re.DOTALL)
# What is text need not be quoted, also where it could be read as something else.
_TEXTS: Final = frozenset({FieldKind.ID, FieldKind.STATE, FieldKind.TEXT, FieldKind.MOMENT})


def parse_conditions(given: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the conditions that texts such as ``attributes.customer=7`` stand for. Raises ``SearchError``.

    The value is JSON if it can be read as such, else text; ``=`` and a list mean any of these.
    """
    return [_parse(text) for text in given]


def _parse(text: str) -> tuple[str, Any]:
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        message = (
            f"--where {text!a:.100} is not a condition: write FIELD=VALUE, or !=, <, <=, >, >=, ~ (contains) in the"
            " place of the =."
        )
        raise SearchError(message)
    field, op, value = found["field"], _SIGNS[found["sign"]], _value(found["field"], found["value"])
    return field, {Op.IN if op is Op.EQ and isinstance(value, list) else op: value}


def _value(field: str, text: str) -> Any:
    known = FIELDS.get(field)
    if known is not None and known.kind in _TEXTS and text != "null" and not text.startswith(('"', "[")):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
