"""Here lives the scanner: it reads a workflow and all code of the user's that it reaches, and returns what it found.

Each function is read once per process; what it breaks and what it calls does not depend on who asks. A scan walks
along the calls, nearest first, so that each finding comes with the shortest way to it, and applies what is the
workflow's own: its signals, its compensations, the policy, the suppressions in the files.

Reading runs nothing: no import, no attribute hook, no property. A name that means nothing yet, because the module is
still being imported, is looked at again with the next scan (:attr:`Scan.pending` says whether that is worth it).
"""

import collections
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from continuum.determinism.facts import Facts, Raw, Target
from continuum.determinism.findings import Finding, Link, Severity
from continuum.determinism.policy import Policy, current_policy
from continuum.determinism.pure import is_pure
from continuum.determinism.reader import Reader
from continuum.determinism.rules import RULES
from continuum.determinism.sources import module_of, read_lines
from continuum.determinism.suppressions import Suppression, find_suppressions, flaws_of
from continuum.determinism.values import origin_of

__all__ = ["Scan", "examine", "scan"]

_OWN: Final = frozenset({"CT002", "CT003", "CT004"})  # what is wrong with a suppression cannot be suppressed


class Scan(msgspec.Struct, frozen=True):
    """What a scan has found.

    :ivar pending: names that meant nothing yet; another scan may find more.
    :ivar read: how many functions it went through.
    """

    findings: tuple[Finding, ...]
    pending: frozenset[str]
    read: int


def scan(
    function: Callable[..., Any],
    *,
    workflow: str,
    policy: Policy | None = None,
    signals: frozenset[str] | None = None,
) -> tuple[Finding, ...]:
    """Return what breaks the rules in a workflow's function, and in all it reaches, nearest first.

    :param workflow: its name, for the findings.
    :param policy: how severe the findings are; default that of the process.
    :param signals: those it declares; None if it takes any.

    Raises ``ConfigError`` if the environment's policy is not valid.
    """
    return examine(function, workflow=workflow, policy=policy, signals=signals).findings


def examine(
    function: Callable[..., Any],
    *,
    workflow: str,
    policy: Policy | None = None,
    signals: frozenset[str] | None = None,
) -> Scan:
    """Do what `scan` does, and say what could not be known yet."""
    return _Walk(workflow, current_policy() if policy is None else policy, signals).run(function)


