"""Here lives finding the places where code asks ``patched("id")``.

Only ids that are written there as texts are found, in the workflow and in the helpers of its own module: what its
fingerprint covers, and what is archived with it.
"""

import ast
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from continuum.determinism.sources import Definition
from continuum.model.patches import PatchSite
from continuum.replay.effects.patch import patched
from continuum.replay.locations import short_path

__all__ = ["find_patch_sites", "patch_ids"]

_NAME = "patched"


def find_patch_sites(function: Callable[..., Any], definitions: Iterable[Definition]) -> tuple[PatchSite, ...]:
    """Return the places in a function and its helpers, by id.

    Whatever is ``patched`` counts, under any name that it has in the function's module.
    """
    function = inspect.unwrap(function)
    file = short_path(function.__code__.co_filename, function.__module__)
    names = {_NAME} | {name for name, value in function.__globals__.items() if value is patched}
    found: dict[tuple[str, int, int], PatchSite] = {}
    for definition in definitions:
        for call, patch in _calls(definition, names):
            # A nested function stands in its parent's definition as well, and is named by itself.
            found[patch, call.lineno, call.col_offset] = PatchSite(patch, file, call.lineno, definition.name)
    return tuple(sorted(found.values()))


def patch_ids(source: str) -> frozenset[str]:
    """Return the ids that a source text, as it is archived with a version, asks for; none if it cannot be parsed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset()
    return frozenset(patch for _, patch in _calls(tree, {_NAME}))


def _calls(tree: ast.AST, names: set[str]) -> Iterable[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        target, first = node.func, node.args[0]
        called = target.id in names if isinstance(target, ast.Name) else getattr(target, "attr", None) == _NAME
        if called and isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield node, first.value
