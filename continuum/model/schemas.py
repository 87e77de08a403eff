"""Here lives the description of a type as a JSON Schema: of the plain JSON that stands for its values.

Plain JSON is what the codec writes where a hint brings the value back, and what is left of its tagged form without the
tags (`readers.peel`). The schemas use few words of JSON Schema (2020-12), all of them listed in `KEYWORDS`; `contracts`
knows just these. ``format`` means what msgspec reads of that kind; ``decimal``, ``integer`` (a key of an object) and
``base64`` are ours.

A schema never refuses what a valid value is written as. It promises less than the type where the type has code of its
own (``__post_init__``, validators of pydantic), bounds the length of bytes, or wants a time zone; and it is ``true``,
anything, for what has no fields or items to look at: ``Any``, ``object``, enums that JSON does not bring back, classes
that the codec carries with tags only. Of an object whose keys are not read from a text (tuples, ``int | str``), it says
no more than that it is one.
"""

import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import inspect as shapes

from continuum.model.codec import codec_for
from continuum.model.tags import Shape, shape_of

__all__ = ["KEYWORDS", "Schema", "describe"]

Schema = bool | dict[str, Any]

KEYWORDS: Final = frozenset(
    {
        *("type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "format"),
        *("properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"),
        *("items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    }
)

# What pydantic says in these words it may say in another dialect than Python's, or read more generously.
_LEFT_TO_PYDANTIC: Final = frozenset({"pattern", "format"})

_FORMATS: Final[dict[type[shapes.Type], str]] = {
    shapes.DateTimeType: "date-time",
    shapes.DateType: "date",
    shapes.TimeType: "time",
    shapes.TimeDeltaType: "duration",
    shapes.UUIDType: "uuid",
    shapes.BytesType: "base64",
    shapes.ByteArrayType: "base64",
}
_BOUNDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_DECIMAL: Final = {"type": "string", "format": "decimal"}


def describe(hint: Any) -> Schema:
    """Return the schema of the values of a hint; ``True`` if nothing can be said. Never raises."""
    codec = codec_for(hint)
    codec.prepare()
    if not codec.closed:
        # Read back as it is, whatever the hint says: no more can be known of it than which container it is.
        kind = typing.get_origin(hint) or hint
        return {"type": "object"} if kind is dict else {"type": "array"} if kind is list else True
    try:
        author = _Author()
        schema = author.write(shapes.type_info(hint))
    except Exception:  # noqa: BLE001 - whatever a hint may be, its values travel all the same
        return True
    if isinstance(schema, dict) and author.defs:
        schema = {**schema, "$defs": {name: author.defs[name] for name in sorted(author.defs)}}
    return schema


class _Author:
    """Writes one schema. Classes stand in ``$defs``, because they may contain themselves."""

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = {}

    def write(self, info: shapes.Type) -> Schema:
        """Return the schema of a type."""
        match info:
            case shapes.NoneType():
                return {"type": "null"}
            case shapes.BoolType():
                return {"type": "boolean"}
            case shapes.IntType():
                return {"type": "integer", **_bounds(info)}
            case shapes.FloatType():
                return {"type": "number", **_bounds(info)}
            case shapes.StrType():
                return {"type": "string", **_lengths(info, "Length"), **_given(pattern=info.pattern)}
            case shapes.DecimalType():
                return {"anyOf": [_DECIMAL, {"type": "number"}]}
            case shapes.LiteralType():
                return {"enum": list(info.values)}
            case shapes.EnumType():
                return {"enum": [member.value for member in info.cls]}
            case shapes.UnionType():
                return {"anyOf": [self.write(member) for member in info.types]}
            case shapes.DictType():
                return self._mapping(info)
            case shapes.TupleType():
                items = [self.write(item) for item in info.item_types]
                return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
            case shapes.CollectionType():
                return {"type": "array", "items": self.write(info.item_type), **_lengths(info, "Items")}
            case shapes.StructType() | shapes.DataclassType() | shapes.TypedDictType() | shapes.NamedTupleType():
                return self._class(info.cls, info)
            case shapes.CustomType() if shape_of(info.cls) is Shape.MODEL:
                return self._model(info.cls)
            case _:
                found = _FORMATS.get(type(info))
                return True if found is None else {"type": "string", "format": found}

    def _mapping(self, info: shapes.DictType) -> Schema:
        names = _key_schema(info.key_type)
        if names is None:
            return {"type": "object"}
        return {
            "type": "object",
            **({} if names is True else {"propertyNames": names}),
            "additionalProperties": self.write(info.value_type),
            **_lengths(info, "Properties"),
        }

    def _class(self, cls: Any, info: Any) -> Schema:
        name = _name_of(cls)
        if name not in self.defs:
            self.defs[name] = True  # it may contain itself
            self.defs[name] = self._fields(info)
        return {"$ref": f"#/$defs/{name}"}

    def _fields(self, info: Any) -> Schema:
        strict = getattr(info, "forbid_unknown_fields", False)
        tag = getattr(info, "tag", None)
        if isinstance(info, shapes.NamedTupleType) or getattr(info, "array_like", False):
            head: list[Schema] = [] if tag is None else [{"enum": [tag]}]
            items = [*head, *(self.write(field.type) for field in info.fields)]
            needed = [index for index, field in enumerate(info.fields, start=len(head) + 1) if field.required]
            most = {"maxItems": len(items)} if strict or isinstance(info, shapes.NamedTupleType) else {}
            return {"type": "array", "prefixItems": items, "minItems": max([len(head), *needed]), **most}
        properties = {} if tag is None else {info.tag_field: {"enum": [tag]}}
        properties |= {field.encode_name: self.write(field.type) for field in info.fields}
        required = [] if tag is None else [info.tag_field]
        required += [field.encode_name for field in info.fields if field.required]
        closed = {"additionalProperties": False} if strict else {}
        return {"type": "object", "properties": properties, "required": required, **closed}

    def _model(self, cls: Any) -> Schema:
        name = _name_of(cls)
        if name not in self.defs:
            schema = cls.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
            inner = schema.pop("$defs", {})
            self.defs[name] = _tidy(schema)
            self.defs |= {f"{name}.{part}": _tidy(found) for part, found in inner.items()}
        return {"$ref": f"#/$defs/{name}"}


def _name_of(cls: Any) -> str:
    return f"{cls.__module__}:{cls.__qualname__}".replace("~", "-").replace("/", "-")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _bounds(info: Any) -> dict[str, Any]:
    return _given(**{word: getattr(info, name) for name, word in _BOUNDS.items()})


def _lengths(info: Any, of: str) -> dict[str, Any]:
    return _given(**{f"min{of}": info.min_length, f"max{of}": info.max_length})


def _key_schema(info: shapes.Type) -> Schema | None:
    """Return the schema of an object's keys, which are texts in JSON; None for keys that a text does not bring back."""
    match info:
        case shapes.StrType():
            return {**_lengths(info, "Length"), **_given(pattern=info.pattern)} or True
        case shapes.IntType():
            return {"format": "integer"}
        case shapes.FloatType() | shapes.DecimalType():
            return {"format": "decimal"}
        case shapes.LiteralType():
            return {"enum": _as_keys(info.values)}
        case shapes.EnumType():
            return {"enum": _as_keys(member.value for member in info.cls)}
        case _:
            found = _FORMATS.get(type(info))
            return None if found is None else {"format": found}


def _as_keys(values: Iterable[Any]) -> list[str]:
    plain = [value.value if isinstance(value, Enum) else value for value in values]
    return [value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in plain]


_LISTS_OF_SCHEMAS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED_SCHEMAS: Final = frozenset({"properties", "$defs"})
_SCHEMAS: Final = frozenset({"items", "additionalProperties", "propertyNames"})


def _tidy(schema: Any) -> Schema:
    """Return pydantic's schema in our words: titles, defaults and what is left to pydantic itself are gone."""
    if not isinstance(schema, dict):
        return schema is not False
    kept: dict[str, Any] = {}
    for word, content in schema.items():
        if word in _LISTS_OF_SCHEMAS:
            kept["anyOf" if word == "oneOf" else word] = [_tidy(part) for part in content]
        elif word in _NAMED_SCHEMAS:
            kept[word] = {name: _tidy(part) for name, part in content.items()}
        elif word in _SCHEMAS:
            kept[word] = _tidy(content)
        elif word in KEYWORDS and word not in _LEFT_TO_PYDANTIC:
            kept[word] = content
    return kept or True
