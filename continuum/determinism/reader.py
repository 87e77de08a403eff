"""Here lives the reader of one function: each expression is resolved, judged by the table of calls, and followed.

It walks the function and everything nested in it once. Rules about form are asked on the way (`continuum.determinism.
flow`, `.state`, `.sets`).
"""

import ast
import functools
import types
from typing import Any, Final

from continuum.determinism import flow, sets, state
from continuum.determinism.facts import Facts, Wait
from continuum.determinism.judge import Judge
from continuum.determinism.notes import place
from continuum.determinism.operators import BUILT_IN, OPERATING, hidden_calls
from continuum.determinism.pure import is_pure
from continuum.determinism.scopes import FUNCTIONS, FunctionNode, Scope
from continuum.determinism.sources import children
from continuum.determinism.values import (
    Instance,
    Known,
    Value,
    find_attribute,
    is_declaration,
)

__all__ = ["Reader"]

_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SIGNALS: Final = "continuum.declare.signals"
_EFFECTS: Final = "continuum.replay.effects."
_METHODS: Final[dict[type[ast.AST], str]] = {
    **dict.fromkeys(FUNCTIONS, "_function"),
    ast.ClassDef: "_class",
    **dict.fromkeys(_COMPREHENSIONS, "_comprehension"),
    ast.Assign: "_assign",
    ast.Delete: "_assign",
    ast.AnnAssign: "_annotated",
    ast.AugAssign: "_augmented",
    ast.Try: "_try",
    ast.TryStar: "_try",
    ast.For: "_loop",
    ast.AsyncFor: "_loop",
    ast.With: "_with",
    ast.AsyncWith: "_with",
    ast.Expr: "_expression",
    ast.Await: "_await",
    ast.Starred: "_starred",
    ast.Name: "_reference",
    ast.Attribute: "_reference",
    ast.Call: "_call",
}


