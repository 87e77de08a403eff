"""Here live the texts of modules as syntax trees: what fingerprints and the scanner read, parsed once per module."""

import ast
import functools
import linecache
from collections.abc import Iterator
from types import CodeType
from typing import Any, Final

__all__ = ["Definition", "Module", "Place", "children", "find_module", "module_of", "read_lines"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_Scope = dict[str, list["Place"]]
# Fields that hold no code of their own. Most nodes are names and constants, and have no others.
_SILENT: Final = frozenset(
    {"arg", "attr", "conversion", "ctx", "id", "kind", "level", "module", "op", "ops", "type_comment"}
)
_fields: Final[dict[type, tuple[str, ...]]] = {ast.Constant: ()}


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes right below one: what ``ast.iter_child_nodes`` yields, without contexts and operators."""
    names = _fields.get(type(node))
    if names is None:
        names = _fields[type(node)] = tuple(name for name in node._fields if name not in _SILENT)
    found: list[ast.AST] = []
    for name in names:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


class Place:
    """A definition in a module, with the scopes it can see, innermost first."""

    def __init__(self, node: Definition, scopes: tuple[_Scope, ...]) -> None:
        self.node = node
        self.scopes = scopes

    @property
    def first_line(self) -> int:
        """Where it begins, decorators included, as the compiler counts."""
        return min([self.node.lineno, *(decorator.lineno for decorator in self.node.decorator_list)])

    def names(self) -> set[str]:
        """Return all names it reads."""
        return {node.id for node in ast.walk(self.node) if isinstance(node, ast.Name)}

    def resolve(self, name: str) -> list["Place"]:
        """Return the definitions of a name that this place sees (several, if there are branches)."""
        for scope in self.scopes:
            if name in scope:
                return scope[name]
        return []


class Module:
    """The text of one module.

    :ivar tree: its syntax tree; empty if the text is not what was compiled.
    :ivar places: its definitions by (qualified name, first line).
    :ivar suspects: names of what is changed anywhere in it, once somebody has looked.
    :ivar changed: its globals that its functions change, once somebody has looked.
    """

    def __init__(self, filename: str, lines: list[str]) -> None:
        self.filename = filename
        self.lines = lines
        self.places: dict[tuple[str, int], Place] = {}
        self.suspects: frozenset[str] | None = None
        self.changed: frozenset[str] | None = None
        try:
            self.tree = ast.parse("".join(lines))
        except (SyntaxError, ValueError):  # not the text that was compiled
            self.tree = ast.Module([], [])
        else:
            _collect(self.tree, "", (), self.places)

    def find(self, code: CodeType, qualname: str) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
        """Return the function that was compiled to this code; None if it is not there, or one of several."""
        place = self.places.get((qualname, code.co_firstlineno))
        if place is not None:
            return place.node if isinstance(place.node, _FUNCTIONS) else None
        if code.co_name != "<lambda>":
            return None
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        found = [node for node in self._lambdas.get(code.co_firstlineno, ()) if _parameters(node) == names]
        return found[0] if len(found) == 1 else None

    @functools.cached_property
    def _lambdas(self) -> dict[int, list[ast.Lambda]]:
        found: dict[int, list[ast.Lambda]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Lambda):
                found.setdefault(node.lineno, []).append(node)
        return found


def _parameters(node: ast.Lambda) -> tuple[str, ...]:
    arguments = node.args
    return tuple(a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))


def read_lines(function: Any) -> list[str]:
    """Return the lines of the file a function stands in, as they are now; none if there is no such file."""
    name = function.__code__.co_filename
    linecache.checkcache(name)
    return linecache.getlines(name, function.__globals__)


_modules: Final[dict[str, Module]] = {}


def module_of(filename: str, lines: list[str]) -> Module:
    """Return the module with this text. Parsed once."""
    known = _modules.get(filename)
    if known is not None and known.lines is lines:
        return known
    module = Module(filename, lines)
    if module.places:
        _modules[filename] = module
    return module


def find_module(filename: str) -> Module | None:
    """Return the module of a file; None if it cannot be read."""
    lines = linecache.getlines(filename)
    return module_of(filename, lines) if lines else None


def _collect(
    node: ast.Module | Definition, prefix: str, outer: tuple[_Scope, ...], index: dict[tuple[str, int], Place]
) -> None:
    scope: _Scope = {}
    # Methods do not see the names of their class.
    inner = outer if isinstance(node, ast.ClassDef) else (scope, *outer)
    for found in _definitions(node):
        place = Place(found, inner)
        qualname = f"{prefix}{found.name}"
        scope.setdefault(found.name, []).append(place)
        index[qualname, place.first_line] = place
        _collect(found, f"{qualname}." if isinstance(found, ast.ClassDef) else f"{qualname}.<locals>.", inner, index)


def _definitions(node: ast.AST) -> Iterator[Definition]:
    """Yield the definitions of one scope, those inside ``if``, ``try`` and the like included."""
    for child in children(node):
        if isinstance(child, _DEFINITIONS):
            yield child
        elif isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _definitions(child)
