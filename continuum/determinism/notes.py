"""Here live the notes that are taken while a function is read: what it breaks, and where the reading must go on."""

import ast
import functools
import types
from typing import Any, Final

from continuum.determinism.facts import Facts, Raw, Target
from continuum.determinism.pure import is_pure
from continuum.determinism.resolution import Resolver
from continuum.determinism.rules import RULES
from continuum.determinism.scopes import FunctionNode
from continuum.determinism.sources import Module
from continuum.determinism.values import origin_of

__all__ = ["CACHED", "Notes", "place"]

CACHED: Final = type(functools.lru_cache(lambda: None))
"""What ``functools.cache`` makes of a function."""

_WRAPPERS: Final = (types.FunctionType, CACHED)


class Notes:
    """What has been noticed in one function so far.

    :ivar functions: those around the present place, outermost first.
    :ivar handlers: how many ``except`` and ``finally`` blocks are around it.
    :ivar settled: ids of calls that need no compensation, or have one.
    :ivar walking: ids of expressions that are being looked at, lest one looks for ever.
    :ivar unordered: ids of expressions whose order does not matter.
    """

    def __init__(
        self, function: types.FunctionType, node: FunctionNode, receiver: type | None, *, module: Module
    ) -> None:
        self.resolver = Resolver(function, node, receiver)
        self.node = node
        self.module = module
        self.functions: list[ast.AST] = []
        self.handlers = 0
        self.settled: set[int] = set()
        self.unordered: set[int] = set()
        self.walking: set[int] = set()
        self._seen: set[tuple[str, int, int]] = set()
        first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", ()))])
        body = node.body if isinstance(node.body, list) else [node.body]
        self.facts = Facts(
            function.__code__.co_filename,
            module.lines,
            first=first,
            head=max(node.lineno, body[0].lineno - 1),
            last=node.end_lineno or node.lineno,
        )

    def add(
        self, code: str, node: ast.AST, message: str = "", *, hint: str = "", certain: bool = True, module: str = ""
    ) -> None:
        """Note that a rule is broken here; once per place."""
        line, column, last = place(node)
        if (code, line, column) not in self._seen:
            self._seen.add((code, line, column))
            rule = RULES[code]
            self.facts.findings.append(
                Raw(code, message or rule.summary, hint or rule.hint, line, column, last, certain, module)
            )

    def follow(self, function: Any, receiver: type | None, node: ast.AST) -> None:
        """Note that a function runs here, with all that it wraps."""
        passed: set[int] = set()
        while isinstance(function, _WRAPPERS) and id(function) not in passed and not is_pure(function):
            passed.add(id(function))
            if isinstance(function, types.FunctionType):
                if origin_of(function.__code__.co_filename) in {"user", "third"}:
                    self.facts.targets.append(Target(function, receiver, *place(node)))
                # functools.singledispatch
                registry = vars(function).get("registry")
                for implementation in registry.values() if isinstance(registry, types.MappingProxyType) else ():
                    if id(implementation) not in passed:
                        passed.add(id(implementation))
                        self.follow(implementation, None, node)
            function = vars(function).get("__wrapped__")


def place(node: ast.AST) -> tuple[int, int, int]:
    """Return first line, column (from 1) and last line of a node; of what has a body, the last line before that."""
    line = node.lineno  # type: ignore[attr-defined]
    body = getattr(node, "body", None)
    last = max(line, body[0].lineno - 1) if isinstance(body, list) else node.end_lineno or line  # type: ignore[attr-defined]
    return line, node.col_offset + 1, last  # type: ignore[attr-defined]