class Reader(Judge):
    """Reads one function. ``facts`` is what comes of it."""

    # ------------------------------------------------------------------ walking

    def read(self) -> Facts:
        """Read the whole function."""
        from_outside = Scope(ast.Module([], []), None)
        for default in _defaults(self.node.args):
            self.visit(default, from_outside)
        for mark in getattr(self.node, "decorator_list", ()):
            if isinstance(mark, ast.Call):
                for argument in (*mark.args, *(keyword.value for keyword in mark.keywords)):
                    if not isinstance(argument, ast.Lambda):
                        self.visit(argument, from_outside)
        self._body(self.node, self.resolver.root)
        self.facts.pending = frozenset(self.resolver.pending)
        return self.facts

    def visit(self, node: ast.AST | None, scope: Scope) -> None:
        """Read a node and all below it."""
        if node is None:
            return
        if type(node) in OPERATING:
            self._operate(node, scope)
        method = _METHODS.get(type(node))
        if method is None:
            self.below(node, scope)
        else:
            getattr(self, method)(node, scope)

    def below(self, node: ast.AST, scope: Scope) -> None:
        """Read what is below a node."""
        for child in children(node):
            self.visit(child, scope)

    def _body(self, node: FunctionNode, scope: Scope) -> None:
        self.functions.append(node)
        for statement in [node.body] if isinstance(node, ast.Lambda) else node.body:
            self.visit(statement, scope)
        self.functions.pop()

    def _function(self, node: Any, scope: Scope) -> None:
        for expression in (*_defaults(node.args), *getattr(node, "decorator_list", ())):
            self.visit(expression, scope)
        handlers, self.handlers = self.handlers, 0
        self._body(node, self.resolver.scope_of(node, scope))
        self.handlers = handlers

    def _class(self, node: ast.ClassDef, scope: Scope) -> None:
        for expression in (*node.bases, *node.keywords, *node.decorator_list):
            self.visit(expression, scope)
        inner = self.resolver.scope_of(node, scope)
        for statement in node.body:
            self.visit(statement, inner)
            if isinstance(statement, FUNCTIONS) and getattr(statement, "name", "") == "__del__":
                flow.check_del(self, statement, inner)

    def _comprehension(self, node: Any, scope: Scope) -> None:
        inner = self.resolver.scope_of(node, scope)
        sets.check_comprehension(self, node, scope, inner)
        for number, generator in enumerate(node.generators):
            self._operate(generator, inner if number else scope)
            self.visit(generator.iter, inner if number else scope)
            self.visit(generator.target, inner)
            for condition in generator.ifs:
                self.visit(condition, inner)
        for name in ("elt", "key", "value"):
            self.visit(getattr(node, name, None), inner)

    def _annotated(self, node: ast.AnnAssign, scope: Scope) -> None:
        state.check_store(self, node.target, scope)
        self.visit(node.value, scope)

    def _assign(self, node: Any, scope: Scope) -> None:
        for target in node.targets:
            state.check_store(self, target, scope)
        if isinstance(node, ast.Assign):
            sets.check_unpacking(self, node, scope)
        flow.keep(self, node, scope)
        self.below(node, scope)

    def _augmented(self, node: ast.AugAssign, scope: Scope) -> None:
        state.check_store(self, node.target, scope)
        flow.check_augmented(self, node, scope)
        self.below(node, scope)

    def _try(self, node: Any, scope: Scope) -> None:
        flow.check_try(self, node, scope)
        for statement in (*node.body, *node.orelse):
            self.visit(statement, scope)
        self.handlers += 1
        for statement in (*node.handlers, *node.finalbody):
            self.visit(statement, scope)
        self.handlers -= 1

    def _loop(self, node: Any, scope: Scope) -> None:
        sets.check_iteration(self, node.iter, scope)
        flow.check_loop(self, node, scope)
        self.below(node, scope)

    def _with(self, node: Any, scope: Scope) -> None:
        for item in node.items:
            flow.check_with(self, item, node, scope)
        self.below(node, scope)

    def _expression(self, node: ast.Expr, scope: Scope) -> None:
        flow.check_statement(self, node, scope)
        self.below(node, scope)

    def _await(self, node: ast.Await, scope: Scope) -> None:
        flow.check_await(self, node, scope)
        self.below(node, scope)

    def _starred(self, node: ast.Starred, scope: Scope) -> None:
        sets.check_iteration(self, node.value, scope)
        self.below(node, scope)

    def _operate(self, node: ast.AST, scope: Scope) -> None:
        for operand, names in hidden_calls(node):
            self._dunders(operand, scope, names)

    def _dunders(self, node: ast.expr, scope: Scope, names: tuple[str, ...]) -> None:
        value = self.resolver.resolve(node, scope)
        cls = value.cls if isinstance(value, Instance) else type(value.obj) if isinstance(value, Known) else None
        if cls is None or is_pure(cls):
            return
        for name in names:
            found = find_attribute(cls, name)
            if found is not None and isinstance(found[1], types.FunctionType):
                self.follow(found[1], cls, node)

    def _reference(self, node: Any, scope: Scope) -> None:
        if isinstance(node.ctx, ast.Load):
            self.refer(node, scope, None)
        elif isinstance(node, ast.Attribute):
            self.visit(node.value, scope)

    # ------------------------------------------------------------------ calls

    def _call(self, node: ast.Call, scope: Scope) -> None:
        sets.check_call(self, node, scope)
        state.check_call(self, node, scope)
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "compensate":
            self.settled.add(id(function.value))
        if isinstance(function, (ast.Name, ast.Attribute)):
            self.refer(function, scope, node)
        elif not isinstance(function, ast.Lambda):
            self.visit(function, scope)
            value = self.resolver.resolve(function, scope)
            if value is None or (isinstance(value, Instance) and value.cls is functools.partial):
                self._dynamic(function, scope)
            else:
                self.judge(value, function, node)
        else:
            self.visit(function, scope)
        self._notice(node, scope)
        called = self.resolver.resolve(function, scope)
        if isinstance(called, Known) and id(called.obj) in BUILT_IN:
            for argument in node.args:
                self._dunders(argument, scope, BUILT_IN[id(called.obj)])
        recorded = self._is_recorded(node, scope)
        for argument in (*node.args[recorded:], *(keyword.value for keyword in node.keywords)):
            self.visit(argument, scope)

    def _is_recorded(self, node: ast.Call, scope: Scope) -> bool:
        """Whether its first argument is a function whose answer goes into the history: it may do what it likes."""
        value = self.resolver.resolve(node.func, scope)
        if not isinstance(value, Known) or not isinstance(value.obj, types.FunctionType):
            return False
        return value.obj.__module__ == f"{_EFFECTS}values" and value.obj.__name__ == "side_effect"

    def _dynamic(self, function: ast.expr, scope: Scope) -> None:
        if isinstance(function, ast.Call):
            if function.args and isinstance(function.args[0], ast.Call):
                wrapper = self.resolver.resolve(function.func, scope)
                if isinstance(wrapper, Known) and wrapper.obj is functools.partial:
                    self._dynamic(function.args[0], scope)
                    return
            maker = self.resolver.resolve(function.func, scope)
            if isinstance(maker, Known) and maker.obj is getattr and len(function.args) > 1:
                receiver = self.resolver.resolve(function.args[0], scope)
                certain = isinstance(receiver, Known) and isinstance(receiver.obj, types.ModuleType)
                self.add(
                    "CT113",
                    function,
                    f"{ast.unparse(function)}: what is called is chosen by a name made at run time.",
                    certain=certain,
                )
                return
        self.add("CT402", function, f"{ast.unparse(function)}: what is called is only known at run time.")

    def _notice(self, node: ast.Call, scope: Scope) -> None:
        """Note waits for signals, and calls with and without compensation."""
        value = self.resolver.resolve(node.func, scope)
        if not isinstance(value, Known):
            return
        obj = value.obj
        if is_declaration(obj):
            if hasattr(type(obj), "plan") and id(node) not in self.settled and not self.handlers:
                self.facts.uncompensated.append((obj.name, *place(node)))
        elif isinstance(obj, types.FunctionType):
            home = obj.__module__
            if home == f"{_EFFECTS}saga" and obj.__name__ == "compensate_all":
                self.facts.compensates = True
            elif home == f"{_EFFECTS}signal" and obj.__name__ == "wait_signal":
                first = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "name"), None)
                self._wait(self.resolver.resolve(first, scope), node)
            elif home == _SIGNALS and obj.__name__ in {"wait", "receive"} and isinstance(node.func, ast.Attribute):
                self._wait(self.resolver.resolve(node.func.value, scope), node)

    def _wait(self, value: Value | None, node: ast.Call) -> None:
        if isinstance(value, Known):
            name = value.obj if isinstance(value.obj, str) else None
            if name is None and type(value.obj).__module__ == _SIGNALS:
                name = value.obj.name
            if name is not None:
                self.facts.waits.append(Wait(name, *place(node)))


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]
