"""Here lives the self-describing form of values: plain JSON where JSON suffices, tags where it does not.

A tag is an object with one key that begins with ``$``::

    {"$decimal": "1.50"}    {"$tuple": [1, 2]}    {"$dict": [[1, "a"]]}    {"$class": ["shop:Order", {"id":
    7}]}

Inside a tag stands what msgspec writes for that type when a hint names it, so the tagged and the typed form
of a value differ by their tags only (`readers.neutral` takes them off). A dict that could be mistaken for a
tag, because its first key begins with ``$``, is written as ``$dict``. So the text ``{"$`` occurs in a payload
if and only if the payload holds a tag (inside a JSON string the quote would be escaped), and one substring
search replaces a walk.

Kept exactly: the type of every value, the order of dicts, instant and offset of datetimes. Not kept: the name
of a time zone (its offset is), sharing (one list referred to twice comes back as two lists), attributes that
are no fields.

# Invariant: a value has one text, in every process: sets are sorted by their encoded elements, nothing else
# is moved.
# Invariant: reading imports nothing. Classes are looked up in the modules that are already loaded, without
# running their code, and must be plain carriers of data (dataclass, Struct, Enum, NamedTuple, pydantic
# model).
"""

import dataclasses
import io
import math
import sys
import types
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache, partial
from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec

from continuum.errors import CodecError

__all__ = [
    "MAX_DEPTH",
    "NAMES",
    "TAG",
    "Shape",
    "encode_json",
    "encode_tagged",
    "field_names",
    "find_class",
    "is_plain",
    "shape_of",
]

TAG: Final = '{"$'

# Nesting the journal accepts (protocol, limits of a commit). A tuple counts twice and an object three times,
# because their tags are nested objects themselves.
MAX_DEPTH: Final = 200

# Python refuses to print or parse longer integers where sys.set_int_max_str_digits() is at its minimum of
# 640.
_LONGEST_INT: Final = 10**600

encode_json: Final = msgspec.json.Encoder().encode


class Shape(StrEnum):
    """The kinds of classes whose instances are data."""

    ENUM = "enum"
    DATACLASS = "dataclass"
    STRUCT = "struct"
    NAMED_TUPLE = "named tuple"
    MODEL = "pydantic model"


def _find_shape(cls: type) -> Shape | None:
    if issubclass(cls, Enum):
        return Shape.ENUM
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return Shape.NAMED_TUPLE
    if issubclass(cls, (str, bytes, bytearray, int, float, list, tuple, dict, set, frozenset)):
        return None  # the fields would be kept and the contents lost
    if issubclass(cls, msgspec.Struct):
        return Shape.STRUCT
    if dataclasses.is_dataclass(cls):
        return Shape.DATACLASS
    # By attributes, so that pydantic is neither needed nor imported.
    if all(hasattr(cls, name) for name in ("model_validate", "model_validate_json", "model_dump", "model_fields")):
        return Shape.MODEL
    return None


shape_of: Final[Callable[[type], Shape | None]] = lru_cache(maxsize=4096)(_find_shape)


def is_plain(value: Any, room: int = MAX_DEPTH) -> bool:
    """Say whether JSON holds the value as it is: no tag needed, nothing to refuse.

    Surrogates and leading ``$`` are not looked for; the encoder and a search for `TAG` find them faster.
    """
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif kind is not list:
        return (
            kind is str
            or kind is bool
            or value is None
            or (kind is int and -_LONGEST_INT < value < _LONGEST_INT)
            or (kind is float and math.isfinite(value))
        )
    if not room:
        return False  # too deep, or a cycle: `encode_tagged` says which
    for item in value:
        kind = type(item)
        if kind is str or kind is bool or item is None:
            continue
        if kind is int:
            if -_LONGEST_INT < item < _LONGEST_INT:
                continue
            return False
        if not is_plain(item, room - 1):
            return False
    return True


def encode_tagged(value: Any, where: str, *, portable: bool = True) -> bytes:
    """Return the self-describing JSON of a value, or refuse it.

    :param where: the name under which messages speak of the value, such as ``result``.
    :param portable: whether every class must be one that a reader can find again. False gives a text that is
        only good for comparing two values.
    :raises CodecError: with the path of the part that cannot be recorded.
    """
    try:
        return encode_json(_Tagger(where, portable=portable).node(value, MAX_DEPTH))
    except RecursionError:
        # Fewer levels than allowed, under a caller who is himself deep in his stack.
        raise CodecError(f"{where}: nested too deep for the stack that is left; flatten it", path=where) from None


