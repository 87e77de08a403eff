"""Here live the comments by which an author takes the word for a place: ``# continuum: allow[CT101] reason``.

On the line of a finding it covers that line; on the line of a ``def`` (or of its signature), the whole function.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from continuum.determinism.rules import RULES, match_codes
from continuum.errors import ConfigError

__all__ = ["Suppression", "find_suppressions", "flaws_of"]

_COMMENT: Final = re.compile(r"#\s*continuum:\s*allow\s*(?:\[(?P<codes>[^\]]*)\])?\s*:?\s*(?P<reason>.*?)\s*$")
_MARK: Final = "continuum:"


class Suppression(msgspec.Struct, frozen=True):
    """One comment.

    :ivar codes: the rules it silences; those that exist.
    :ivar written: what stands between its brackets.
    :ivar unknown: what it names that is no rule.
    """

    line: int
    column: int
    codes: tuple[str, ...]
    unknown: tuple[str, ...]
    reason: str
    written: str = ""

    def covers(self, code: str) -> bool:
        """Whether it silences this rule."""
        return code in self.codes


def find_suppressions(lines: list[str], first: int, last: int) -> list[Suppression]:
    """Return the suppressions between two lines of a file (from 1, both included)."""
    return list(_read(lines, first, last))


def _read(lines: list[str], first: int, last: int) -> Iterator[Suppression]:
    for number, line in enumerate(lines[first - 1 : last], start=first):
        if _MARK not in line:
            continue
        found = _COMMENT.search(line)
        if found is None or _is_in_text(line[: found.start()]):
            continue
        codes: list[str] = []
        unknown: list[str] = []
        for given in filter(None, re.split(r"[\s,]+", found["codes"] or "")):
            try:
                codes += match_codes(given)
            except ConfigError:
                unknown.append(given)
        if found["codes"] is None or not (codes or unknown):
            unknown.append("")
        written = (found["codes"] or "").strip()
        yield Suppression(number, found.start() + 1, tuple(codes), tuple(unknown), found["reason"], written)


def _is_in_text(before: str) -> bool:
    """Whether a comment that begins here would begin in a string of one line."""
    quote = ""
    escaped = False
    for character in before:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
    return bool(quote)


def flaws_of(suppressions: Iterable[Suppression]) -> Iterator[tuple[str, str, Suppression]]:
    """Yield what is wrong with them as they stand: (code, message, suppression)."""
    for one in suppressions:
        for name in one.unknown:
            told = f"There is no rule {name!r} to suppress." if name else "A suppression names no rule: allow[CT101]."
            yield "CT003", told, one
        if not one.reason:
            yield "CT002", RULES["CT002"].summary, one
