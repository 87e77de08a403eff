"""Here lives what the scanner knows of a value before any code runs: the real object, or its class, or its name.

Objects are looked at, never asked: no attribute hook, descriptor or ``__eq__`` of a user's class runs here.
"""

import functools
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = [
    "Effect",
    "Getter",
    "Instance",
    "Known",
    "Local",
    "Missing",
    "Value",
    "find_attribute",
    "is_declaration",
    "member",
    "names_of",
    "origin_of",
    "seen",
]


class Known(msgspec.Struct, frozen=True, eq=False):
    """The object itself. ``path`` is the name it was reached by, ``receiver`` the class of what it is a method of."""

    obj: Any
    path: str | None = None
    receiver: type | None = None
    certain: bool = True


class Instance(msgspec.Struct, frozen=True, eq=False):
    """Some object of a class; ``after`` means as ``super()`` of that class sees it."""

    cls: Any
    certain: bool = True
    after: Any = None


class Getter(msgspec.Struct, frozen=True, eq=False):
    """What a property returns."""

    function: Any
    receiver: Any
    path: str
    certain: bool = True


class Local(msgspec.Struct, frozen=True, eq=False):
    """A function or class that is made by the function itself."""

    node: Any
    scope: Any
    certain: bool = True


class Missing(msgspec.Struct, frozen=True, eq=False):
    """Something of which only the name is known: a module not imported yet, an attribute made when asked for."""

    path: str
    certain: bool = True


class Effect(msgspec.Struct, frozen=True, eq=False):
    """The call of an activity or workflow."""

    declaration: Any
    compensated: bool = False
    certain: bool = True


Value = Known | Instance | Getter | Local | Missing | Effect

_BOUND: Final = (types.MethodType, types.BuiltinMethodType)
_UNBOUND: Final = (types.ClassMethodDescriptorType, types.MethodDescriptorType, types.WrapperDescriptorType)
_CALLABLES: Final = (types.FunctionType, *_BOUND, *_UNBOUND)
_SLOTS: Final = (types.MemberDescriptorType,)
_HONEST: Final = frozenset(
    {*_CALLABLES, type, types.ModuleType, types.NoneType, int, str, bytes, float, bool, tuple, list, dict, set, super}
)
_dict_of: Final = type.__dict__["__dict__"].__get__


def is_declaration(obj: object) -> bool:
    """Whether it is an activity or a workflow."""
    return getattr(type(obj), "is_declaration", False) is True


def seen(obj: Any, path: str | None = None) -> Known | Instance:
    """Return what is known of an object that a name stands for.

    Proxies say that they are of another class, and look for that first: of settings, of a request. They are not asked.
    """
    cls = type(obj)
    pretends = cls not in _HONEST and any(map(_pretends, cls.__mro__[:-1]))
    return Instance(cls) if pretends else Known(obj, path)


def _pretends(cls: type) -> bool:
    own = _dict_of(cls)
    return "__class__" in own or isinstance(own.get("__getattribute__"), types.FunctionType)


def find_attribute(cls: type, name: str, *, after: type | None = None) -> tuple[type, Any] | None:
    """Return the class that defines an attribute, and what it says there."""
    mro = cls.__mro__
    if after in mro:
        mro = mro[mro.index(after) + 1 :]
    for base in mro:
        found = _dict_of(base)
        if name in found:
            return base, found[name]
    return None


def member(value: Value, name: str) -> Value | None:
    """Return an attribute of a value; None if nothing can be said about it."""
    match value:
        case Known(obj=types.ModuleType() as module):
            return _of_module(module, name)
        case Known(obj=type() as cls):
            found = find_attribute(cls, name)
            if found is None:
                meta = find_attribute(type(cls), name)
                return None if meta is None else _bind(meta, name, type(cls), certain=value.certain)
            return _of_class(found, name, cls)
        case Known(obj=obj):
            own = _own(obj)
            if name in own:
                return seen(own[name])
            return _of_instance(type(obj), name, obj=obj, certain=value.certain)
        case Instance(cls=cls, certain=certain, after=after):
            return _of_instance(cls, name, certain=certain, after=after)
        case Missing(path=path):
            return Missing(f"{path}.{name}", value.certain)
        case _:
            return None


def _own(obj: object) -> dict[str, Any]:
    try:
        found = object.__getattribute__(obj, "__dict__")
    except Exception:  # noqa: BLE001 - an object may forbid anything
        return {}
    return found if type(found) is dict else {}


def _of_module(module: types.ModuleType, name: str) -> Value:
    own = vars(module)
    path = f"{own.get('__name__')}.{name}"
    if name in own:
        found = seen(own[name], path)
        # What packages have of that kind is known by its name.
        unknown = isinstance(found, Instance) and origin_of(own.get("__file__") or "<none>") != "user"
        return Missing(path) if unknown else found
    below = sys.modules.get(path)
    return Missing(path) if below is None else Known(below)


def _of_class(found: tuple[type, Any], name: str, cls: type) -> Value | None:
    owner, raw = found
    path = f"{_path(owner)}.{name}"
    if isinstance(held := seen(raw), Instance):
        return held
    if isinstance(raw, (classmethod, staticmethod)):
        return Known(raw.__func__, path, cls if isinstance(raw, classmethod) else None)
    if isinstance(raw, (types.FunctionType, *_UNBOUND)) or not hasattr(type(raw), "__get__"):
        return Known(raw, path)
    return Instance(type(raw))  # a descriptor: what it answers is its own business, but often much like itself


