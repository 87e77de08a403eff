"""Here live the words of the scanner: what it looks for, and what it has found."""

from enum import StrEnum

import msgspec

__all__ = ["Finding", "Link", "Rule", "Severity"]


class Severity(StrEnum):
    """What becomes of a finding."""

    ERROR = "error"
    WARNING = "warning"
    OFF = "off"


class Rule(msgspec.Struct, frozen=True):
    """One thing that workflow code must not, or had better not, do.

    :ivar code: ``CT`` and three digits; the first says the family.
    :ivar name: a short name in words-with-hyphens.
    :ivar severity: what it is unless configured otherwise.
    :ivar summary: what is wrong, in one sentence.
    :ivar hint: what to write instead.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    hint: str


class Link(msgspec.Struct, frozen=True):
    """One call on the way from the workflow to what was found.

    :ivar function: qualified name of the function that is called.
    :ivar file: and ``line``: where it is called.
    """

    function: str
    file: str
    line: int


class Finding(msgspec.Struct, frozen=True):
    """One place in workflow code, or in what it calls, that breaks a rule.

    :ivar code: of the rule.
    :ivar message: what is wrong here.
    :ivar hint: what to write instead.
    :ivar line: from 1. ``column`` from 1, too.
    :ivar workflow: name of the workflow from which it is reached.
    :ivar chain: the calls from the workflow to the function it is in; empty in the workflow itself.
    """

    code: str
    severity: Severity
    message: str
    hint: str
    file: str
    line: int
    column: int
    workflow: str
    chain: tuple[Link, ...] = ()
