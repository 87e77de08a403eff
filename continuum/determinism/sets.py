"""Here lives the rule about sets: their order is that of salted hashes, so no two processes agree on it.

Numbers are not salted, and tasks and calls hash by the order in which they were made: sets of those are walked in the
same order everywhere. What is known to hold texts or objects is an error, what may hold anything a warning.
"""

import ast
import asyncio
import builtins
import fractions
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from continuum.determinism.notes import Notes
from continuum.determinism.scopes import Scope, own_nodes
from continuum.determinism.values import Effect, Instance, Known

__all__ = ["check_call", "check_comprehension", "check_iteration", "check_unpacking", "is_one"]

_SETS: Final = (set, frozenset)
_NUMBERS: Final = (int, bool, float, complex, Decimal, fractions.Fraction, UUID)
_OPERATORS: Final = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_COMBINING: Final = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_ORDER_FREE: Final = (sorted, len, sum, min, max, any, all, set, frozenset)
_ORDERED: Final = (list, tuple, enumerate, iter, map, filter, zip, reversed)
_COUNTING: Final = (len, int, float, round, ord, abs)
_TASKS: Final = (asyncio.create_task, asyncio.ensure_future)

# What the elements are: the same order everywhere, a salted one, or who knows.
_SAME, _SALTED, _UNKNOWN = "same", "salted", "unknown"


def check_iteration(notes: Notes, node: ast.expr, scope: Scope) -> None:
    """Judge what is walked through."""
    kind = _kind(notes, node, scope)
    if kind not in {None, _SAME}:
        notes.add("CT305", node, _message(node, kind), certain=kind == _SALTED)


def check_unpacking(notes: Notes, node: ast.Assign, scope: Scope) -> None:
    """Judge ``first, *others = names``; to ask for the only element there is, is fine."""
    for target in node.targets:
        if isinstance(target, (ast.Tuple, ast.List)) and len(target.elts) > 1:
            check_iteration(notes, node.value, scope)


def check_comprehension(notes: Notes, node: Any, scope: Scope, inner: Scope) -> None:
    """Judge what a comprehension walks through, unless its own order is lost anyway."""
    if isinstance(node, ast.SetComp) or id(node) in notes.unordered:
        return
    for number, generator in enumerate(node.generators):
        check_iteration(notes, generator.iter, inner if number else scope)


def check_call(notes: Notes, node: ast.Call, scope: Scope) -> None:
    """Judge calls that walk through a set: ``list(s)``, ``s.pop()``, ``", ".join(s)``."""
    if isinstance(node.func, ast.Attribute):
        name = node.func.attr
        if name == "pop" and not node.args:
            check_iteration(notes, node.func.value, scope)
        elif name in {"join", "extend", "fromkeys"} and node.args:
            check_iteration(notes, node.args[0], scope)
        elif name in {"update", "union", "intersection", "difference"} and _kind(notes, node.func.value, scope):
            notes.unordered.update(id(argument) for argument in node.args)
        return
    value = notes.resolver.resolve(node.func, scope)
    if not isinstance(value, Known) or not isinstance(value.obj, (type, type(len))):
        return
    if is_one(value.obj, _ORDER_FREE):
        notes.unordered.update(id(argument) for argument in node.args)
    elif is_one(value.obj, _ORDERED):
        for argument in node.args:
            check_iteration(notes, argument, scope)


def is_one(obj: Any, group: Iterable[Any]) -> bool:
    """Whether the object is one of these."""
    # By identity: whatever the user's object is, its __eq__ and __hash__ are not asked.
    return any(obj is one for one in group)


def _message(node: ast.expr, kind: str | None) -> str:
    shown = ast.unparse(node)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."  # noqa: PLR2004 - what fits in a line
    may = "" if kind == _SALTED else ", unless it only holds numbers"
    return f"The set {shown} is walked through: the order of its elements differs between processes{may}."


def _kind(notes: Notes, node: ast.expr | None, scope: Scope, depth: int = 0) -> str | None:
    """Return how a set is ordered; None if it is no set, as far as one can see."""
    if node is None or depth > 8 or id(node) in notes.walking:  # noqa: PLR2004 - deep enough for people
        return None
    notes.walking.add(id(node))  # ``s = set(s)``
    try:
        return _kind_of(notes, node, scope, depth)
    finally:
        notes.walking.discard(id(node))


