"""Here lives what happens when a workflow is declared: its code is read, errors refuse it, warnings are given.

A decorator runs in the middle of an import, when what stands below the workflow is not bound yet. What such names stand
for is looked at again at the workflow's first use, and when a process has imported its modules.
"""

import warnings
import weakref
from collections.abc import Callable
from typing import Any, Final

from continuum.determinism.findings import Finding, Severity
from continuum.determinism.policy import Policy, checks_are_postponed
from continuum.determinism.report import DeterminismWarning, describe, refusal
from continuum.determinism.scanner import Scan, examine
from continuum.errors import DeterminismError

__all__ = ["Check", "finish_checks"]


class Check:
    """The reading of one workflow's code."""

    def __init__(self, function: Callable[..., Any], *, workflow: str, signals: frozenset[str] | None) -> None:
        self._function = function
        self._workflow = workflow
        self._signals = signals
        self._finished = False

    def begin(self) -> None:
        """Read what is bound so far. Raises ``DeterminismError``."""
        if checks_are_postponed():
            return  # whoever asked for that collects all findings
        self._judge(self.examine())
        if not self._finished:
            _unfinished.add(self)

    def finish(self) -> None:
        """Read again if names were unbound. Raises ``DeterminismError``, each time until its module is mended."""
        if not self._finished and not checks_are_postponed():
            self._judge(self.examine())
            # What is unbound when everything has been imported will never mean anything.
            self._finished = True
            _unfinished.discard(self)

    def examine(self, policy: Policy | None = None) -> Scan:
        """Return what there is to say, without raising."""
        return examine(self._function, workflow=self._workflow, policy=policy, signals=self._signals)

    def _judge(self, scan: Scan) -> None:
        if any(finding.severity is Severity.ERROR for finding in scan.findings):
            raise DeterminismError(refusal(self._workflow, scan.findings), findings=scan.findings)
        self._finished = not scan.pending
        for finding in scan.findings:
            _warn(finding)


_unfinished: Final[weakref.WeakSet[Check]] = weakref.WeakSet()
_told: Final[set[tuple[str, str, int, int]]] = set()


def finish_checks() -> None:
    """Finish the reading of all workflows declared so far. Raises ``DeterminismError`` that tells of all of them."""
    errors: list[DeterminismError] = []
    for check in list(_unfinished):
        try:
            check.finish()
        except DeterminismError as error:
            errors.append(error)
    if errors:
        findings = tuple(finding for error in errors for finding in error.findings)
        raise DeterminismError("\n\n".join(sorted(error.message for error in errors)), findings=findings)


def _warn(finding: Finding) -> None:
    place = (finding.code, finding.file, finding.line, finding.column)
    if place not in _told:
        _told.add(place)
        warnings.warn_explicit(describe(finding), DeterminismWarning, finding.file, finding.line)
