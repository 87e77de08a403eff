"""Here lives how values are written into the text of a statement.

Hot statements are prepared once per connection and called with ``EXECUTE name('{…}', …)``: one round trip, and a text
that is built by a handful of ``str.join`` and ``str.replace`` over whole columns, not by a call per value (psycopg2's
own adaptation costs a microsecond for each).

# Invariant: nothing a caller can choose reaches a statement but through these functions. Each returns one complete
SQL expression, in which quotes are doubled; ``standard_conforming_strings`` is on in every session of ours, so a
backslash means nothing to SQL. Inside an array literal every text is quoted, with backslash and quote escaped.
# Invariant: a NUL ends a statement early, on the wire. `whole` refuses it, once per statement.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from continuum.errors import JournalError

__all__ = ["NOTHING", "ids", "integer", "integers", "microseconds", "sparse", "text", "texts", "whole", "words"]

# Control characters that JSON cannot hold and names do not: they part the elements and stand for NULL until the
# escapes are in place. A text that does hold them is escaped by itself.
_COMMA = "\x1f"
_NULL = "\x1e"

NOTHING: Final = "'{}'"  # an empty array of any type


def text(value: str | None) -> str:
    """Return a text, json or uuid literal."""
    return "null" if value is None else "'" + value.replace("'", "''") + "'"


def integer(value: int | None) -> str:
    """Return an integer literal."""
    return "null" if value is None else str(int(value))


def microseconds(duration: timedelta) -> str:
    """Return a duration as an integer literal of microseconds."""
    return str(duration // timedelta(microseconds=1))


def integers(values: Iterable[int | None]) -> str:
    """Return an integer array literal; None is NULL."""
    joined = ",".join(map(str, values))
    return f"'{{{joined.replace('None', 'null')}}}'" if "N" in joined else f"'{{{joined}}}'"


def ids(values: Iterable[str]) -> str:
    """Return a uuid array literal; what is no uuid is refused by the database."""
    return "'{" + ",".join(values).replace("'", "''") + "}'"


def words(values: Iterable[str]) -> str:
    """Return a text array literal of our own plain words (types, states): letters and underscores only."""
    return "'{" + ",".join(values) + "}'"


def texts(values: Sequence[str | None]) -> str:
    """Return a text or json array literal; None is NULL."""
    if not values:
        return NOTHING
    nulls = values.count(None)
    joined = _COMMA.join([_NULL if value is None else value for value in values] if nulls else values)  # type: ignore[arg-type]
    if joined.count(_COMMA) != len(values) - 1 or joined.count(_NULL) != nulls:
        return _texts_one_by_one(values)
    literal = "'{\"" + _escape(joined).replace(_COMMA, '","') + "\"}'"
    return literal.replace(f'"{_NULL}"', "null") if nulls else literal


def sparse(values: Sequence[str | None]) -> str:
    """Return a text array literal for a column beside others: ``unnest`` fills a shorter array up with NULL."""
    return NOTHING if values.count(None) == len(values) else texts(values)


def _texts_one_by_one(values: Sequence[str | None]) -> str:
    return "'{" + ",".join(["null" if value is None else f'"{_escape(value)}"' for value in values]) + "}'"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''")


def whole(statement: str) -> str:
    """Return the statement if it can travel; raise ``JournalError`` if it holds what Postgres cannot store."""
    if "\0" in statement:
        raise JournalError("a value holds a NUL character, which Postgres cannot store; remove or encode it")
    if not statement.isascii():
        try:
            statement.encode()
        except UnicodeEncodeError as error:
            piece = ascii(error.object[error.start : error.end])
            # Never the statement around it: it may hold others' values.
            raise JournalError(
                f"a value holds half a surrogate pair ({piece}), which is no text; remove or encode it"
            ) from None
    return statement