class _Tagger:
    """One walk over one value; builds what the JSON encoder writes. Raises at the first thing it must refuse."""

    __slots__ = ("_above", "_portable", "_trail", "_where")

    def __init__(self, where: str, *, portable: bool) -> None:
        self._where = where
        self._portable = portable
        self._trail: list[str | int | tuple[Any]] = []  # attribute, index, (key of a dict,)
        self._above: set[int] = set()  # ids of the containers around the current value

    def node(self, value: Any, room: int) -> Any:
        """Return the value with its tags. ``room`` is how many levels of nesting are left."""
        kind = type(value)
        tagger = _TAGGERS.get(kind)
        if tagger is not None:
            return tagger(self, value)
        container = _CONTAINERS.get(kind)
        if container is None:
            shape = shape_of(kind)
            if shape is None:
                self._refuse(_advice(value))
            container = _Tagger._enum if shape is Shape.ENUM else _Tagger._instance
        if id(value) in self._above:
            self._refuse("the value contains itself; record ids instead of references to what is above")
        if room < 1:
            self._refuse(
                f"nested deeper than {MAX_DEPTH} levels (a tuple counts as 2, an object as 3); "
                "flatten it, or store it elsewhere and record a reference"
            )
        self._above.add(id(value))
        node = container(self, value, room)
        self._above.discard(id(value))
        return node

    def _refuse(self, reason: str) -> NoReturn:
        path = self._where
        for step in self._trail:
            match step:
                case int():
                    path += f"[{step}]"
                case str():
                    path += step
                case (str(key),):
                    path += f'["{key}"]'
                case (key,):
                    path += f"[{key!r}]"
        path = path.encode("ascii", "backslashreplace").decode()
        raise CodecError(f"{path}: {reason}", path=path)

    def write_text(self, value: str) -> str:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self._refuse(
                    "text with lone surrogates is not Unicode; decode the bytes with errors='replace', "
                    "or record the bytes themselves"
                )
        return value

    def write_int(self, value: int) -> Any:
        return value if -_LONGEST_INT < value < _LONGEST_INT else {"$int": hex(value)}

    def write_float(self, value: float) -> float:
        if not math.isfinite(value):
            self._refuse(f"{value} has no place in JSON; record None or a str instead")
        return value

    def write_moment(self, value: datetime | time) -> Any:
        if value.tzinfo is None:
            # Of two equal readings of a clock set back, fold=1 is the second; ISO 8601 cannot say so.
            return {NAMES[type(value)]: [value.isoformat(), 1] if value.fold else value}
        offset = value.utcoffset()
        if offset is None:
            self._refuse("a time whose offset depends on the date cannot be recorded; record a datetime")
        if offset % timedelta(minutes=1):
            return {NAMES[type(value)]: [value.isoformat(), 0]}  # msgspec would cut the seconds of the offset
        return {NAMES[type(value)]: value}

    # Loops, not comprehensions and helpers: on Python 3.11 each is a frame per level, and 1,000 frames are the limit.

    def write_dict(self, value: dict[Any, Any], room: int) -> Any:
        if not all(type(key) is str for key in value) or next(iter(value), "").startswith("$"):
            return self._pairs(value, room)
        node = {}
        for key, item in value.items():
            self._trail.append((key,))
            node[self.write_text(key)] = self.node(item, room - 1)
            self._trail.pop()
        return node

    def _pairs(self, value: dict[Any, Any], room: int) -> Any:
        pairs = []
        for index, (key, item) in enumerate(value.items()):
            self._trail += (".keys()", index)
            label = self.node(key, room - 3)
            self._trail[-2:] = [(key,)]
            pairs.append([label, self.node(item, room - 3)])
            self._trail.pop()
        return {"$dict": pairs}

    def write_list(self, value: list[Any], room: int) -> list[Any]:
        nodes = []
        for index, item in enumerate(value):
            self._trail.append(index)
            nodes.append(self.node(item, room - 1))
            self._trail.pop()
        return nodes

    def write_tuple(self, value: tuple[Any, ...], room: int) -> Any:
        nodes = []
        for index, item in enumerate(value):
            self._trail.append(index)
            nodes.append(self.node(item, room - 2))
            self._trail.pop()
        return {"$tuple": nodes}

    def write_set(self, value: set[Any] | frozenset[Any], room: int) -> Any:
        self._trail.append("{}")
        texts = []
        for item in value:
            texts.append(encode_json(self.node(item, room - 2)))  # noqa: PERF401 - see above
        self._trail.pop()
        return {NAMES[type(value)]: [msgspec.Raw(text) for text in sorted(texts)]}

    def _enum(self, value: Enum, room: int) -> Any:
        name = self._class_name(type(value))
        self._trail.append(".value")
        node = self.node(value.value, room - 2)
        self._trail.pop()
        return {"$enum": [name, node]}

    def _instance(self, value: Any, room: int) -> Any:
        name = self._class_name(type(value))
        fields = {}
        for field, item in self._fields(value):
            self._trail.append(f".{field}")
            fields[field] = self.node(item, room - 3)
            self._trail.pop()
        return {"$class": [name, fields]}

    def _fields(self, value: Any) -> Iterable[tuple[str, Any]]:
        extra = getattr(value, "model_extra", None) if shape_of(type(value)) is Shape.MODEL else None
        for name in (*field_names(type(value)), *(extra or ())):
            try:
                item = getattr(value, name)
            except AttributeError:
                self._refuse(f"{_title(value)} has no value for its field {name!r}; set it first")
            if item is not msgspec.UNSET:
                yield name, item

    def _class_name(self, cls: type) -> str:
        name = f"{cls.__module__}:{cls.__qualname__}"
        if self._portable and find_class(name) is not cls:
            self._refuse(
                f"the class {cls.__qualname__} cannot be found again in module {cls.__module__}; "
                "define it at the top of a module, under its own name, or hint the parameter with it"
            )
        return name


