"""Here lives a text for syntax trees that is the same in every supported Python.

``ast.dump`` is not that: its fields, their order and their defaults change between releases. This form names each
field, leaves out what is empty, and drops what has no meaning: positions, contexts, docstrings, ``pass``, comments and
formatting (which no tree holds), the pieces into which one release or another cuts an f-string.
"""

import ast
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["canonical"]

_SILENT: Final = frozenset({"ctx", "kind", "type_comment", "type_ignores", "simple"})


def canonical(node: ast.AST, *, without: frozenset[str] = frozenset()) -> str:
    """Return the text of a tree; ``without`` names fields of its topmost node that do not count."""
    return "".join(_node(node, without))


def _node(node: ast.AST, without: frozenset[str] = frozenset()) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        # ascii(): what repr() escapes depends on the release's Unicode tables.
        yield f"{type(node.value).__name__}:{node.value!a}"
        return
    yield f"{type(node).__name__}("
    for name in node._fields:
        if name in _SILENT or name in without:
            continue
        value = _meaning(node, name, getattr(node, name, None))
        if value is None or value == []:
            continue
        yield f"{name}="
        yield from _value(value)
        yield ","
    yield ")"


def _value(value: Any) -> Iterator[str]:
    if isinstance(value, ast.AST):
        yield from _node(value)
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _value(item)
            yield ","
        yield "]"
    else:
        yield ascii(value)


def _meaning(node: ast.AST, name: str, value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
        return [statement for statement in value if not _is_idle(statement)]
    if isinstance(node, ast.JoinedStr) and name == "values":
        return list(_pieces(value))
    if isinstance(node, ast.FormattedValue) and name == "format_spec" and isinstance(value, ast.JoinedStr):
        return value if list(_pieces(value.values)) else None
    return value


def _is_idle(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)  # docstrings among them
    return isinstance(statement, ast.Pass)


def _pieces(values: Iterable[ast.expr]) -> Iterator[ast.expr]:
    text = ""
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            text += value.value
            continue
        if text:
            yield ast.Constant(text)
            text = ""
        yield value
    if text:
        yield ast.Constant(text)