def _kind_of(notes: Notes, node: ast.expr, scope: Scope, depth: int) -> str | None:
    match node:
        case ast.Set(elts=elements):
            return _worst(_element(notes, element, scope) for element in elements)
        case ast.SetComp(elt=element):
            return _element(notes, element, notes.resolver.scope_of(node, scope))
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            first, second = (
                _kind(notes, side, scope, depth + 1) or _view(notes, side, scope) for side in (left, right)
            )
            if isinstance(op, (ast.Sub, ast.BitAnd)):
                return first if first is not None or not isinstance(op, ast.BitAnd) else second
            return None if first is None and second is None else _worst(k for k in (first, second) if k)
        case ast.IfExp(body=body, orelse=other):
            kinds = [_kind(notes, body, scope, depth + 1), _kind(notes, other, scope, depth + 1)]
            return _worst(kind for kind in kinds if kind) if all(kinds) else None
        case ast.Call(func=ast.Attribute(value=inner, attr=attr)) if attr in _COMBINING:
            return _kind(notes, inner, scope, depth + 1)
        case ast.Call(func=ast.Subscript(value=made, slice=element), args=[_]):  # set[int](numbers)
            return _of_class(notes, element, scope) if _is_set(notes, made, scope) else None
        case ast.Call(func=function, args=arguments):
            return _made(notes, function, arguments, scope)
        case ast.Name(id=name):
            return _named(notes, name, node, scope, depth)
        case ast.Attribute():
            return _of_object(notes.resolver.resolve(node, scope))
        case _:
            return None


