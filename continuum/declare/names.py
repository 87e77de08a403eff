"""Here lives what may be declared, and under which name.

A declaration is found again by its name, in another process and after years, so it must be a function that stands
somewhere: no lambda, no method of an object, no partial.
"""

import inspect
from collections.abc import Callable
from typing import Any

from continuum.errors import DeclarationError
from continuum.model.names import MAX_NAME, flaw_of, shown

__all__ = ["MAX_NAME", "check_function", "check_name", "location_of", "place_of"]


def check_function(function: Any, *, what: str) -> None:
    """Refuse what cannot be declared. Raises ``DeclarationError`` saying what to write instead."""
    if isinstance(function, (staticmethod, classmethod, property)):
        kind = type(function).__name__
        raise DeclarationError(
            f"@{what} above @{kind}: write @staticmethod above @{what}, or better a module-level function."
        )
    if what == "activity" and hasattr(function, "delay") and hasattr(function, "run"):
        raise DeclarationError(
            f"{function!r} is a Celery task: write activity.from_celery(task), which keeps it as it is."
        )
    if not inspect.isfunction(function):
        raise DeclarationError(f"@{what} needs a function, not {function!r}: write a def around it and decorate that.")
    name = function.__qualname__
    if function.__name__ == "<lambda>":
        raise DeclarationError(
            f"@{what} cannot take a lambda ({location_of(function)}): it has no name to be found by; write a def."
        )
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(f"{name} is a generator: @{what} needs a function that returns its result.")
    owner, _, _ = name.rpartition(".")
    first = next(iter(inspect.signature(function).parameters), None)
    if owner and not owner.endswith("<locals>") and first in {"self", "cls"}:
        raise DeclarationError(
            f"{name} is a method: its object cannot be recorded. Make it a function of plain arguments,"
            f" or a @staticmethod above @{what}."
        )


def check_name(name: object, *, what: str) -> str:
    """Return the name. Raises ``DeclarationError`` unless it is a text of 1 to 200 characters that can be stored."""
    flaw = flaw_of(name)
    if flaw is not None:
        raise DeclarationError(
            f"{what}={shown(name)} is not valid ({flaw}): write a text of 1 to {MAX_NAME} characters."
        )
    assert isinstance(name, str)
    return name


def place_of(function: Callable[..., Any]) -> str:
    """Return what identifies the piece of code, however often its module is reloaded."""
    return f"{function.__module__}:{function.__qualname__}"


def location_of(function: Callable[..., Any]) -> str:
    """Return ``file:line`` of the function."""
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"
