"""Here lives what the objects of a user's class hold, as far as that can be read in the class and its methods.

An object may be given anything later on, so what is found here is likely, and never certain.
"""

import ast
import types
from collections.abc import Iterator
from typing import Any, Final

from continuum.determinism.scopes import FunctionNode, own_nodes
from continuum.determinism.sources import module_of, read_lines
from continuum.determinism.values import Effect, Instance, Known, Value, find_attribute, is_declaration, seen

__all__ = ["assigned", "likely", "of_class"]

_CALLED: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type)


def assigned(cls: type, name: str) -> Iterator[tuple[types.FunctionType, FunctionNode, ast.expr | None]]:
    """Yield what the methods of a class assign to ``self.name``: method, its node, value (None: part of another)."""
    for base in cls.__mro__:
        for method in list(vars(base).values()):
            if isinstance(method, types.FunctionType) and name in method.__code__.co_names:
                yield from _assigned_in(method, name)


def _assigned_in(
    method: types.FunctionType, name: str
) -> Iterator[tuple[types.FunctionType, FunctionNode, ast.expr | None]]:
    code, lines = method.__code__, read_lines(method)
    node = module_of(code.co_filename, lines).find(code, code.co_qualname) if lines else None
    if node is None:
        return
    for child in own_nodes(node):
        match child:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if _is_held(target, name, method):
                        yield method, node, value
                    elif any(_is_held(part, name, method) for part in ast.walk(target)):
                        yield method, node, None
            case ast.AnnAssign(target=target, value=ast.expr() as value) if _is_held(target, name, method):
                yield method, node, value


def _is_held(node: ast.AST, name: str, method: types.FunctionType) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id=holder), attr=attr, ctx=ast.Store()):
            return attr == name and holder == next(iter(method.__code__.co_varnames), None)
        case _:
            return False


def of_class(cls: type, name: str) -> Value | None:
    """Return what stands in the class itself, for all its objects; None if it is not a plain value."""
    found = find_attribute(cls, name)
    if found is None:
        return None
    raw = found[1]
    if raw is None or hasattr(type(raw), "__get__") or isinstance(seen(raw), Instance):
        return None
    return Known(raw, certain=False)


def likely(value: Value) -> Value | None:
    """Return what an attribute is that is given this value: what can be called, or else some object of the class."""
    match value:
        case Known(obj=obj) if isinstance(obj, _CALLED) or is_declaration(obj):
            return Known(obj, value.path, value.receiver, certain=False)
        case Known(obj=obj):
            kind: Any = type(obj)
            return Instance(kind, certain=False)
        case Instance(cls=cls):
            return Instance(cls, certain=False)
        case Effect():
            return value
        case _:
            return None