class _Walk:
    """One scan."""

    def __init__(self, workflow: str, policy: Policy, signals: frozenset[str] | None) -> None:
        self.workflow = workflow
        self.policy = policy
        self.signals = signals
        self.found: list[Finding] = []
        self.pending: set[str] = set()
        self.family: list[tuple[Facts, tuple[Link, ...]]] = []

    def run(self, function: Callable[..., Any]) -> Scan:
        start = _unwrapped(function)
        if start is None:
            return Scan((), frozenset(), 0)
        root = str(start.__globals__.get("__name__")).partition(".")[0]
        home = start.__code__.co_filename
        queue: collections.deque[tuple[Target, tuple[Link, ...]]] = collections.deque()
        queue.append((Target(start, None, 0, 0, 0), ()))
        reached: set[tuple[int, type | None]] = {(id(start), None)}
        while queue:
            target, chain = queue.popleft()
            facts = read(target.function, target.receiver)
            if facts is None:
                self._unreadable(target.function, chain)
                continue
            self.family.append((facts, chain))
            self.pending |= facts.pending
            for called in facts.targets:
                key = (id(called.function), called.receiver)
                if key in reached or not self._follows(called.function, root, home):
                    continue
                reached.add(key)
                link = Link(called.function.__qualname__, facts.file, called.line)
                queue.append((called, (*chain, link)))
        for facts, chain in self.family:
            self._judge(facts, chain)
        return Scan(tuple(self.found), frozenset(self.pending), len(self.family))

    def _follows(self, function: types.FunctionType, root: str, home: str) -> bool:
        module = str(function.__globals__.get("__name__"))
        if self.policy.is_trusted(module):
            return False
        file = function.__code__.co_filename
        origin = origin_of(file)
        if origin == "ours":
            return file == home  # the demo's
        # An application may be installed as a package, too: what stands beside the workflow is the user's.
        return origin in {"user", "none"} or file == home or module.partition(".")[0] == root

    def _unreadable(self, function: types.FunctionType, chain: tuple[Link, ...]) -> None:
        code = function.__code__
        if not chain or not code.co_filename.startswith("<"):  # not what dataclasses write
            rule = RULES["CT001"]
            told = f"The source of {function.__qualname__} cannot be read, so nobody has looked at it."
            raw = Raw("CT001", told, rule.hint, code.co_firstlineno, 1, code.co_firstlineno)
            self._add(raw, code.co_filename, chain)

    def _judge(self, facts: Facts, chain: tuple[Link, ...]) -> None:
        suppressions = find_suppressions(facts.lines, facts.first, facts.last)
        used: set[int] = set()
        for raw in (*facts.findings, *self._about_the_workflow(facts, chain)):
            silenced = [one for one in suppressions if one.covers(raw.code) and _reaches(one, facts, raw)]
            used.update(one.line for one in silenced)
            if not silenced:
                self._add(raw, facts.file, chain)
        for code, message, one in flaws_of(suppressions):
            self._add(_at(one, code, message), facts.file, chain)
        for one in suppressions:
            # Whether those of a workflow's own rules are needed depends on the workflow.
            useless = one.line not in used and one.codes and not facts.pending
            if useless and not all(code in {"CT501", "CT601"} for code in one.codes):
                told = f"allow[{one.written}] suppresses nothing."
                self._add(_at(one, "CT004", told), facts.file, chain)

    def _about_the_workflow(self, facts: Facts, chain: tuple[Link, ...]) -> Iterator[Raw]:
        if self.signals is not None:
            for wait in facts.waits:
                if wait.signal not in self.signals:
                    known = ", ".join(sorted(self.signals)) or "none"
                    told = (
                        f"{self.workflow} waits for signal {wait.signal!r} and does not declare it, so nobody can send"
                        f" it. Declared: {known}."
                    )
                    hint = RULES["CT601"].hint
                    # A helper may serve several workflows, and wait for each one's own.
                    yield Raw("CT601", told, hint, wait.line, wait.column, wait.last, certain=not chain)
        if facts.uncompensated and any(other.compensates for other, _ in self.family):
            for name, line, column, last in facts.uncompensated:
                told = f"{name} has no compensation, and {self.workflow} compensates all."
                yield Raw("CT501", told, RULES["CT501"].hint, line, column, last)

    def _add(self, raw: Raw, file: str, chain: tuple[Link, ...]) -> None:
        severity = self.policy.severity_of(raw.code)
        if severity is Severity.OFF or (raw.module and self.policy.is_trusted(raw.module)):
            return
        if not raw.certain:
            severity = Severity.WARNING
        finding = Finding(raw.code, severity, raw.message, raw.hint, file, raw.line, raw.column, self.workflow, chain)
        self.found.append(finding)


def _unwrapped(function: Any) -> types.FunctionType | None:
    passed: set[int] = set()
    while isinstance(function, types.FunctionType) and not is_pure(function) and id(function) not in passed:
        if "__wrapped__" not in vars(function):
            return function
        passed.add(id(function))
        function = vars(function)["__wrapped__"]
    return None


def _at(one: Suppression, code: str, message: str) -> Raw:
    return Raw(code, message, RULES[code].hint, one.line, one.column, one.line)


def _reaches(one: Suppression, facts: Facts, raw: Raw) -> bool:
    return facts.first <= one.line <= facts.head or raw.line <= one.line <= raw.last


# ------------------------------------------------------------------ reading, once

_known: Final[weakref.WeakKeyDictionary[types.FunctionType, dict[type | None, Facts | None]]] = (
    weakref.WeakKeyDictionary()
)


def read(function: types.FunctionType, receiver: type | None) -> Facts | None:
    """Return what one function does; None if its source cannot be read. Read again while names are pending."""
    known = _known.setdefault(function, {})
    if receiver in known:
        facts = known[receiver]
        if facts is None or not facts.pending:
            return facts
    lines = read_lines(function)
    module = module_of(function.__code__.co_filename, lines)
    node = module.find(function.__code__, function.__code__.co_qualname)
    try:
        facts = None if node is None else Reader(function, node, receiver, module=module).read()
    except RecursionError:  # an expression of a thousand parts, as programs write it
        facts = None
    known[receiver] = facts
    return facts
