"""Here lives how findings are told: to people as ruff would, to programs as JSON values."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from continuum.determinism.findings import Finding, Severity
from continuum.determinism.rules import RULES

__all__ = ["DeterminismWarning", "as_value", "describe", "refusal", "report", "sorted_findings", "summary"]

_GUIDE: Final = "docs/how_to/write_deterministic_code.md"


class DeterminismWarning(UserWarning):
    """Workflow code does what is probably wrong; the message says what, where, and what to write instead."""


def describe(finding: Finding, *, base: str = "") -> str:
    """Return the finding as text: where and what, how it is reached, what to write instead.

    :param base: a directory; what lies below it is shown relative to it.
    """
    place = f"{_shown(finding.file, base)}:{finding.line}:{finding.column}"
    lines = [f"{place}: {finding.code} {finding.severity.value}: {finding.message}"]
    if finding.chain:
        steps = [f"{link.function} ({_shown(link.file, base)}:{link.line})" for link in finding.chain]
        lines.append("    " + " → ".join([finding.workflow, *steps]))
    lines.append(f"    help: {finding.hint}")
    return "\n".join(lines)


def summary(findings: Iterable[Finding]) -> str:
    """Return how many there are of each kind, as one line."""
    counts = dict.fromkeys((Severity.ERROR, Severity.WARNING), 0)
    for finding in findings:
        counts[finding.severity] = counts.get(finding.severity, 0) + 1
    told = [
        f"{counts[severity]} {severity.value}{'' if counts[severity] == 1 else 's'}"
        for severity in (Severity.ERROR, Severity.WARNING)
        if counts[severity]
    ]
    return ", ".join(told) or "nothing found"


def report(findings: Iterable[Finding], *, base: str = "") -> str:
    """Return all findings as text, in the order of the code, and the summary as last line."""
    ordered = sorted_findings(findings)
    return "\n".join([*(describe(finding, base=base) for finding in ordered), summary(ordered)])


def refusal(workflow: str, findings: Sequence[Finding]) -> str:
    """Return the message of the ``DeterminismError`` that refuses a workflow."""
    told = "\n".join(describe(finding) for finding in sorted_findings(findings))
    return (
        f"Workflow {workflow} could not be replayed ({summary(findings)}):\n{told}\n"
        f"If one of them is right as it is, say why on its line: # continuum: allow[{findings[0].code}] reason\n"
        f"More in {_GUIDE}."
    )


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return them by file, line and column; each place and rule once, with the shortest way that leads there."""
    nearest: dict[tuple[str, int, int, str, str], Finding] = {}
    for finding in findings:
        place = (finding.file, finding.line, finding.column, finding.code, finding.message)
        known = nearest.get(place)
        if known is None or len(finding.chain) < len(known.chain):
            nearest[place] = finding
    return [nearest[place] for place in sorted(nearest)]


def as_value(finding: Finding) -> dict[str, Any]:
    """Return the finding as plain values, for JSON."""
    return {
        "code": finding.code,
        "name": RULES[finding.code].name,
        "severity": finding.severity.value,
        "message": finding.message,
        "hint": finding.hint,
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "workflow": finding.workflow,
        "chain": [{"function": link.function, "file": link.file, "line": link.line} for link in finding.chain],
    }


def _shown(file: str, base: str) -> str:
    folder = base.rstrip("/\\")
    if folder and file.startswith(folder) and file[len(folder) : len(folder) + 1] in {"/", "\\"}:
        return file[len(folder) + 1 :]
    return file
