"""Here lives what the functions, classes and comprehensions of a text bind, each with what it is bound to."""

import ast
from collections.abc import Iterable, Iterator
from typing import Any, Final

from continuum.determinism.sources import children

__all__ = ["FUNCTIONS", "FunctionNode", "Scope", "is_async_generator", "own_nodes", "run_by"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_CLOSED: Final = (*FUNCTIONS, ast.ClassDef)
_BINDERS: Final = (
    *(*_CLOSED, *_COMPREHENSIONS, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.AugAssign),
    *(ast.For, ast.AsyncFor, ast.withitem, ast.ExceptHandler, ast.Global, ast.Nonlocal),
    *(ast.MatchAs, ast.MatchStar, ast.MatchMapping),
)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below one that run with it: not those of functions and classes it defines."""
    waiting = children(node)[::-1]
    while waiting:
        child = waiting.pop()
        yield child
        if not isinstance(child, _CLOSED):
            waiting += reversed(children(child))


def run_by(statements: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the statements and the nodes below that run with them."""
    for statement in statements:
        yield statement
        if not isinstance(statement, _CLOSED):
            yield from own_nodes(statement)


def is_async_generator(node: ast.AST) -> bool:
    """Whether it is the definition of an asynchronous generator."""
    return isinstance(node, ast.AsyncFunctionDef) and any(
        isinstance(child, (ast.Yield, ast.YieldFrom)) for child in run_by(node.body)
    )


class Scope:
    """The names that one function, class or comprehension binds, each with what it is bound to.

    :ivar hints: the annotations of those that are bound to something where they are annotated.
    """

    def __init__(self, node: ast.AST, parent: "Scope | None") -> None:
        self.node = node
        self.parent = parent
        self.bindings: dict[str, list[tuple[str, Any]]] = {}
        self.hints: dict[str, ast.expr] = {}
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        if isinstance(node, FUNCTIONS):
            self._arguments(node.args)
            body = [node.body] if isinstance(node, ast.Lambda) else node.body
        elif isinstance(node, _COMPREHENSIONS):
            for generator in node.generators:
                self._target(generator.target, "element", generator.iter)
            body = []
        else:
            body = node.body  # type: ignore[attr-defined]
        for statement in body:
            self._collect(statement)

    def declares(self, name: str) -> bool:
        """Whether the name is one of its own."""
        return name in self.bindings and name not in self.globals and name not in self.nonlocals

    def _bind(self, name: str, kind: str, what: Any) -> None:
        self.bindings.setdefault(name, []).append((kind, what))

    def _arguments(self, arguments: ast.arguments) -> None:
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self._bind(argument.arg, "parameter", argument)
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                self._bind(rest.arg, "other", rest)

    def _target(self, target: ast.AST, kind: str, what: Any) -> None:
        if isinstance(target, ast.Name):
            self._bind(target.id, kind, what)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self._target(part, "other", what)
        elif isinstance(target, ast.Starred):
            self._target(target.value, "other", what)

    def _collect(self, node: ast.AST) -> None:
        if not isinstance(node, _BINDERS):  # most nodes
            for child in children(node):
                self._collect(child)
            return
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._bind(node.name, "definition", node)
                return
            case ast.Lambda():
                return
            case ast.Import(names=names):
                for name in names:
                    whole = name.name if name.asname else name.name.partition(".")[0]
                    self._bind(name.asname or whole, "import", (whole, None, 0))
            case ast.ImportFrom(module=module, names=names, level=level):
                for name in names:
                    self._bind(name.asname or name.name, "import", (module or "", name.name, level))
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._target(target, "value", value)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                self._target(target, "hint" if value is None else "value", value or annotation)
                if isinstance(target, ast.Name) and value is not None:
                    self.hints[target.id] = annotation
            case ast.NamedExpr(target=target, value=value):
                self._target(target, "value", value)
            case ast.AugAssign(target=target):
                self._target(target, "augmented", node)
            case ast.For(target=target, iter=iterated) | ast.AsyncFor(target=target, iter=iterated):
                self._target(target, "element", iterated)
            case ast.withitem(context_expr=context, optional_vars=target) if target is not None:
                self._target(target, "context", context)
            case ast.ExceptHandler(name=str() as name):
                self._bind(name, "other", node)
            case ast.Global(names=names):
                self.globals.update(names)
            case ast.Nonlocal(names=names):
                self.nonlocals.update(names)
            case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
                self._bind(name, "other", node)
            case ast.MatchMapping(rest=str() as name):
                self._bind(name, "other", node)
        if isinstance(node, _COMPREHENSIONS):
            # What it binds is its own, except by ``:=``.
            for child in ast.walk(node):
                if isinstance(child, ast.NamedExpr):
                    self._target(child.target, "value", child.value)
            return
        for child in children(node):
            self._collect(child)
