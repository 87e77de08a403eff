"""Here lives what a type hint promises about JSON: which values may be written without tags.

A hint is *exact* when a cheap look at a value proves that JSON written without tags comes back as the same value of
the same types (`check_for` returns the look). It is *verified* when no such proof is known, but the hint still names
a type: then the codec writes the natural form, reads it back and compares. It is *open* when it says nothing, as
``Any``, ``object`` and bare ``dict`` do: then values carry tags.

# Invariant: a check errs towards False. False costs time; a wrong True would change a value between live and replay.
"""

import math
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from operator import attrgetter
from typing import Any, Final, Union
from uuid import UUID

import msgspec

from continuum.model.readers import model_input
from continuum.model.tags import Shape, encode_json, field_names, shape_of

__all__ = ["Check", "OpenHint", "check_for", "natural", "revive", "spread"]

Check = Callable[[Any], bool]

# What `_look` finds: a set means "exactly one of these types", a function is a test, None means "to be verified".
_Kinds = frozenset[type]
_Look = _Kinds | Check | None
_Busy = frozenset[Any]


class OpenHint(Exception):
    """The hint names no type that values could be read back into."""


def check_for(hint: Any) -> Check | None:
    """Return a test for values that may be written without tags, or None if each value must be verified.

    :raises OpenHint: if the hint promises nothing.
    """
    look = _look(hint, frozenset())
    return None if look is None else _test(look)


def _test(look: _Kinds | Check) -> Check:
    if not isinstance(look, frozenset):
        return look
    if len(look) > 1:
        return lambda value: type(value) in look
    [only] = look
    return lambda value: type(value) is only