def _of_instance(
    cls: type, name: str, *, obj: Any = None, certain: bool = True, after: type | None = None
) -> Value | None:
    found = find_attribute(cls, name, after=after)
    if found is None:
        hint = next((_annotations(base)[name] for base in cls.__mro__ if name in _annotations(base)), None)
        if isinstance(hint, type):
            return Instance(hint, certain=False)
        return Missing(f"{_path(cls)}.{name}", certain)
    raw = found[1]
    if isinstance(held := seen(raw), Instance):
        return held
    if obj is not None and isinstance(raw, _SLOTS):
        try:
            return seen(raw.__get__(obj))
        except AttributeError:
            return None
    return _bind(found, name, cls, certain=certain)


def _annotations(cls: type) -> dict[str, Any]:
    found = _dict_of(cls).get("__annotations__")
    return found if isinstance(found, dict) else {}


def _bind(found: tuple[type, Any], name: str, cls: type, *, certain: bool) -> Value | None:
    owner, raw = found
    path = f"{_path(owner)}.{name}"
    if isinstance(raw, property):
        return Getter(raw.fget, cls, path, certain)
    if isinstance(raw, functools.cached_property):
        return Getter(raw.func, cls, path, certain)
    if isinstance(raw, (classmethod, staticmethod)):
        return Known(raw.__func__, path, cls if isinstance(raw, classmethod) else None, certain)
    if isinstance(raw, (types.FunctionType, *_UNBOUND)):
        return Known(raw, path, cls, certain)
    if isinstance(raw, types.GetSetDescriptorType):
        return Missing(path, certain)
    # Else an ordinary value of the class, which the object may have replaced by its own.
    return Known(raw, path, cls, certain) if is_declaration(raw) or hasattr(raw, "__wrapped__") else None


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# ------------------------------------------------------------------ names


def names_of(value: Value) -> list[str]:
    """Return the names under which a value may be forbidden: how it was reached, and where it is at home."""
    match value:
        case Missing(path=path) | Getter(path=path):
            found = [path]
        case Known(obj=obj, path=path):
            found = [*([path] if path else []), *_home(obj), *(name for name, it in _singletons() if it is obj)]
        case Instance(cls=cls):
            found = [_path(cls)]
        case _:
            return []
    return list(dict.fromkeys(found))


def _singletons() -> Iterator[tuple[str, Any]]:
    """Yield the objects of the process that have no name of their own."""
    yield "os.environ", os.environ
    for name in ("argv", "path", "modules", "stdin", "stdout", "stderr"):
        yield f"sys.{name}", getattr(sys, name, None)


def _untapped(obj: Any) -> Any:
    """Return what was there before the tripwire put its wrapper in place; see `wiretaps`."""
    function = obj.__func__ if isinstance(obj, types.MethodType) else obj
    tapped = isinstance(function, types.FunctionType) and "__continuum_tap__" in vars(function)
    return vars(function)["__wrapped__"] if tapped else obj


def _home(obj: Any) -> Iterator[str]:
    obj = _untapped(obj)
    if isinstance(obj, types.ModuleType):
        yield str(vars(obj).get("__name__"))
    elif isinstance(obj, type):
        yield _path(obj)
    elif isinstance(obj, types.FunctionType):
        # Not __module__ and __qualname__: functools.wraps copies them.
        yield f"{obj.__globals__.get('__name__')}.{obj.__code__.co_qualname}"
    elif isinstance(obj, _BOUND):
        yield from _home_of_bound(obj, obj.__self__)
    elif isinstance(obj, _UNBOUND):
        yield f"{_path(obj.__objclass__)}.{obj.__name__}"


def _home_of_bound(obj: Any, receiver: Any) -> Iterator[str]:
    name = obj.__name__
    if receiver is None or isinstance(receiver, types.ModuleType):
        yield f"{obj.__module__}.{obj.__qualname__}"
        return
    cls = receiver if isinstance(receiver, type) else type(receiver)
    found = find_attribute(cls, name)
    owner = cls if found is None else found[0]
    # random.choice is a method of a hidden object, and everybody knows it as a function of its module.
    if _untapped(getattr(sys.modules.get(owner.__module__), name, None)) == obj:
        yield f"{owner.__module__}.{name}"
    yield f"{_path(owner)}.{name}"


# ------------------------------------------------------------------ whose code

_OURS: Final = f"{Path(__file__).absolute().parent.parent}{os.sep}"
_STDLIB: Final = f"{Path(os.__file__).absolute().parent}{os.sep}"


@functools.lru_cache(maxsize=4096)
def origin_of(filename: str) -> str:
    """Return whose code a file is: ``user``, ``third`` (installed), ``stdlib``, ``ours``, ``none`` (no file)."""
    if filename.startswith("<frozen"):
        return "stdlib"
    if filename.startswith("<"):
        return "none"
    path = str(Path(filename).absolute())
    if path.startswith(_OURS):  # before the rest: we are installed, too
        return "ours"
    if f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path:
        return "third"
    return "stdlib" if path.startswith(_STDLIB) else "user"
