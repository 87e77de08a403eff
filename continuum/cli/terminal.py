"""Here lives the making harmless of texts: what users wrote must not command the terminal of whoever reads it."""

import re
from typing import Final

from rich.markup import escape

__all__ = ["harmless", "plain"]

# What moves a cursor, rings, recolours or renames a window; also what Unicode calls the C1 controls.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    r"""Return the text with control characters written out; line feeds and tabs stay.

    >>> harmless("\x1b[31mred")
    '\\x1b[31mred'
    """
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def plain(text: str) -> str:
    """Return the text as markup that shows just this text."""
    return escape(harmless(text))
