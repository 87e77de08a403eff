"""Here lives what the names in a function stand for: locals first, then its closure, its module, the builtins.

A name is what the running interpreter would find, so ``from datetime import datetime as d`` is the standard library's,
and a user's own class of that name is the user's. A local that is bound twice to different things is nothing certain.
"""

import ast
import builtins
import sys
import types
from typing import Any, Final

from continuum.determinism.attributes import assigned, likely, of_class
from continuum.determinism.scopes import FunctionNode, Scope
from continuum.determinism.values import (
    Effect,
    Getter,
    Instance,
    Known,
    Local,
    Missing,
    Value,
    is_declaration,
    member,
    names_of,
    origin_of,
    seen,
)

__all__ = ["Resolver"]

_BUILTINS: Final = vars(builtins)
_ABSENT: Final = object()

# What well-known factories return that do not say so themselves.
_RETURNS: Final = {
    "logging.getLogger": ("logging", "Logger"),
    "logging.Logger.getChild": ("logging", "Logger"),
    "asyncio.get_event_loop": ("asyncio", "AbstractEventLoop"),
    "asyncio.get_running_loop": ("asyncio", "AbstractEventLoop"),
    "asyncio.new_event_loop": ("asyncio", "AbstractEventLoop"),
}


class Resolver:
    """What the expressions of one function stand for.

    :ivar pending: free names that stand for nothing yet.
    """

    def __init__(self, function: types.FunctionType, node: FunctionNode, receiver: type | None) -> None:
        self.function = function
        self.receiver = receiver
        self.root = Scope(node, None)
        self.pending: set[str] = set()
        self.cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        self._scopes: dict[int, Scope] = {id(node): self.root}
        self._busy: set[int] = set()
        self._asked: set[tuple[type, str]] = set()
        self._resolved: dict[int, tuple[ast.AST, Value | None]] = {}
        self._first = next(iter(function.__code__.co_varnames[: function.__code__.co_argcount]), None)

    def scope_of(self, node: ast.AST, parent: Scope) -> Scope:
        """Return the scope that a function, class or comprehension opens."""
        found = self._scopes.get(id(node))
        if found is None:
            found = self._scopes[id(node)] = Scope(node, parent)
        return found

    def owner(self, name: str, scope: Scope) -> Scope | None:
        """Return the scope inside of the function that binds a name; None if it comes from outside."""
        current: Scope | None = scope
        while current is not None:
            if name in current.globals:
                return None
            if current.declares(name) and (current is scope or not isinstance(current.node, ast.ClassDef)):
                return current
            current = current.parent
        return None

    def outside(self, name: str) -> Known | Instance | None:
        """Return what a free name of the function stands for now."""
        cell = self.cells.get(name)
        if cell is not None:
            try:
                return seen(cell.cell_contents)
            except ValueError:
                self.pending.add(name)
                return None
        found = self.function.__globals__.get(name, _ABSENT)
        if found is _ABSENT:
            found = _BUILTINS.get(name, _ABSENT)
            if found is _ABSENT:
                self.pending.add(name)
                return None
            return Known(found, f"builtins.{name}")
        return seen(found)

    def resolve(self, node: ast.AST | None, scope: Scope) -> Value | None:
        """Return what an expression stands for; None if that cannot be told."""
        if node is None or id(node) in self._busy:
            return None
        known = self._resolved.get(id(node))
        if known is not None:
            return known[1]
        is_asked_first = not self._busy  # on the way to something else, a circle may end here too early
        self._busy.add(id(node))
        try:
            value = self._resolve(node, scope)
        finally:
            self._busy.discard(id(node))
        if is_asked_first:
            self._resolved[id(node)] = node, value  # with the node, lest its id is given to another
        return value

    def _resolve(self, node: ast.AST, scope: Scope) -> Value | None:
        match node:
            case ast.Name(id=name):
                owner = self.owner(name, scope)
                return self.outside(name) if owner is None else self._local(name, owner)
            case ast.Attribute(value=inner, attr=name):
                return self._attribute(self.resolve(inner, scope), name)
            case ast.Await(value=inner):
                return self.resolve(inner, scope)
            case ast.NamedExpr(value=inner):
                return self.resolve(inner, scope)
            case ast.Call():
                return self._call(node, scope)
            case ast.Constant(value=constant):
                return Known(constant)
            case ast.Set() | ast.SetComp():
                return Instance(set)
            case ast.List() | ast.ListComp():
                return Instance(list)
            case ast.Dict() | ast.DictComp():
                return Instance(dict)
            case ast.JoinedStr():
                return Instance(str)
            case ast.Lambda():
                return Local(node, scope)
            case _:
                return None

    def _attribute(self, value: Value | None, name: str) -> Value | None:
        if value is None:
            return None
        found = member(value, name)
        if isinstance(found, Missing) and isinstance(value, Known) and isinstance(value.obj, types.ModuleType):
            spec = getattr(value.obj, "__spec__", None)
            if getattr(spec, "_initializing", False):
                self.pending.add(f"{found.path}")
        elif found is None or isinstance(found, Missing):
            return self._held(value, name) or found
        return found

    def _held(self, value: Value, name: str) -> Value | None:
        """Return what an object of a user's class holds, by what its class and its methods say."""
        cls = value.cls if isinstance(value, Instance) else type(value.obj) if isinstance(value, Known) else None
        if not isinstance(cls, type) or not self._is_users(cls) or (cls, name) in self._asked:
            return None
        found: list[Value] = []
        self._asked.add((cls, name))  # ``self.one = self.other``, and the other way round
        try:
            for method, node, given in assigned(cls, name):
                inner = Resolver(method, node, cls)
                inner._asked = self._asked
                held = inner.resolve(given, inner.root)
                if isinstance(held, Known) and held.obj is None:
                    continue
                if held is None:
                    return None
                found.append(held)
        finally:
            self._asked.discard((cls, name))
        if not found:
            return of_class(cls, name)
        return likely(found[0]) if all(_same(found[0], other) for other in found[1:]) else None

    def _is_users(self, cls: type) -> bool:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        own = str(self.function.__globals__.get("__name__"))
        return file is not None and (
            origin_of(file) == "user" or cls.__module__.partition(".")[0] == own.partition(".")[0]
        )

    # ------------------------------------------------------------------ locals

    def _local(self, name: str, scope: Scope) -> Value | None:
        found: list[Value] = []
        for kind, what in scope.bindings[name]:
            value = self._binding(kind, what, name, scope)
            if isinstance(value, Known) and value.obj is None:
                continue  # ``client = None`` before the real one
            if value is None:
                return None
            found.append(value)
        if not found:
            return None
        first = found[0]
        return first if all(_same(first, other) for other in found[1:]) else None

    def _binding(self, kind: str, what: Any, name: str, scope: Scope) -> Value | None:
        match kind:
            case "value":
                return self.resolve(what, scope)
            case "definition":
                return Local(what, scope)
            case "import":
                return self._import(*what)
            case "hint":
                return self.hinted(what, scope)
            case "context":
                value = self.resolve(what, scope)
                return Instance(value.cls, certain=False) if isinstance(value, Instance) else None
            case "parameter":
                return self._parameter(what, name, scope)
            case _:
                return None

    def _parameter(self, argument: ast.arg, name: str, scope: Scope) -> Value | None:
        if scope is self.root and self.receiver is not None and name == self._first:
            return Known(self.receiver) if name == "cls" else Instance(self.receiver)
        return self.hinted(argument.annotation, scope.parent or scope)

    def hinted(self, annotation: ast.AST | None, scope: Scope) -> Instance | None:
        """Return an object of the class that an annotation names: likely, not certain."""
        match annotation:
            case ast.Constant(value=str() as text):
                try:
                    return self.hinted(ast.parse(text, mode="eval").body, scope)
                except SyntaxError:
                    return None
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return self.hinted(left, scope)
            case ast.Subscript(value=inner):
                return self.hinted(inner, scope)
            case ast.Name() | ast.Attribute():
                pending = set(self.pending)
                value = self.resolve(annotation, scope)
                self.pending = pending  # a hint may stay unbound for ever
                if isinstance(value, Known) and isinstance(value.obj, type):
                    return Instance(value.obj, certain=False)
        return None

    def _import(self, module: str, name: str | None, level: int) -> Value | None:
        if level:
            package = str(self.function.__globals__.get("__package__") or "").split(".")
            package = package[: len(package) - level + 1]
            module = ".".join([*package, *([module] if module else [])])
        loaded = sys.modules.get(module)
        if loaded is None:
            self.pending.add(module)
            return Missing(module if name is None else f"{module}.{name}")
        return Known(loaded) if name is None else self._attribute(Known(loaded), name)

    # ------------------------------------------------------------------ calls

    def _call(self, node: ast.Call, scope: Scope) -> Value | None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"options", "compensate"}:
            before = self.resolve(node.func.value, scope)
            if isinstance(before, Effect):
                return Effect(before.declaration, compensated=True)
            if isinstance(before, Known) and is_declaration(before.obj):
                return before
        called = self.resolve(node.func, scope)
        match called:
            case Known(obj=obj) if is_declaration(obj):
                return Effect(obj)
            case Known(obj=builtins.getattr):
                match node.args:
                    case [inner, ast.Constant(value=str() as name), *_]:
                        return self._attribute(self.resolve(inner, scope), name)
                return None
            case Known(obj=builtins.super) if not node.args:
                defined = self.outside("__class__") if "__class__" in self.cells else None
                if not isinstance(defined, Known) or self.receiver is None:
                    return None
                return Instance(self.receiver, after=defined.obj)
            case Known(obj=type() as cls):
                return None if cls is type else Instance(cls)
            case Known(obj=obj):
                return self._returned(called, obj)
            case Local(node=ast.ClassDef()):
                return None
            case _:
                return None

    def _returned(self, called: Known, obj: Any) -> Value | None:
        for name in names_of(called):
            if name in _RETURNS:
                module, attribute = _RETURNS[name]
                found = getattr(sys.modules.get(module), attribute, None)
                return None if found is None else Instance(found)
        hint = getattr(obj, "__annotations__", {}).get("return") if isinstance(obj, types.FunctionType) else None
        if isinstance(hint, str) and hint.isidentifier():
            hint = obj.__globals__.get(hint)
        return Instance(hint, certain=False) if isinstance(hint, type) and hint is not types.NoneType else None


def _same(one: Value, other: Value) -> bool:
    match one, other:
        case Known(), Known():
            return one.obj is other.obj
        case Instance(), Instance():
            return one.cls is other.cls
        case Getter(), Getter():
            return one.function is other.function
        case _:
            return False
