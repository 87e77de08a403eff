"""Here lives what may be a name: of a workflow, an activity, a signal, a patch, anything that is stored and searched.

One check for all floors, because what workflow code asks for is stored long after it has gone on: a name that cannot
be stored must be refused where it is used, or the run could never be committed.
"""

from typing import Final

__all__ = ["MAX_EFFECT_NAME", "MAX_NAME", "check_effect_name", "flaw_of", "is_storable", "shown"]

# What the journal's text columns are meant for; longer names are no help to anybody reading a table of runs.
MAX_NAME: Final = 200
# Of what only a history names. The qualified name of a nested function is longer than what people choose.
MAX_EFFECT_NAME: Final = 500


def is_storable(text: str) -> bool:
    """Say whether Postgres can store the text: no NUL, no half of a surrogate pair."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def flaw_of(name: object, limit: int = MAX_NAME) -> str | None:
    """Return what is wrong with a name, None if nothing is."""
    if not isinstance(name, str):
        return f"it is a {type(name).__name__}, not a text"
    if not name:
        return "it is empty"
    if len(name) > limit:
        return f"it has {len(name):,} characters, and {limit} are the most"
    return None if is_storable(name) else "NUL characters and halves of surrogate pairs cannot be stored"


def check_effect_name(name: object, what: str, *, limit: int = MAX_EFFECT_NAME) -> str:
    """Return the name. Raises ``TypeError`` for what is no text, ``ValueError`` for one that cannot be a name."""
    flaw = flaw_of(name, limit)
    if flaw is None:
        assert isinstance(name, str)
        return name
    message = f"{what} {shown(name)} is not valid: {flaw}"
    if isinstance(name, str) and name:
        raise ValueError(message)
    raise TypeError(message)


def shown(value: object) -> str:
    """Return a value as an error shows it, whatever it is: some have no text, or one deeper than Python goes."""
    try:
        return f"{value!a:.100}"
    except Exception:  # noqa: BLE001 - it may be anybody's __repr__
        return f"(some {type(value).__name__})"
