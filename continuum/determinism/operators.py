"""Here lives which methods of a class an expression calls without naming them: operators, loops, formatting."""

import ast
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["BUILT_IN", "OPERATING", "hidden_calls"]

_OPERATORS: Final[dict[type[ast.AST], str]] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "truediv",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.LShift: "lshift",
    ast.RShift: "rshift",
    ast.BitOr: "or",
    ast.BitXor: "xor",
    ast.BitAnd: "and",
    ast.MatMult: "matmul",
    ast.USub: "neg",
    ast.UAdd: "pos",
    ast.Invert: "invert",
    ast.Not: "bool",
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}
_ITEMS: Final[dict[type[ast.AST], str]] = {ast.Load: "__getitem__", ast.Store: "__setitem__", ast.Del: "__delitem__"}
_FORMATTED: Final = {-1: "__format__", 97: "__repr__", 114: "__repr__", 115: "__str__"}
_WALKED: Final = ("__iter__", "__next__", "__aiter__", "__anext__")
_ENTERED: Final = ("__enter__", "__exit__", "__aenter__", "__aexit__")

OPERATING: Final = frozenset(
    {
        *(
            ast.BinOp,
            ast.UnaryOp,
            ast.Compare,
            ast.AugAssign,
            ast.Subscript,
            ast.FormattedValue,
            ast.Await,
            ast.Starred,
        ),
        *(ast.For, ast.AsyncFor, ast.comprehension, ast.withitem, ast.If, ast.While, ast.IfExp),
    }
)
"""The nodes that may call something without naming it."""

_BUILT_IN: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    *((kind, _WALKED) for kind in (list, tuple, set, frozenset, sorted, enumerate, sum, min, max, any, all, iter, map)),
    *((kind, (f"__{kind.__name__}__",)) for kind in (len, int, float, bool, hash, abs, round, format, reversed)),
    *((next, ("__next__",)), (str, ("__str__", "__repr__")), (repr, ("__repr__",)), (bytes, ("__bytes__",))),
)
BUILT_IN: Final = {id(function): names for function, names in _BUILT_IN}
"""What functions of Python call of their arguments, by the function's id."""


def hidden_calls(node: Any) -> Iterator[tuple[ast.expr, tuple[str, ...]]]:
    """Yield the operands of a node, and the names of the methods that are called of them."""
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            name = _OPERATORS[type(op)]
            yield left, (f"__{name}__",)
            yield right, (f"__r{name}__",)
        case ast.AugAssign(target=target, op=op):
            name = _OPERATORS[type(op)]
            yield target, (f"__i{name}__", f"__{name}__")
        case ast.UnaryOp(op=op, operand=operand):
            yield operand, (f"__{_OPERATORS[type(op)]}__",)
        case ast.Compare(left=left, ops=ops, comparators=others):
            for how, one, other in zip(ops, (left, *others), others, strict=False):
                if isinstance(how, (ast.In, ast.NotIn)):
                    yield other, ("__contains__", "__iter__")
                elif type(how) in _OPERATORS:
                    yield one, (f"__{_OPERATORS[type(how)]}__",)
        case ast.Subscript(value=value, ctx=context):
            yield value, (_ITEMS[type(context)],)
        case ast.FormattedValue(value=value, conversion=conversion):
            yield value, (_FORMATTED.get(conversion, "__format__"), "__str__")
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield test, ("__bool__", "__len__")
        case ast.Await(value=value):
            yield value, ("__await__",)
        case ast.For(iter=walked) | ast.AsyncFor(iter=walked) | ast.comprehension(iter=walked):
            yield walked, _WALKED
        case ast.Starred(value=walked):
            yield walked, _WALKED
        case ast.withitem(context_expr=entered):
            yield entered, _ENTERED