def _is_float(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_moment(kind: type[datetime] | type[time]) -> Check:
    def test(value: Any) -> bool:
        if type(value) is not kind:
            return False
        if value.tzinfo is None:
            return not value.fold
        offset = value.utcoffset()
        return offset is not None and not offset % timedelta(minutes=1)

    return test


_SIMPLE: Final = frozenset({types.NoneType, bool, int, str, bytes, bytearray, Decimal, UUID, date, timedelta})
_TESTED: Final[dict[Any, Check]] = {float: _is_float, datetime: _is_moment(datetime), time: _is_moment(time)}

_NONE: Final = frozenset({types.NoneType})
_JSON_ATOMS: Final = frozenset({types.NoneType, bool, int, str})

# Combinations of field types kept per class. With many optional fields there could be millions; few are usual.
_REMEMBERED: Final = 256

# The abstract types, too, since msgspec reads them back as the concrete one.
_LISTS: Final = frozenset({list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable})
_DICTS: Final = frozenset({dict, abc.Mapping, abc.MutableMapping})
_SETS: Final = frozenset({set, frozenset, abc.Set, abc.MutableSet})


def _look(hint: Any, busy: _Busy) -> _Look:
    if hint is None:
        return _NONE
    origin = typing.get_origin(hint)
    if origin is not None:
        return _look_inside(origin, typing.get_args(hint), busy)
    if isinstance(hint, type):
        if hint in _SIMPLE:
            return frozenset({hint})
        return _TESTED[hint] if hint in _TESTED else _look_at_class(hint, busy)
    if isinstance(hint, typing.NewType):
        return _look(hint.__supertype__, busy)
    if type(hint).__name__ == "TypeAliasType":  # ``type X = ...``; the class is new in Python 3.12
        return None if hint in busy else _look(hint.__value__, busy | {hint})
    raise OpenHint


def _look_inside(origin: Any, args: tuple[Any, ...], busy: _Busy) -> _Look:
    if origin is typing.Annotated:
        look = _look(args[0], busy)
        return None if any(isinstance(extra, msgspec.Meta) for extra in args[1:]) else look
    if origin is typing.Literal:
        return _literal(args)
    if origin is tuple:
        return _tuple(args, busy)
    looks = [_look(arg, busy) for arg in args]
    if origin is Union or origin is types.UnionType:
        return _union(looks)
    if origin in _LISTS:
        return _items(list, looks[0])
    if origin in _DICTS:
        return _mapping(looks[0], looks[1])
    if origin in _SETS or shape_of(origin) is not None:
        return None
    raise OpenHint


def _literal(args: tuple[Any, ...]) -> Check:
    allowed = {(type(arg), arg) for arg in args}
    return lambda value: type(value) in _JSON_ATOMS and (type(value), value) in allowed


def _union(looks: list[_Look]) -> _Look:
    if None in looks:
        return None
    some = [look for look in looks if look is not None and look != _NONE]
    if len(some) == 1:
        [look] = some
        if isinstance(look, frozenset):
            return look | _NONE
        return lambda value: value is None or look(value)
    # Which member JSON is read back into depends on the others, except for the atoms of JSON itself.
    kinds = frozenset[type]().union(*(look for look in some if isinstance(look, frozenset)))
    if not kinds <= _JSON_ATOMS or not all(isinstance(look, frozenset) for look in some):
        return None
    return kinds | _NONE if _NONE in looks else kinds


def _items(kind: Any, look: _Look) -> _Look:
    if look is None:
        return None
    if isinstance(look, frozenset):
        return lambda value: type(value) is kind and look.issuperset(map(type, value))
    return lambda value: type(value) is kind and all(map(look, value))


def _tuple(args: tuple[Any, ...], busy: _Busy) -> _Look:
    if len(args) == 2 and args[1] is Ellipsis:  # noqa: PLR2004 - tuple[X, ...]
        return _items(tuple, _look(args[0], busy))
    found = [_look(arg, busy) for arg in args]
    if None in found:
        return None
    tests = [_test(look) for look in found if look is not None]

    def test(value: Any) -> bool:
        return (
            type(value) is tuple
            and len(value) == len(tests)
            and all(test(item) for test, item in zip(tests, value, strict=True))
        )

    return test


def _mapping(keys: _Look, look: _Look) -> _Look:
    # Other keys become text in JSON, and not every one comes back from it.
    if look is None or keys not in (frozenset({str}), frozenset({int})):
        return None
    allowed: _Kinds = keys
    if isinstance(look, frozenset):
        return lambda value: (
            type(value) is dict and allowed.issuperset(map(type, value)) and look.issuperset(map(type, value.values()))
        )
    return lambda value: type(value) is dict and allowed.issuperset(map(type, value)) and all(map(look, value.values()))


def _look_at_class(cls: Any, busy: _Busy) -> _Look:
    if cls in busy or typing.is_typeddict(cls):
        return None
    match shape_of(cls):
        case None:
            raise OpenHint
        case Shape.ENUM:
            # Only these kinds of members are read back by msgspec.
            kinds = {type(member.value) for member in cls}
            if issubclass(cls, Flag) or kinds not in ({str}, {int}):
                raise OpenHint
            return frozenset({cls})
        case Shape.DATACLASS | Shape.STRUCT:
            return _look_at_fields(cls, busy | {cls})
        case Shape.NAMED_TUPLE | Shape.MODEL:
            return None


def _look_at_fields(cls: Any, busy: _Busy) -> _Look:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise OpenHint from error  # a forward reference to a name that does not exist (yet)
    names = field_names(cls)
    looks: list[_Look] = []
    for name in names:
        try:
            looks.append(_look(hints[name], busy))
        except OpenHint:
            looks.append(None)
    config = getattr(cls, "__struct_config__", None)
    # A default that is left out would be read back as whatever the default is by then.
    forgetful = config is not None and config.omit_defaults
    if None in looks or forgetful or hasattr(cls, "__post_init__") or issubclass(cls, BaseException):
        return None
    return _all_fields(cls, tuple(names), [look for look in looks if look is not None])


def _all_fields(cls: Any, names: tuple[str, ...], looks: list[_Kinds | Check]) -> _Look:
    if not names:
        return frozenset({cls})
    values = _field_reader(cls, names)
    kinds = [look for look in looks if isinstance(look, frozenset)]
    if len(kinds) == len(looks):
        return _typed_fields(cls, values, kinds)
    tests = [_test(look) for look in looks]

    def test(value: Any) -> bool:
        if type(value) is not cls:
            return False
        items = values(value)
        return items is not None and all(test(item) for test, item in zip(tests, items, strict=True))

    return test


def _field_reader(cls: Any, names: tuple[str, ...]) -> Callable[[Any], Iterable[Any] | None]:
    """Return what fetches all fields of an instance, or None if msgspec would not write them all, in their order.

    For a dataclass without slots it writes what stands in ``__dict__``, in that order. A field that was never set
    (msgspec itself leaves defaults to the class) would be missing, and two equal objects would have two texts.
    """
    if shape_of(cls) is Shape.DATACLASS and "__slots__" not in vars(cls):
        expected = [*names]

        def from_dict(value: Any) -> Iterable[Any] | None:
            attributes = value.__dict__
            return attributes.values() if [*attributes] == expected else None

        return from_dict
    # With one name alone attrgetter returns no tuple.
    fetch = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)

    def from_slots(value: Any) -> Iterable[Any] | None:
        try:
            items: tuple[Any, ...] = fetch(value)
        except AttributeError:
            return None
        return items

    return from_slots


