"""Here lives the contract of a workflow's signals, as it is stored with each version: which names, which values.

::

    {"format": 1, "signals": {"review": <schema>, "stop": true}, "replies": {"price_of": <schema>}}

It is checked by whoever sends, also where the workflow's code is not loaded. The schemas are those of `schemas`: about
the plain JSON of a value. A value that carries tags is looked at through them, and where the schema describes it they
are taken off, so that it arrives as the type that the workflow waits for: a ``Decimal`` where a ``Decimal``, or a text,
is described. Where a schema says nothing, tags stay.

What is guaranteed: a valid value is never refused. What passes is what the workflow's decoder takes, except for what a
schema cannot say (see `schemas`); the decoder then refuses it at the wait, with ``CodecError``. Words of JSON Schema
that this release does not know are not checked, nor are contracts in a later format.
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Self
from uuid import UUID

import msgspec

from continuum.model.hints import spread
from continuum.model.readers import peel
from continuum.model.schemas import Schema, describe
from continuum.model.tags import TAG, encode_json, find_class
from continuum.model.typed import parse, read

__all__ = ["FORMAT", "Contract", "Mismatch", "write_contract"]

FORMAT: Final = 1
"""Raise it when a schema is to mean something else than a release before understands."""


class Mismatch(Exception):
    """A value is not what its schema describes.

    :ivar path: where in the value, such as ``.items[3].owner``; empty for the value itself.
    :ivar reason: what it must be, and is not.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path.removeprefix('.')}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class _Stored(msgspec.Struct):
    format: int
    signals: dict[str, Any]
    replies: dict[str, Any] = {}


_parse_stored: Final = msgspec.json.Decoder(_Stored).decode


def write_contract(signals: Mapping[str, Any], replies: Mapping[str, Any]) -> str:
    """Return the contract to store.

    :param signals: the type of each signal's value, by name.
    :param replies: the type of each answer, by the name of the signal that asks.
    """
    content = {
        "format": FORMAT,
        "signals": {name: describe(signals[name]) for name in sorted(signals)},
        "replies": {name: describe(replies[name]) for name in sorted(replies)},
    }
    return encode_json(content).decode()


