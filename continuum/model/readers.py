"""Here lives the way back from self-describing JSON (see `tags`) to values.

What is read may come from an older release, or from somebody who could write to the journal: nothing is imported, no
class outside the plain carriers of data is instantiated, and whatever is not understood is a `CodecError`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from continuum.errors import CodecError
from continuum.model.tags import NAMES, Shape, encode_json, find_class, shape_of

__all__ = ["model_input", "neutral", "peel", "untag"]


def untag(node: Any, *, classes: bool = True) -> Any:
    """Return the value that tagged JSON, already parsed, stands for.

    :param classes: False leaves objects as dicts and enum members as their values, for a caller who knows better
        than the payload which class is meant.
    :raises CodecError: for unknown tags and for classes that are not loaded.
    """
    if type(node) is list:
        return [untag(item, classes=classes) for item in node]
    if type(node) is not dict:
        return node
    if len(node) == 1:
        [(tag, content)] = node.items()
        if tag.startswith("$"):
            reader = _READERS.get(tag)
            if reader is not None:
                return reader(content)
            return _read_container(tag, untag(content, classes=classes), classes=classes)
    return {key: untag(item, classes=classes) for key, item in node.items()}


def _read_container(tag: str, content: Any, *, classes: bool) -> Any:
    if tag in _CONTAINER_READERS:
        return _CONTAINER_READERS[tag](content)
    if tag in _CLASS_READERS:
        name, inner = content
        return _CLASS_READERS[tag](name, inner) if classes else inner
    raise CodecError(
        f"the payload holds the tag {tag}, which this version does not know; "
        "it was written by a newer Continuum or by a wrapper that is not configured here",
        path="payload",
    )


def _convert(kind: type) -> Callable[[Any], Any]:
    return lambda content: msgspec.convert(content, kind)


def _read_moment(kind: type[datetime] | type[time]) -> Callable[[Any], Any]:
    def read(content: Any) -> datetime | time:
        if type(content) is list:
            text, fold = content
            return kind.fromisoformat(text).replace(fold=fold)
        return msgspec.convert(content, kind)

    return read


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$int": lambda content: int(content, 16),
    "$datetime": _read_moment(datetime),
    "$time": _read_moment(time),
    **{NAMES[kind]: _convert(kind) for kind in (date, timedelta, Decimal, UUID, bytes, bytearray)},
}


def _read_class(name: str, shapes: frozenset[Shape]) -> Any:
    cls = find_class(name)
    if cls is None:
        module = name.partition(":")[0]
        advice = (
            "define it in a module of its own, which the dispatcher can import"
            if module == "__main__"
            else f"import module {module} in the dispatcher (and in whatever reads results)"
        )
        raise CodecError(
            f"the payload holds a {name}, and no such class is loaded; {advice}, "
            "or, if the class has moved, hint the parameter with it",
            path="payload",
        )
    if shape_of(cls) not in shapes:
        raise CodecError(f"the payload names {name}, which is no {' or '.join(sorted(shapes))}", path="payload")
    return cls


_OBJECTS: Final = frozenset(Shape) - {Shape.ENUM}


def _read_enum(name: str, value: Any) -> Any:
    return _read_class(name, frozenset({Shape.ENUM}))(value)


def _read_object(name: str, fields: dict[str, Any]) -> Any:
    cls = _read_class(name, _OBJECTS)
    match shape_of(cls):
        case Shape.DATACLASS:
            return _restore_dataclass(cls, fields)
        case Shape.MODEL:
            return cls.model_validate(model_input(cls, fields))
        case Shape.STRUCT:
            known = {key: value for key, value in fields.items() if key in cls.__struct_fields__}
            struct = cls(**known)
            for key, value in known.items():
                msgspec.structs.force_setattr(struct, key, value)  # whatever __post_init__ made of it
            return struct
        case _:
            return cls(**{key: value for key, value in fields.items() if key in cls._fields})


def model_input(cls: Any, fields: dict[str, Any]) -> Any:
    """Return what ``cls.model_validate`` wants for these fields: keys by alias, the bare value for a root model."""
    if getattr(cls, "__pydantic_root_model__", False):
        return fields["root"]
    named = {}
    for name, value in fields.items():
        field = cls.model_fields.get(name)
        alias = getattr(field, "validation_alias", None)
        choices = [choice for choice in getattr(alias, "choices", [alias]) if isinstance(choice, str)]
        named[choices[0] if choices else name] = value
    return named


def _restore_dataclass(cls: Any, fields: dict[str, Any]) -> Any:
    """Rebuild without ``__init__``, as copy and pickle do; then ``__post_init__``, whose changes to fields are undone.

    Fields were recorded after ``__post_init__`` had run once; applying it twice must not change them. It still runs
    for what it sets besides the fields. One that takes InitVars cannot run: they are not recorded.
    """
    instance = cls.__new__(cls)
    for field in dataclasses.fields(cls):
        if field.name in fields:
            value = fields[field.name]
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            raise CodecError(
                f"the payload has no {field.name!r} for {cls.__qualname__}; give the new field a default",
                path=f"payload.{field.name}",
            )
        object.__setattr__(instance, field.name, value)
    post_init = getattr(cls, "__post_init__", None)
    if post_init is not None and len(inspect.signature(post_init).parameters) == 1:
        instance.__post_init__()
        for field in dataclasses.fields(cls):
            if field.name in fields:
                object.__setattr__(instance, field.name, fields[field.name])
    return instance


_CONTAINER_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": dict,
    "$value": lambda content: content,
}

_CLASS_READERS: Final[dict[str, Callable[[str, Any], Any]]] = {"$enum": _read_enum, "$class": _read_object}


def neutral(node: Any) -> Any:
    """Return parsed JSON without its tags: what the typed form of the same value would roughly be.

    Two payloads with one neutral form differ by nothing a workflow asked for; a hint was added, a class has moved.
    """
    node = peel(node)
    if type(node) is list:
        return [neutral(item) for item in node]
    if type(node) is dict:
        return {key: neutral(item) for key, item in node.items()}
    return node


def peel(node: Any) -> Any:
    """Return parsed JSON without the tag of the value itself; those of its parts stay, unless they are keys."""
    if type(node) is not dict or len(node) != 1:
        return node
    [(tag, content)] = node.items()
    match tag, content:
        case "$class", [_, inner]:
            return inner
        case "$enum", [_, inner]:
            return peel(inner)
        case "$dict", [*pairs]:
            return {_neutral_key(key): value for key, value in pairs}
        case "$int", str():
            return int(content, 16)
        case "$datetime" | "$time", [text, _]:
            return text
        case "$value", _:
            return peel(content)
    return content if tag in _READERS or tag in _CONTAINER_READERS else node


def _neutral_key(key: Any) -> str:
    plain = neutral(key)
    return plain if isinstance(plain, str) else encode_json(plain).decode()