def field_names(cls: Any) -> tuple[str, ...]:
    """Return the names of a class's declared fields, in their order, for every shape but enums."""
    names: tuple[str, ...]
    match shape_of(cls):
        case Shape.DATACLASS:
            names = tuple(field.name for field in dataclasses.fields(cls))
        case Shape.STRUCT:
            names = cls.__struct_fields__
        case Shape.NAMED_TUPLE:
            names = cls._fields
        case _:
            names = tuple(cls.model_fields)
    return names


def find_class(name: str) -> type | None:
    """Return the loaded class ``module:Qualified.Name``, never importing and never running a module's code."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        # Through __dict__: getattr would call a module's __getattr__, which may import.
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) else None


def _native(name: str) -> Callable[[_Tagger, Any], Any]:
    return lambda _tagger, value: {name: value}


NAMES: Final[dict[type, str]] = {
    datetime: "$datetime",
    date: "$date",
    time: "$time",
    timedelta: "$timedelta",
    Decimal: "$decimal",
    UUID: "$uuid",
    bytes: "$bytes",
    bytearray: "$bytearray",
    set: "$set",
    frozenset: "$frozenset",
}

_TAGGERS: Final[dict[type, Callable[[_Tagger, Any], Any]]] = {
    types.NoneType: lambda _tagger, value: value,
    bool: lambda _tagger, value: value,
    int: _Tagger.write_int,
    float: _Tagger.write_float,
    str: _Tagger.write_text,
    datetime: _Tagger.write_moment,
    time: _Tagger.write_moment,
    **{kind: _native(NAMES[kind]) for kind in (date, timedelta, Decimal, UUID, bytes, bytearray)},
}

_CONTAINERS: Final[dict[type, Callable[[_Tagger, Any, int], Any]]] = {
    dict: _Tagger.write_dict,
    list: _Tagger.write_list,
    tuple: _Tagger.write_tuple,
    set: _Tagger.write_set,
    frozenset: _Tagger.write_set,
}


def _title(value: Any) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


_CODE: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, partial)
_RUNNING: Final = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


def _advice(value: Any) -> str:
    """Return why a value is refused and what to do instead."""
    if isinstance(value, _CODE):
        return f"a {_title(value)} is code, not data; record a name and look the callable up by it"
    if isinstance(value, _RUNNING):
        return f"a {_title(value)} is code at work, not data; await or collect it, and record the outcome"
    if isinstance(value, type | types.ModuleType):
        kind = "class" if isinstance(value, type) else "module"
        return f"the {kind} {value.__name__} is code, not data; record its name"
    if isinstance(value, io.IOBase):
        return f"an open file ({_title(value)}) belongs to this process; record its path or its contents"
    for base in (*_CONTAINERS, *_TAGGERS):
        if isinstance(value, base):
            return (
                f"{_title(value)} is a subclass of {base.__name__} and would come back as another type; "
                f"pass a plain {base.__name__}"
            )
    return (
        f"a {_title(value)} cannot be recorded; pass plain data instead (a dict, a dataclass, a msgspec.Struct, "
        "a pydantic model), or an id from which to make it again"
    )