def _typed_fields(cls: Any, values: Callable[[Any], Iterable[Any] | None], kinds: list[_Kinds]) -> Check:
    """Return a test that looks at the types of all fields in one go. It remembers the combinations it has seen."""
    good: set[tuple[type, ...]] = set()

    def test(value: Any) -> bool:
        if type(value) is not cls:
            return False
        items = values(value)
        if items is None:
            return False
        found = tuple(map(type, items))
        if found in good:
            return True
        if not all(kind in allowed for kind, allowed in zip(found, kinds, strict=True)):
            return False
        if len(good) < _REMEMBERED:
            good.add(found)
        return True

    return test


def natural(value: Any) -> Any:
    """Return the value with its objects as dicts and its sets as sorted lists, ready for the JSON encoder."""
    kind = type(value)
    if kind is list or kind is tuple:
        return [natural(item) for item in value]
    if kind is dict:
        return {key.value if isinstance(key, Enum) else key: natural(item) for key, item in value.items()}
    if kind is set or kind is frozenset:
        return [msgspec.Raw(text) for text in sorted(encode_json(natural(item)) for item in value)]
    match shape_of(kind):
        case None:
            return value
        case Shape.ENUM:
            return value.value
        case Shape.NAMED_TUPLE:
            return [natural(item) for item in value]
        case Shape.STRUCT:
            return spread(kind, _natural_fields(value, field_names(kind)))
        case Shape.DATACLASS:
            return _natural_fields(value, field_names(kind))
        case Shape.MODEL:
            return spread(kind, _natural_fields(value, (*field_names(kind), *(value.model_extra or ()))))


def _natural_fields(value: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: natural(getattr(value, name)) for name in names}


def spread(cls: Any, fields: dict[str, Any]) -> Any:
    """Return what stands in JSON for an object with these fields where its class is known: by its own names, in order.

    A value of a field may be anything; one that is missing, or unset, is left out.
    """
    match shape_of(cls):
        case Shape.NAMED_TUPLE:
            return [fields[name] for name in cls._fields if name in fields]
        case Shape.MODEL:
            return model_input(cls, fields)
        case Shape.STRUCT:
            config = cls.__struct_config__
            if config.array_like:
                items = [fields[name] for name in cls.__struct_fields__ if name in fields]
                return items if config.tag is None else [config.tag, *items]
            form = {} if config.tag is None else {config.tag_field: config.tag}
            for name, key in zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True):
                if fields.get(name, msgspec.UNSET) is not msgspec.UNSET:
                    form[key] = fields[name]
            return form
        case _:
            return fields


def revive(kind: type, raw: Any) -> Any:
    """Build what msgspec does not know (pydantic models) from parsed JSON; a ``dec_hook``."""
    if isinstance(raw, kind):
        return raw
    if shape_of(kind) is Shape.MODEL:
        model: Any = kind
        return model.model_validate_json(encode_json(raw))
    raise NotImplementedError
