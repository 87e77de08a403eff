"""Here lives the judge: what a name stands for is looked up in the table of calls, or followed if it is the user's."""

import ast
import contextlib
import functools
import inspect
import sys
import types
from typing import Any, Final

from continuum.determinism import flow, state
from continuum.determinism.calls import Forbidden, canonical_name, find_forbidden
from continuum.determinism.notes import CACHED, Notes
from continuum.determinism.pure import is_pure
from continuum.determinism.rules import RULES
from continuum.determinism.scopes import Scope
from continuum.determinism.values import (
    Getter,
    Instance,
    Known,
    Missing,
    Value,
    find_attribute,
    is_declaration,
    member,
    names_of,
    origin_of,
)

__all__ = ["Judge"]

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset)
_PLAIN_METHODS: Final = frozenset(name for cls in (str, bytes, list, dict, set, tuple, int) for name in vars(cls))
_MANY: Final = 200


class Judge(Notes):
    """Judges the names of one function, and what they stand for."""

    def visit(self, node: ast.AST | None, scope: Scope) -> None:
        """Read a node and all below it."""
        raise NotImplementedError

    def refer(self, node: ast.expr, scope: Scope, call: ast.Call | None) -> bool:
        """Judge a name, or a chain of attributes; say whether it was found guilty, and its attributes are not news."""
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, (ast.Name, ast.Attribute)):
                if self.refer(node.value, scope, None):
                    return True
            else:
                self.visit(node.value, scope)
        elif not isinstance(node, ast.Name):
            self.visit(node, scope)
        value = self.resolver.resolve(node, scope)
        state.check_read(self, node, value, scope)
        return self.judge(value, node, call)

    def judge(self, value: Value | None, node: ast.expr, call: ast.Call | None) -> bool:
        """Judge what a name stands for, and follow it if it is the user's."""
        match value:
            case Known(obj=obj):
                return self._judge_known(value, obj, node, call)
            case Getter(function=function, receiver=receiver):
                if is_pure(receiver):
                    return False
                if _is_users(function):
                    self.follow(function, receiver, node)
                    return False
                return self.forbid(value, node, call)
            case Missing():
                return self.forbid(value, node, call)
            case Instance() if call is not None:
                found = member(value, "__call__")
                return isinstance(found, Known) and self._judge_known(found, found.obj, node, call)
            case None if call is not None and isinstance(node, (ast.Attribute, ast.Name)):
                if not isinstance(node, ast.Attribute) or node.attr not in _PLAIN_METHODS:
                    self.add("CT402", node, f"{ast.unparse(node)}: what is called is only known at run time.")
        return False

    def _judge_known(self, value: Known, obj: Any, node: ast.expr, call: ast.Call | None) -> bool:
        if is_declaration(obj) or isinstance(obj, types.ModuleType):
            return False
        if isinstance(obj, type):
            return call is not None and self._construct(value, obj, node, call)
        if isinstance(obj, types.FunctionType):
            if is_pure(obj) or (value.receiver is not None and is_pure(value.receiver)):
                return False
            if not _is_users(obj) and self.forbid(value, node, call):
                return True
            self.follow(obj, value.receiver, node)
            return self._distrust(obj, node, call)
        if isinstance(obj, types.MethodType):
            receiver = obj.__self__ if isinstance(obj.__self__, type) else type(obj.__self__)
            guilty = self.forbid(value, node, call) if not _is_users(obj.__func__) else False
            return guilty or self._judge_known(Known(obj.__func__, value.path, receiver), obj.__func__, node, call)
        if isinstance(obj, functools.partial):
            for inner in (obj.func, *obj.args, *obj.keywords.values()):
                if callable(inner) and not is_declaration(inner):
                    self._judge_known(Known(inner), inner, node, None)
            return False
        if isinstance(obj, CACHED):
            self.follow(obj, value.receiver, node)
            return False
        if type(obj) in {dict, list, tuple}:
            for inner in list(obj.values() if type(obj) is dict else obj)[:_MANY]:
                if isinstance(inner, (types.FunctionType, types.BuiltinFunctionType, functools.partial)):
                    self._judge_known(Known(inner), inner, node, None)
        if self.forbid(value, node, call):
            return True
        if call is not None and not isinstance(obj, (types.BuiltinFunctionType, *_PLAIN)):
            found = member(Instance(type(obj)), "__call__")
            if isinstance(found, Known) and isinstance(found.obj, types.FunctionType):
                return self._judge_known(found, found.obj, node, call)
        return self._distrust(obj, node, call)

    def _construct(self, value: Known, cls: type, node: ast.expr, call: ast.Call) -> bool:
        if is_pure(cls) or self.forbid(value, node, call):
            return True
        for name in ("__new__", "__init__", "__post_init__"):
            found = find_attribute(cls, name)
            if found is not None and isinstance(found[1], types.FunctionType):
                self.follow(found[1], cls, node)
        for factory in _factories(cls):
            self._judge_known(Known(factory), factory, node, None)
        flow.check_finalizer(self, cls, node)
        return self._distrust(cls, node, call)

    def forbid(self, value: Value, node: ast.expr, call: ast.Call | None) -> bool:
        """Look a value up in the table of calls, by all its names."""
        for name in names_of(value):
            found = find_forbidden(name)
            if found is not None and _applies(found, call):
                shown = canonical_name(name).removeprefix("builtins.")
                message = f"{shown}{'' if call is None else '()'} is not for workflows. {RULES[found.code].summary}"
                self.add(found.code, node, message, hint=found.hint, certain=value.certain)
                return True
        return False

    def _distrust(self, obj: Any, node: ast.expr, call: ast.Call | None) -> bool:
        if call is None:
            return False
        module = obj.__globals__.get("__name__") if isinstance(obj, types.FunctionType) else None
        module = module or getattr(obj, "__module__", None) or getattr(type(obj), "__module__", None)
        loaded = sys.modules.get(str(module))
        file = getattr(loaded, "__file__", None) or ""
        if loaded is not None and origin_of(file or "<none>") == "third":
            self.add(
                "CT401",
                node,
                f"{module}.{getattr(obj, '__qualname__', type(obj).__qualname__)} cannot be followed,"
                " and nobody has said that it is safe.",
                module=str(module),
            )
        return False


