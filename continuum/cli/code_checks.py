"""Here lives what ``continuum check MODULE…`` finds out: whether the code of workflows can be replayed."""

import msgspec

from continuum.cli.modules import import_targets
from continuum.declare.registry import REGISTRY
from continuum.declare.workflows import Workflow
from continuum.determinism.findings import Finding, Severity
from continuum.determinism.policy import Policy, current_policy, postponed_checks
from continuum.determinism.report import sorted_findings, summary
from continuum.determinism.rules import RULES, match_codes
from continuum.determinism.scanner import scan
from continuum.errors import ConfigError

__all__ = ["CodeReport", "check_code", "look_at"]


class CodeReport(msgspec.Struct, frozen=True):
    """What was looked at, and what was found.

    :ivar workflows: names of the workflows whose code was read.
    """

    workflows: list[str]
    findings: list[Finding]
    strict: bool = False

    @property
    def is_good(self) -> bool:
        """Whether a pipeline should go on."""
        fatal = set(Severity) if self.strict else {Severity.ERROR}
        return not any(finding.severity in fatal for finding in self.findings)

    @property
    def summary(self) -> str:
        """The last line of the report."""
        count = len(self.workflows)
        looked = f"{count} workflow{'' if count == 1 else 's'} looked at"
        if not count:
            looked = "No workflow is declared there"
        return f"{looked}: {summary(self.findings)}."


def check_code(
    targets: tuple[str, ...], *, selected: tuple[str, ...] = (), ignored: tuple[str, ...] = (), strict: bool = False
) -> CodeReport:
    """Import modules, and read the code of the workflows declared there with all that they call.

    Raises ``ConfigError`` on unknown codes, and if a module does not exist or cannot be imported.
    """
    wanted, unwanted = _codes(selected), _codes(ignored)
    with postponed_checks():
        modules = import_targets(targets)
        policy = _policy(current_policy(), wanted=wanted, strict=strict)
        flows = _declared_in(modules)
        findings = [finding for flow in flows for finding in look_at(flow, policy)]
    kept = [
        finding
        for finding in sorted_findings(findings)
        if finding.code not in unwanted and (not wanted or finding.code in wanted)
    ]
    return CodeReport(sorted({flow.name for flow in flows}), kept, strict)


def look_at(flow: Workflow[..., object], policy: Policy) -> tuple[Finding, ...]:
    """Return what is found in one workflow and in all it calls."""
    signals = None if flow.signals is None else frozenset(signal.name for signal in flow.signals)
    return scan(flow.function, workflow=flow.name, policy=policy, signals=signals)


def _policy(policy: Policy, *, wanted: frozenset[str], strict: bool) -> Policy:
    # Who names a rule wants to see it, and --strict distrusts; what is configured to be seen stays as severe as it is.
    named = wanted | (frozenset(match_codes("CT4")) if strict else frozenset())
    silent = {code for code in named if policy.severity_of(code) is Severity.OFF}
    return policy.changed(severities=dict.fromkeys(silent, Severity.WARNING)) if silent else policy


def _codes(given: tuple[str, ...]) -> frozenset[str]:
    texts = [text for part in given for text in part.split(",") if text.strip()]
    if given and not texts:
        raise ConfigError(f"{given!r} names no rule: write codes such as {next(iter(RULES))}, or CT1 for all CT1xx.")
    return frozenset(code for text in texts for code in match_codes(text))


def _declared_in(modules: list[str]) -> list[Workflow[..., object]]:
    """Return the workflows whose functions stand in these modules, each once."""
    names = set(modules)
    return [flow for flow in REGISTRY.workflows() if isinstance(flow, Workflow) and flow.function.__module__ in names]