class Contract:
    """A contract, ready to check what is to be sent."""

    __slots__ = ("_signals", "names", "questions")

    def __init__(self, signals: Mapping[str, Any], replies: Mapping[str, Any]) -> None:
        self._signals = signals
        self.names: Final = frozenset(signals)
        self.questions: Final = frozenset(replies)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return a stored contract. Raises ``CodecError`` if it is none."""
        stored = read(text, _parse_stored)
        known = stored.format <= FORMAT
        return cls(stored.signals if known else dict.fromkeys(stored.signals, True), stored.replies)

    def check(self, name: str, payload: str) -> str:
        """Return the payload to send for a value of a declared signal, from its encoded form.

        :raises Mismatch: if the value is not what the contract describes.
        """
        schema = self._signals[name]
        if schema is True:
            return payload
        found = _Checker(schema).fit(parse(payload), schema, "")
        # A text without tags is what was checked; only what was looked at through tags has to be written anew.
        return encode_json(found).decode() if TAG in payload else payload


def _reads(kind: Any) -> Callable[[str], object]:
    return lambda text: msgspec.convert(text, kind)


# Each raises ValueError for a text that is none.
_FORMATS: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "date-time": ("a date with a time (ISO 8601)", _reads(datetime)),
    "date": ("a date (ISO 8601)", _reads(date)),
    "time": ("a time (ISO 8601)", _reads(time)),
    "duration": ("a duration (ISO 8601)", _reads(timedelta)),
    "uuid": ("a UUID", _reads(UUID)),
    "decimal": ("a decimal number", _reads(Decimal)),
    "integer": ("a whole number", lambda text: None if re.fullmatch("0|-?[1-9][0-9]*", text) else int("")),
    "base64": ("bytes in base64", lambda text: base64.b64decode(text, validate=True)),
}
_KINDS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "null": ("null", lambda value: value is None),
    "boolean": ("true or false", lambda value: type(value) is bool),
    "integer": ("a whole number", lambda value: type(value) is int),
    "number": ("a number", lambda value: type(value) in (int, float)),
    "string": ("a text", lambda value: type(value) is str),
    "array": ("a list", lambda value: type(value) is list),
    "object": ("an object", lambda value: type(value) is dict),
}
_Limit = tuple[type | tuple[type, ...], str, Callable[[Any, Any], bool]]
_LIMITS: Final[dict[str, _Limit]] = {
    "minimum": ((int, float), "at least", lambda value, limit: value >= limit),
    "exclusiveMinimum": ((int, float), "more than", lambda value, limit: value > limit),
    "maximum": ((int, float), "at most", lambda value, limit: value <= limit),
    "exclusiveMaximum": ((int, float), "less than", lambda value, limit: value < limit),
    "multipleOf": ((int, float), "a multiple of", lambda value, limit: not value % limit),
    "minLength": (str, "of a length of at least", lambda value, limit: len(value) >= limit),
    "maxLength": (str, "of a length of at most", lambda value, limit: len(value) <= limit),
    "pattern": (str, "a text that matches", lambda value, limit: re.search(limit, value) is not None),
    "minItems": (list, "of a length of at least", lambda value, limit: len(value) >= limit),
    "maxItems": (list, "of a length of at most", lambda value, limit: len(value) <= limit),
    "minProperties": (dict, "of a length of at least", lambda value, limit: len(value) >= limit),
    "maxProperties": (dict, "of a length of at most", lambda value, limit: len(value) <= limit),
}
_SHOWN: Final = 60
_MANY: Final = 10


class _Checker:
    """Fits values into one schema."""

    def __init__(self, root: Schema) -> None:
        self._defs = root.get("$defs", {}) if isinstance(root, dict) else {}

    def fit(self, node: Any, schema: Schema, path: str) -> Any:
        """Return parsed JSON without the tags of what the schema describes. Raises `Mismatch`."""
        if schema is True or schema == {}:
            return node
        if not isinstance(schema, dict):
            raise Mismatch(path, "nothing may stand here")
        if "$ref" in schema:
            node = self.fit(node, self._defs.get(str(schema["$ref"]).removeprefix("#/$defs/"), True), path)
        for part in schema.get("allOf", ()):
            node = self.fit(node, part, path)
        if "anyOf" in schema:
            node = self._any_of(node, schema["anyOf"], path)
        if not schema.keys() & _DIRECT:
            return node
        plain = _plain(node)
        self._check(plain, schema, path)
        if type(plain) is list:
            items, heads = schema.get("items", True), schema.get("prefixItems", ())
            if not heads and items is True:
                return node  # a list of anything, or a tuple, or a set: nobody would bring it back
            return [
                self.fit(item, heads[index] if index < len(heads) else items, f"{path}[{index}]")
                for index, item in enumerate(plain)
            ]
        if type(plain) is dict:
            return self._fit_object(node, plain, schema, path)
        return plain

    def _any_of(self, node: Any, parts: list[Schema], path: str) -> Any:
        found = []
        for part in parts:
            try:
                return self.fit(node, part, path)
            except Mismatch as mismatch:
                found.append(mismatch)
        deepest = max(found, key=lambda mismatch: len(mismatch.path))
        if len(deepest.path) > len(path) or len(found) == 1:
            raise deepest
        wanted = dict.fromkeys(mismatch.reason.partition(", and ")[0].removeprefix("must ") for mismatch in found)
        raise Mismatch(path, f"must {' or '.join(wanted).replace(' or be ', ' or ')}, and {_show(node)} does not fit")

    def _fit_object(self, node: Any, plain: dict[str, Any], schema: dict[str, Any], path: str) -> Any:
        known = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in plain:
                raise Mismatch(path, f"must have {name!r}, and has {_names(plain)}")
        others = schema.get("additionalProperties", True)
        if not known and others is True:
            return node  # an object of anything: nobody would bring back its tags
        if others is False and (extra := [name for name in plain if name not in known]):
            raise Mismatch(path, f"must have nothing but {_names(known)}, and has {extra[0]!r}")
        names = schema.get("propertyNames", True)
        if names is not True:
            for name in plain:
                self._check(name, names, f"{path}[{name!r}]")
        fitted = {name: self.fit(item, known.get(name, others), f"{path}.{name}") for name, item in plain.items()}
        # What could be mistaken for a tag stays escaped, as the codec writes it.
        return {"$dict": [list(pair) for pair in fitted.items()]} if next(iter(fitted), "").startswith("$") else fitted

    def _check(self, value: Any, schema: dict[str, Any], path: str) -> None:
        wanted = schema.get("type")
        kinds = [wanted] if isinstance(wanted, str) else wanted or ()
        if kinds and not any(_KINDS[kind][1](value) for kind in kinds if kind in _KINDS):
            names = " or ".join(_KINDS[kind][0] for kind in kinds if kind in _KINDS)
            raise Mismatch(path, f"must be {names}, and {_show(value)} is not")
        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if allowed is not None and not any(type(value) is type(one) and value == one for one in allowed):
            some = " or ".join(map(_show, allowed[:_MANY])) + (" …" if len(allowed) > _MANY else "")
            raise Mismatch(path, f"must be {some}, and {_show(value)} is not")
        if type(value) is str and schema.get("format") in _FORMATS:
            name, reads = _FORMATS[schema["format"]]
            try:
                reads(value)
            except ValueError:
                raise Mismatch(path, f"must be {name}, and {_show(value)} is not") from None
        for word in schema.keys() & _LIMITS.keys():
            kind, words, holds = _LIMITS[word]
            if isinstance(value, kind) and type(value) is not bool and not holds(value, schema[word]):
                raise Mismatch(path, f"must be {words} {schema[word]}, and {_show(value)} is not")


_DIRECT: Final = frozenset(
    {"type", "enum", "const", "format", "properties", "required", "additionalProperties", "propertyNames", "items"}
    | {"prefixItems"}
    | _LIMITS.keys()
)


def _plain(node: Any) -> Any:
    """Return JSON without its own tag; an object of a class that is loaded here as that class is written."""
    match node:
        case {"$class": [str(name), dict(fields)]} if len(node) == 1 and (cls := find_class(name)) is not None:
            return spread(cls, fields)
    return peel(node)


def _show(value: Any) -> str:
    text = encode_json(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _names(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(names)[:_MANY])) or "nothing"
