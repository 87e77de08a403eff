"""Here live the rules about state that outlives a run: what is global may be neither changed nor trusted to stay.

``nonlocal`` and the objects a workflow makes itself are fine: they live and die with the replay.
"""

import ast
import asyncio
import collections
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

from continuum.determinism.notes import Notes
from continuum.determinism.scopes import FUNCTIONS, Scope, own_nodes
from continuum.determinism.sources import Module, children, find_module
from continuum.determinism.values import Known, Value, is_declaration, origin_of

__all__ = ["check_call", "check_read", "check_store"]

_CONTAINERS: Final = frozenset(
    {
        list,
        dict,
        set,
        bytearray,
        collections.deque,
        collections.defaultdict,
        collections.Counter,
        collections.OrderedDict,
    }
)
_HARMLESS: Final = frozenset({*vars(str), *vars(frozenset), *vars(tuple), *vars(bytes)}) | {
    "keys",
    "values",
    "items",
    "get",
    "most_common",
    "elements",
    "total",
    "fromkeys",
    "maxlen",
    "default_factory",
}
_CHANGERS: Final = frozenset(
    name
    for cls in _CONTAINERS
    for name in vars(cls)
    if name in {"__setitem__", "__delitem__"} or (not name.startswith("_") and name not in _HARMLESS)
)
_MEETING_POINTS: Final = (asyncio.Lock, asyncio.Event, asyncio.Condition, asyncio.Semaphore, asyncio.Queue)
_ARMS: Final = (setattr, delattr, next)
_IMMUTABLE: Final = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset)


def check_store(notes: Notes, target: ast.expr, scope: Scope) -> None:
    """Judge a place that is assigned to, or deleted."""
    match target:
        case ast.Name(id=name):
            if name in scope.globals:
                _report(notes, target, f"global {name} is assigned")
        case ast.Attribute(value=inner, attr=attr):
            value = notes.resolver.resolve(inner, scope)
            if isinstance(value, Known) and not isinstance(value.obj, _IMMUTABLE):
                _report(notes, target, f"{_shown(inner)}.{attr} is assigned", inner, scope)
        case ast.Subscript(value=inner):
            value = notes.resolver.resolve(inner, scope)
            if isinstance(value, Known) and not isinstance(value.obj, _IMMUTABLE):
                _report(notes, target, f"{_shown(inner)} is changed", inner, scope, certain=value.certain)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                check_store(notes, part, scope)
        case ast.Starred(value=inner):
            check_store(notes, inner, scope)


def check_call(notes: Notes, node: ast.Call, scope: Scope) -> None:
    """Judge a call that may change what it is called on."""
    function = node.func
    if isinstance(function, ast.Attribute):
        value = notes.resolver.resolve(function.value, scope)
        if not isinstance(value, Known):
            return
        obj, shown = value.obj, f"{_shown(function.value)}.{function.attr}()"
        if type(obj) in _CONTAINERS and function.attr in _CHANGERS:
            _report(notes, node, f"{shown} changes it", function.value, scope, certain=value.certain)
        elif isinstance(obj, _MEETING_POINTS):
            _report(notes, node, f"{shown} meets other runs", function.value, scope)
        elif _is_generator_of_chance(obj):
            _report(notes, node, f"{shown} draws from a generator that other runs draw from", function.value, scope)
    elif isinstance(function, ast.Name) and function.id in {"setattr", "delattr", "next"} and node.args:
        value = notes.resolver.resolve(node.args[0], scope)
        called = notes.resolver.resolve(function, scope)
        if isinstance(value, Known) and isinstance(called, Known) and any(called.obj is one for one in _ARMS):
            _report(notes, node, f"{function.id}({_shown(node.args[0])}) changes it", node.args[0], scope)


