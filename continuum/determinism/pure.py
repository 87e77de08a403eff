"""Here lives ``@pure``: the author's word that a function or class is safe in workflows."""

from typing import Any, Final, TypeVar

from continuum.errors import DeclarationError

__all__ = ["is_pure", "pure"]

T = TypeVar("T")

_MARK: Final = "__continuum_pure__"


def pure(decorated: T) -> T:
    """Mark a function or class as safe in workflow code: it answers the same each time it is asked the same.

    The scanner follows plain helpers by itself, so most need no mark. Give it to what only looks unsafe (a cache that
    does not change answers), and to what cannot be followed. Nothing inside is looked at, and nothing is reported
    there. The function itself is returned, as it was.

    Raises ``DeclarationError`` for what is neither a function nor a class, nor anything callable.
    """
    target: Any = decorated.__func__ if isinstance(decorated, (staticmethod, classmethod)) else decorated
    if not callable(target):
        raise DeclarationError(f"@pure needs a function or a class, not {decorated!r}.")
    try:
        # Itself, not True: functools.wraps copies attributes, and subclasses inherit them.
        setattr(target, _MARK, target)
    except (AttributeError, TypeError):
        raise DeclarationError(
            f"@pure cannot mark {decorated!r}, which takes no attributes: write a def around it and mark that."
        ) from None
    return decorated


def is_pure(value: Any) -> bool:
    """Say whether a function, method or class is marked itself: neither a wrapper around it nor a subclass is."""
    value = getattr(value, "__func__", value)
    return value is not None and getattr(value, _MARK, None) is value
