"""Here lives what tells two versions of a workflow's code apart.

The fingerprint covers the function and whatever it uses of its own module: helper functions and classes, theirs, and so
on. Activities and other workflows are not followed, because replay does not run them. Comments, docstrings, formatting,
position in the file, the function's own name and its ``@workflow`` line make no difference; neither does the Python
release. What lies in other modules, and constants of the module, are not covered: a run that meets changed code of that
kind is caught, or not, by replay itself.

Without source text (a REPL, ``exec``, a module shipped without it) the fingerprint is taken from the names and the
constants of the compiled function instead, without its helpers. That one may change with the Python release, and says
less.
"""

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any, Final

from continuum.declare.syntax import canonical
from continuum.determinism.sources import Definition, Place, module_of, read_lines

__all__ = ["Fingerprint"]

# 128 bits: nobody forges these, they only have to differ.
_HEX_DIGITS: Final = 32


class Fingerprint:
    """The identity of one function's code. Made at declaration, when the file is still the code that runs.

    Computed when first asked for, because helpers may stand below the function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = inspect.unwrap(function)
        self._lines = read_lines(self._function)

    @functools.cached_property
    def hash(self) -> str:
        """The fingerprint, 32 hexadecimal digits."""
        parts = self._parts
        if parts:
            texts = [_describe(parts[0]), *sorted(canonical(part.node) for part in parts[1:])]
        else:
            texts = [self._function.__qualname__, *_describe_code(self._function.__code__)]
        digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:_HEX_DIGITS]

    def joined(self, contract: str) -> str:
        """Return the fingerprint of the code together with the contract of its signals."""
        return hashlib.sha256(f"{self.hash}\0{contract}".encode()).hexdigest()[:_HEX_DIGITS]

    @functools.cached_property
    def source(self) -> str:
        """The text of the function, then that of its helpers in the order of the file."""
        parts = self._parts
        if not parts:
            return f"# no source text was available for {self._function.__module__}:{self._function.__qualname__}\n"
        ordered = [parts[0], *sorted(parts[1:], key=lambda part: part.first_line)]
        return "\n\n".join(self._text(part) for part in ordered)

    @property
    def definitions(self) -> list[Definition]:
        """All that it covers: the function, then its helpers."""
        return [part.node for part in self._parts]

    def _text(self, part: Place) -> str:
        return textwrap.dedent("".join(self._lines[part.first_line - 1 : part.node.end_lineno]))

    @functools.cached_property
    def _parts(self) -> list[Place]:
        """The function itself, then everything of its module that it uses; empty if it cannot be found."""
        places = module_of(self._function.__code__.co_filename, self._lines).places
        start = places.get((self._function.__qualname__, self._function.__code__.co_firstlineno))
        if start is None:
            return []
        parts, seen, bound = [start], {id(start.node)}, _bound_names(self._function)
        for part in parts:  # grows while it is walked
            for name in sorted(part.names()):
                for helper in part.resolve(name):
                    if id(helper.node) not in seen and not _is_declared(helper.node, bound.get(name)):
                        seen.add(id(helper.node))
                        parts.append(helper)
        return parts


def _describe(main: Place) -> str:
    kept = [decorator for decorator in main.node.decorator_list if _last_name(decorator) != "workflow"]
    texts = [canonical(main.node, without=frozenset({"name", "decorator_list"})), *map(canonical, kept)]
    return "\0".join(texts)


def _is_declared(node: Definition, value: object) -> bool:
    """Whether a definition is an activity or a workflow, which replay does not run."""
    if getattr(type(value), "is_declaration", False):
        return True
    return any(_last_name(decorator) in {"activity", "workflow"} for decorator in node.decorator_list)


def _last_name(decorator: ast.expr) -> str | None:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(target, ast.Attribute):
        return target.attr
    return target.id if isinstance(target, ast.Name) else None


def _bound_names(function: Any) -> Mapping[str, object]:
    """Return what the function's free names stand for now."""
    bound: dict[str, object] = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            bound[name] = cell.cell_contents
        except ValueError:  # not bound yet
            bound.pop(name, None)
    return bound


# ------------------------------------------------------------------ no source text


def _describe_code(code: CodeType) -> Iterator[str]:
    yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_name
            yield from _describe_code(constant)
        elif isinstance(constant, frozenset):
            yield ascii(sorted(map(ascii, constant)))
        else:
            yield f"{type(constant).__name__}:{constant!a}"