def check_read(notes: Notes, node: ast.expr, value: Value | None, scope: Scope) -> None:
    """Judge the reading of a global that functions of its module change."""
    if not isinstance(value, Known) or id(node) in notes.settled or is_declaration(value.obj):
        return
    if isinstance(value.obj, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)):
        return
    if isinstance(node, ast.Name):
        if notes.resolver.owner(node.id, scope) is not None or node.id in notes.resolver.cells:
            return
        name, module = node.id, notes.module
        if name not in notes.resolver.function.__globals__:
            return
    elif isinstance(node, ast.Attribute):
        holder = notes.resolver.resolve(node.value, scope)
        if not isinstance(holder, Known) or not isinstance(holder.obj, types.ModuleType):
            return
        file = getattr(holder.obj, "__file__", None) or ""
        if type(value.obj) not in _CONTAINERS or origin_of(file or "<none>") != "user":
            return
        found = find_module(file)
        if found is None:
            return
        name, module = node.attr, found
    else:
        return
    if _is_changed(name, module):
        notes.add("CT202", node, f"{_shown(node)} is read, which functions of its module change.", certain=False)


def _report(
    notes: Notes,
    node: ast.AST,
    what: str,
    inner: ast.expr | None = None,
    scope: Scope | None = None,
    *,
    certain: bool = True,
) -> None:
    if inner is not None and scope is not None:
        notes.settled.add(id(inner))
        root = inner
        while isinstance(root, (ast.Attribute, ast.Subscript)):
            root = root.value
        # What the function was defined in may well be meant to see it: a test that listens, a factory.
        certain = certain and not (isinstance(root, ast.Name) and root.id in notes.resolver.cells)
    notes.add("CT201", node, f"{what}: other runs see it, and a replay does it again.", certain=certain)


def _is_generator_of_chance(obj: Any) -> bool:
    home = sys.modules.get("random")
    return home is not None and type(obj) is getattr(home, "Random", None)


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - what fits in a line


def _is_changed(name: str, module: Module) -> bool:
    """Whether functions of a module change this global of it once it has been imported."""
    if module.suspects is None:
        module.suspects = frozenset(name for node in _nodes(module.tree) for name in _touched(node))
    if name not in module.suspects:
        return False  # most modules have nobody to look at more closely
    if module.changed is None:
        module.changed = frozenset(_changes(module.tree))
    return name in module.changed


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += children(node)


def _changes(tree: ast.Module) -> Iterator[str]:
    at_import = set(_called_at_import(tree))
    stack: list[tuple[ast.AST, Scope | None]] = [(node, None) for node in tree.body]
    while stack:
        node, around = stack.pop()
        if isinstance(node, FUNCTIONS):
            if getattr(node, "name", "") in at_import or _is_decorator(node):
                continue
            around = Scope(node, around)
        if around is not None:
            yield from (name for name in _touched(node) if _is_free(name, around) and _is_bound(name, node, around))
        stack += [(child, around) for child in children(node)]


def _touched(node: ast.AST) -> list[str]:
    """Return the names of what a node changes, wherever they are at home."""
    match node:
        case ast.Global(names=names):
            return names
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if attr in _CHANGERS:
            return [name]
        case _:
            return []


def _is_bound(name: str, node: ast.AST, scope: Scope) -> bool:
    """Whether what is declared as global is bound there, too, and not merely read."""
    return not isinstance(node, ast.Global) or name in scope.bindings


def _is_free(name: str, scope: Scope | None) -> bool:
    while scope is not None:
        if name in scope.globals:
            return True
        if scope.declares(name):
            return False
        scope = scope.parent
    return True


def _called_at_import(tree: ast.Module) -> Iterator[str]:
    for node in (*tree.body, *own_nodes(tree)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        for mark in getattr(node, "decorator_list", ()):
            target = mark.func if isinstance(mark, ast.Call) else mark
            if isinstance(target, ast.Name):
                yield target.id


def _is_decorator(node: ast.AST) -> bool:
    """Whether the function looks like one: it returns its argument, or a function it defines."""
    if not isinstance(node, ast.FunctionDef):
        return False
    given = {argument.arg for argument in node.args.args}
    given |= {child.name for child in node.body if isinstance(child, (ast.FunctionDef, ast.ClassDef))}
    return any(
        isinstance(child, ast.Return) and isinstance(child.value, ast.Name) and child.value.id in given
        for child in own_nodes(node)
    )
