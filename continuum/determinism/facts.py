"""Here lives what is known of one function once it has been read: what it breaks, what it calls, what it waits for."""

from typing import Any

import msgspec

__all__ = ["Facts", "Raw", "Target", "Wait"]


class Raw(msgspec.Struct, frozen=True, eq=False):
    """A finding before anybody has decided how severe it is.

    :ivar certain: else it is a guess, and never more than a warning.
    :ivar last: the line on which the expression ends.
    :ivar module: whose code it is about; trusting that module settles it. Empty if trust does not matter.
    """

    code: str
    message: str
    hint: str
    line: int
    column: int
    last: int
    certain: bool = True
    module: str = ""


class Target(msgspec.Struct, frozen=True, eq=False):
    """A function that is called, or whose name is passed on; ``receiver`` is the class it is a method of."""

    function: Any
    receiver: type | None
    line: int
    column: int
    last: int


class Wait(msgspec.Struct, frozen=True, eq=False):
    """A place that waits for a signal of a known name."""

    signal: str
    line: int
    column: int
    last: int


class Facts(msgspec.Struct, eq=False):
    """What one function does.

    :ivar first: its first line, and ``head``, the last one before its body: where a suppression covers all of it.
    :ivar pending: free names that meant nothing yet when it was read.
    :ivar uncompensated: calls of activities without a compensation: (name, line, column, last line).
    :ivar compensates: whether it calls ``compensate_all``.
    """

    file: str
    lines: list[str]
    first: int
    head: int
    last: int
    findings: list[Raw] = []
    targets: list[Target] = []
    waits: list[Wait] = []
    uncompensated: list[tuple[str, int, int, int]] = []
    compensates: bool = False
    pending: frozenset[str] = frozenset()
