"""Here live the rules about control flow: what swallows a cancellation, comes too late, or is lost.

About ``finally`` they say little, because it works: a cancelled run is told once, and awaits what its ``finally``
blocks ask for. Only in an async generator that its consumer may leave, they run at some later time.
"""

import ast
import asyncio
import contextlib
import inspect
import types
from typing import Any, Final, Never, NoReturn

from continuum.determinism.notes import Notes
from continuum.determinism.scopes import FUNCTIONS, Scope, is_async_generator, own_nodes, run_by
from continuum.determinism.sets import is_one
from continuum.determinism.sources import children
from continuum.determinism.values import Effect, Known, Local, Value, find_attribute, is_declaration, origin_of

__all__ = [
    "check_augmented",
    "check_await",
    "check_del",
    "check_finalizer",
    "check_loop",
    "check_statement",
    "check_try",
    "check_with",
    "keep",
]

_WAITING: Final = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_SWALLOWED: Final = (BaseException, asyncio.CancelledError)
_EFFECTS: Final = "continuum.replay.effects."
_COROUTINES: Final = frozenset(
    {"sleep", "wait_signal", "wait_until", "compensate", "compensate_all", "wait", "receive"}
)
# Third-party code that only combines what it is given.
_COMBINATORS: Final = frozenset({"anyio", "sniffio", "async_timeout", "aiostream", "aioitertools", "asyncstdlib"})


def check_try(notes: Notes, node: Any, scope: Scope) -> None:
    """Judge the handlers and the ``finally`` of a ``try``."""
    if any(isinstance(child, _WAITING) for child in run_by(node.body)):
        own = _ends_own_task(notes, node.body)
        for handler in node.handlers:
            if _swallows(notes, handler.type, scope) and not _ends(notes, handler, scope) and not own:
                notes.add("CT301", handler)
    for statement in node.finalbody:
        _check_final(notes, statement, in_loop=False)
    inside = notes.functions[-1] if notes.functions else None
    if node.finalbody and inside is not None and is_async_generator(inside) and not _is_manager(inside):
        for child in run_by(node.finalbody):
            if isinstance(child, _WAITING):
                notes.add("CT302", child)


def _swallows(notes: Notes, node: ast.expr | None, scope: Scope) -> bool:
    if node is None:
        return True
    if isinstance(node, ast.Tuple):
        return any(_swallows(notes, part, scope) for part in node.elts)
    value = notes.resolver.resolve(node, scope)
    if isinstance(value, Known) and type(value.obj) is tuple:
        return any(is_one(part, _SWALLOWED) for part in value.obj)
    return isinstance(value, Known) and is_one(value.obj, _SWALLOWED)


def _ends(notes: Notes, handler: ast.ExceptHandler, scope: Scope) -> bool:
    """Whether the handler raises or returns somewhere, leaves the loop, or ends the run."""
    if isinstance(handler.body[-1], ast.Break):
        return True
    for child in own_nodes(handler):
        if isinstance(child, (ast.Raise, ast.Return)):
            return True
        if isinstance(child, ast.Call) and _never_returns(notes.resolver.resolve(child.func, scope)):
            return True
    return False


def _never_returns(value: Value | None) -> bool:
    if not isinstance(value, Known) or not isinstance(value.obj, types.FunctionType):
        return False
    hint = value.obj.__annotations__.get("return")
    return hint is NoReturn or hint is Never or (isinstance(hint, str) and hint in {"NoReturn", "Never"})


def _ends_own_task(notes: Notes, body: list[ast.stmt]) -> bool:
    """Whether it is the usual way to end a task of one's own: ``task.cancel()``, then await it and ignore that."""
    match body:
        case [
            ast.Expr(value=ast.Await(value=awaited))
            | ast.Assign(value=ast.Await(value=awaited))
            | ast.Return(value=ast.Await(value=awaited))
        ] if not isinstance(awaited, ast.Call) or ast.unparse(awaited.func).endswith(("gather", "wait")):
            return any(
                isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr == "cancel"
                for child in ast.walk(notes.node)
            )
    return False


def _check_final(notes: Notes, node: ast.AST, *, in_loop: bool) -> None:
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return
    if isinstance(node, ast.Return) or (isinstance(node, (ast.Break, ast.Continue)) and not in_loop):
        notes.add("CT306", node)
    inside = in_loop or isinstance(node, (ast.For, ast.AsyncFor, ast.While))
    for child in children(node):
        _check_final(notes, child, in_loop=inside)


def _is_manager(node: ast.AST) -> bool:
    names = [ast.unparse(mark).rpartition(".")[2] for mark in getattr(node, "decorator_list", ())]
    return "asynccontextmanager" in names


def check_with(notes: Notes, item: ast.withitem, node: ast.With | ast.AsyncWith, scope: Scope) -> None:
    """Judge ``with suppress(...)`` as the handler that it is."""
    call = item.context_expr
    if not isinstance(call, ast.Call):
        return
    value = notes.resolver.resolve(call.func, scope)
    if isinstance(value, Known) and value.obj is contextlib.suppress:
        waits = any(isinstance(child, _WAITING) for child in own_nodes(node))
        swallows = any(_swallows(notes, argument, scope) for argument in call.args)
        if waits and swallows and not _ends_own_task(notes, node.body):
            notes.add("CT301", call)


