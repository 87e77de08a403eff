"""Here lives reading a function's annotations without insisting on them.

A forward reference may name a class that is imported for type checkers only, or that lives in a function. Such a name
is no error: the value then travels as one without a hint, carrying its own type.
"""

import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, get_type_hints

__all__ = ["hints_of", "signature_of"]


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a function, ``return`` included; what cannot be resolved is ``Any``.

    ``Annotated`` is kept. Call it late: a name may be defined after the function.
    """
    plain = inspect.unwrap(function)
    written: Mapping[str, Any] = getattr(plain, "__annotations__", {})
    scope = getattr(plain, "__globals__", {})
    local = _closure(plain)
    return {name: _resolve(name, hint, scope, local) for name, hint in written.items()}


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, annotations left as they are written."""
    return inspect.signature(function)


def _resolve(name: str, hint: Any, scope: dict[str, Any], local: dict[str, Any]) -> Any:
    # One annotation at a time: one name that does not exist must not cost the function its other hints.
    try:
        return get_type_hints(SimpleNamespace(__annotations__={name: hint}), scope, local, include_extras=True)[name]
    except Exception:  # noqa: BLE001 - an annotation may be any expression, and is only a hint
        return Any


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    code = getattr(function, "__code__", None)
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars if code else (), getattr(function, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a name the enclosing function has not bound yet
            continue
    return found