def _is_users(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    origin = origin_of(code.co_filename)
    if origin == "none":  # made by exec, as decorators of packages do
        made_in = sys.modules.get(str(function.__globals__.get("__name__")))
        origin = origin_of(getattr(made_in, "__file__", None) or "<none>")
    return origin in {"user", "none"}


def _factories(cls: type) -> list[Any]:
    """Return the functions that make the default values of a class's fields."""
    own: Any = cls
    found: list[Any] = []
    with contextlib.suppress(Exception):  # classes answer as they like
        for fields in ("__dataclass_fields__", "model_fields"):
            found += [getattr(f, "default_factory", None) for f in dict(getattr(own, fields, None) or {}).values()]
        found += [getattr(default, "factory", None) for default in getattr(own, "__struct_defaults__", ())]
    return [factory for factory in found if inspect.isroutine(factory)]


def _applies(found: Forbidden, call: ast.Call | None) -> bool:
    if found.fewer_than is None and not found.unless and found.dynamic is None:
        return True
    if call is None:
        return bool(found.unless)
    open_ended = any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords)
    if found.fewer_than is not None and (open_ended or len(call.args) + len(call.keywords) >= found.fewer_than):
        return False
    if found.unless and any(k.arg is None or k.arg in found.unless for k in call.keywords):
        return False
    if found.dynamic is not None:
        return found.dynamic < len(call.args) and not isinstance(call.args[found.dynamic], ast.Constant)
    return True