def check_loop(notes: Notes, node: Any, scope: Scope) -> None:
    """Judge a loop over an async generator that may be left before its end."""
    if not isinstance(node, ast.AsyncFor) or not isinstance(node.iter, ast.Call):
        return
    value = notes.resolver.resolve(node.iter.func, scope)
    known = isinstance(value, Known) and inspect.isasyncgenfunction(value.obj)
    if (known or (isinstance(value, Local) and is_async_generator(value.node))) and _is_left(node.body):
        notes.add("CT307", node.iter)


def _is_left(body: list[Any], *, in_loop: bool = False) -> bool:
    for node in body:
        if isinstance(node, ast.Return) or (isinstance(node, ast.Break) and not in_loop):
            return True
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            continue
        inside = in_loop or isinstance(node, (ast.For, ast.AsyncFor, ast.While))
        if _is_left(list(children(node)), in_loop=inside):
            return True
    return False


def check_statement(notes: Notes, node: ast.Expr, scope: Scope) -> None:
    """Judge a call that stands alone: what it returns is lost."""
    call = node.value
    if not isinstance(call, ast.Call):
        return
    match call.func:
        case ast.Attribute(value=ast.Name() | ast.Attribute() | ast.Subscript(), attr="compensate"):
            return  # what is kept gets its compensation
    value = notes.resolver.resolve(call, scope)
    if isinstance(value, Effect):
        notes.add("CT304", call, f"{value.declaration.name} is called, and neither awaited nor kept.")
        return
    called = notes.resolver.resolve(call.func, scope)
    if _makes_coroutine(called):
        notes.add("CT304", call, f"{ast.unparse(call.func)}(...) is not awaited, so it never runs.", hint="await it")


def _makes_coroutine(value: Value | None) -> bool:
    if isinstance(value, Local):
        return isinstance(value.node, ast.AsyncFunctionDef) and not is_async_generator(value.node)
    if not isinstance(value, Known) or is_declaration(value.obj):
        return False
    function = getattr(value.obj, "__func__", value.obj) if isinstance(value.obj, types.MethodType) else value.obj
    if not isinstance(function, types.FunctionType):
        return False
    ours = str(function.__module__).startswith((_EFFECTS, "continuum.declare.signals"))
    return inspect.iscoroutinefunction(function) or (ours and function.__name__ in _COROUTINES)


def check_await(notes: Notes, node: ast.Await, scope: Scope) -> None:
    """Judge what is awaited, if it comes from a package that nobody can follow."""
    if not isinstance(node.value, ast.Call):
        return
    value = notes.resolver.resolve(node.value.func, scope)
    if not isinstance(value, Known) or not isinstance(value.obj, types.FunctionType):
        return
    function = value.obj
    home = str(function.__globals__.get("__name__"))
    if origin_of(function.__code__.co_filename) == "third" and home.partition(".")[0] not in _COMBINATORS:
        message = f"{home}.{function.__qualname__}() is awaited: who answers it, is not in the history."
        notes.add("CT308", node, message, certain=False, module=home)


def check_augmented(notes: Notes, node: ast.AugAssign, scope: Scope) -> None:
    """Judge ``total += await ...`` where other tasks may add to the same total meanwhile."""
    inside = notes.functions[-1] if notes.functions else None
    if len(notes.functions) < 2 or not isinstance(inside, ast.AsyncFunctionDef):  # noqa: PLR2004 - a nested one
        return
    if not any(isinstance(child, ast.Await) for child in own_nodes(node)):
        return
    target: ast.expr = node.target
    while isinstance(target, (ast.Attribute, ast.Subscript)):
        target = target.value
    if isinstance(target, ast.Name):
        own = notes.resolver.owner(target.id, scope)
        if target.id in scope.nonlocals or (own is not None and own is not scope and not _is_own(own, inside)):
            notes.add("CT309", node)


def _is_own(scope: Scope, function: ast.AST) -> bool:
    return scope.node is function


def check_del(notes: Notes, node: Any, scope: Scope) -> None:
    """Judge a ``__del__`` of a class that the function defines."""
    inner = notes.resolver.scope_of(node, scope)
    for child in own_nodes(node):
        if isinstance(child, ast.Call) and _is_effect(notes.resolver.resolve(child.func, inner)):
            notes.add("CT303", child)


def _is_effect(value: Value | None) -> bool:
    if not isinstance(value, Known):
        return False
    if is_declaration(value.obj):
        return True
    function = value.obj
    return isinstance(function, types.FunctionType) and (
        str(function.__module__).startswith(_EFFECTS) and function.__name__ not in {"in_workflow", "run_info"}
    )


def check_finalizer(notes: Notes, cls: type, node: ast.AST) -> None:
    """Judge the ``__del__`` of a class of which an object is made: by the names it uses."""
    found = find_attribute(cls, "__del__")
    if found is None or not isinstance(found[1], types.FunctionType):
        return
    function = found[1]
    for name in function.__code__.co_names:
        if _is_effect(Known(function.__globals__.get(name))):
            notes.add(
                "CT303", node, f"{cls.__qualname__}.__del__ asks for {name}: when it runs is up to the collector."
            )
            return


def keep(notes: Notes, node: Any, scope: Scope) -> None:
    """Remember which calls get their compensation later: those kept in a variable that is compensated."""
    value = getattr(node, "value", None)
    value = value.value if isinstance(value, ast.Await) else value
    if isinstance(value, ast.Call) and isinstance(notes.resolver.resolve(value, scope), Effect):
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if names and names & _compensated(notes.node):
            notes.settled.add(id(value))


def _compensated(function: ast.AST) -> set[str]:
    return {
        child.value.id
        for child in ast.walk(function)
        if isinstance(child, ast.Attribute) and child.attr == "compensate" and isinstance(child.value, ast.Name)
    }