def _view(notes: Notes, node: ast.expr, scope: Scope) -> str | None:
    """Return how what is made from a view of a dict is ordered: the view itself keeps the order of the dict."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="keys" | "items" as attr), args=[], keywords=[]):
            return _of_elements(notes, inner, scope) if attr == "keys" else _UNKNOWN
        case _:
            return None


def _of_object(value: Any) -> str | None:
    if isinstance(value, Known) and type(value.obj) in _SETS:
        return _worst(_of_value(element) for element in list(value.obj)[:1000])
    return None


def _of_value(value: Any) -> str:
    if type(value) in _NUMBERS:
        return _SAME
    if type(value) is tuple:
        return _worst(map(_of_value, value))
    return _SALTED


def _made(notes: Notes, function: ast.expr, arguments: list[ast.expr], scope: Scope) -> str | None:
    if not _is_set(notes, function, scope):
        return None
    match arguments:
        case []:
            return _SAME  # empty; what is added says more
        case [ast.List(elts=elements) | ast.Tuple(elts=elements)]:
            return _worst(_element(notes, element, scope) for element in elements)
        case [ast.GeneratorExp() | ast.ListComp() as comprehension]:
            return _element(notes, comprehension.elt, notes.resolver.scope_of(comprehension, scope))
        case [ast.Constant(value=str())]:
            return _SALTED
        case [ast.Call(func=inner)]:
            found = notes.resolver.resolve(inner, scope)
            return _SAME if isinstance(found, Known) and found.obj is range else _UNKNOWN
        case [one]:
            return _kind(notes, one, scope) or _of_elements(notes, one, scope)
        case _:
            return None


def _is_set(notes: Notes, node: ast.expr, scope: Scope) -> bool:
    value = notes.resolver.resolve(node, scope)
    return isinstance(value, Known) and is_one(value.obj, _SETS)


def _named(notes: Notes, name: str, node: ast.expr, scope: Scope, depth: int) -> str | None:
    owner = notes.resolver.owner(name, scope)
    if owner is None:
        return _of_object(notes.resolver.resolve(node, scope))
    kinds: list[str | None] = []
    for how, what in owner.bindings[name]:
        match how, what:
            case "value", ast.expr():
                kinds.append(_kind(notes, what, owner, depth + 1))
            case "augmented", ast.AugAssign(op=op, value=value) if isinstance(op, _OPERATORS):
                kinds.append(_kind(notes, value, owner, depth + 1) or _UNKNOWN)
            case "parameter", ast.arg(annotation=annotation) if annotation is not None:
                kinds.append(_hinted(notes, annotation, owner))
            case _:
                return None
    if not kinds or None in kinds:
        return None
    kinds += _added(notes, name, owner)
    kind = _worst(kind for kind in kinds if kind)
    # Whoever writes set[int] knows what is in it.
    said = _hinted(notes, owner.hints[name], owner) if kind == _UNKNOWN and name in owner.hints else None
    return said or kind


def _hinted(notes: Notes, annotation: ast.expr, scope: Scope) -> str | None:
    """Something that is said to be a set: likely, never certain."""
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    around = scope.parent or scope
    if not _is_set(notes, base, around):
        return None
    return _of_class(notes, annotation.slice, around) if isinstance(annotation, ast.Subscript) else _UNKNOWN


def _of_elements(notes: Notes, node: ast.expr, scope: Scope) -> str:
    """Return what the elements of something are by the annotation of its name: ``numbers: list[int]``."""
    if not isinstance(node, ast.Name):
        return _UNKNOWN
    owner = notes.resolver.owner(node.id, scope)
    if owner is None:
        return _UNKNOWN
    match owner.bindings[node.id]:
        case [("parameter", ast.arg(annotation=ast.Subscript(slice=element)))]:
            return _of_class(notes, element, owner.parent or owner)
        case [("value", _)] if isinstance(hint := owner.hints.get(node.id), ast.Subscript):
            return _of_class(notes, hint.slice, owner)
        case _:
            return _UNKNOWN


def _of_class(notes: Notes, node: ast.expr, scope: Scope) -> str:
    """Return what elements of an annotated class are; of a dict, its keys count."""
    match node:
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=elements)):
            return _worst(_of_class(notes, element, scope) for element in elements)
        case ast.Tuple(elts=[key, _]):
            return _of_class(notes, key, scope)
        case ast.Constant(value=builtins.Ellipsis):
            return _SAME
    found = notes.resolver.resolve(node, scope)
    return _SAME if isinstance(found, Known) and is_one(found.obj, _NUMBERS) else _UNKNOWN


def _added(notes: Notes, name: str, owner: Scope) -> Iterator[str]:
    """Yield what is put into a set of this name afterwards."""
    for node in own_nodes(owner.node):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr="add"), args=[element]) if target == name:
                yield _element(notes, element, owner)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr="update"), args=elements) if (
                target == name
            ):
                for element in elements:
                    yield _kind(notes, element, owner) or _UNKNOWN


def _element(notes: Notes, node: ast.expr, scope: Scope) -> str:
    match node:
        case ast.Constant(value=value):
            return _of_value(value)
        case ast.JoinedStr():
            return _SALTED
        case ast.Tuple(elts=elements):
            return _worst(_element(notes, element, scope) for element in elements)
        case ast.UnaryOp(operand=operand):
            return _element(notes, operand, scope)
        case ast.Call(func=function):
            called = notes.resolver.resolve(function, scope)
            if isinstance(called, Known):
                if is_one(called.obj, _COUNTING) or is_one(called.obj, _TASKS):
                    return _SAME
                if called.obj is str:
                    return _SALTED
            if isinstance(notes.resolver.resolve(node, scope), Effect):
                return _SAME
            if isinstance(function, ast.Attribute) and function.attr == "create_task":
                return _SAME
            return _UNKNOWN
        case ast.Name(id=name):
            return _walked(notes, name, node, scope)
        case _:
            return _of_hint(notes.resolver.resolve(node, scope))


def _walked(notes: Notes, name: str, node: ast.expr, scope: Scope) -> str:
    """An element that is a name: of a loop over a range, or of something with a class."""
    owner = notes.resolver.owner(name, scope)
    if owner is not None:
        how = owner.bindings[name]
        if len(how) == 1 and how[0][0] == "element" and isinstance(how[0][1], ast.Call):
            called = notes.resolver.resolve(how[0][1].func, owner)
            if isinstance(called, Known) and called.obj is range:
                return _SAME
        if len(how) == 1 and how[0][0] == "value":
            return _element(notes, how[0][1], owner) if not isinstance(how[0][1], ast.Name) else _UNKNOWN
    return _of_hint(notes.resolver.resolve(node, scope))


def _of_hint(value: Any) -> str:
    if isinstance(value, Known):
        return _of_value(value.obj)
    if isinstance(value, Instance):
        if value.cls in _NUMBERS:
            return _SAME
        if value.cls in {str, bytes} and value.certain:
            return _SALTED
    return _UNKNOWN


def _worst(kinds: Iterable[str]) -> str:
    found = set(kinds)
    if _SALTED in found:
        return _SALTED
    return _UNKNOWN if _UNKNOWN in found else _SAME
