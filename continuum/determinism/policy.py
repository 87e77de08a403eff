"""Here lives how strict the scanner is: what ``configure_checks`` and the environment say."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import msgspec

from continuum.determinism.findings import Severity
from continuum.determinism.rules import RULES, match_codes
from continuum.errors import ConfigError

__all__ = [
    "CHECKS_VARIABLE",
    "Policy",
    "checks_are_postponed",
    "configure_checks",
    "current_policy",
    "postponed_checks",
]

CHECKS_VARIABLE: Final = "CONTINUUM_CHECKS"

_RANKS: Final = {Severity.OFF: 0, Severity.WARNING: 1, Severity.ERROR: 2}

# They only turn values into other values.
_HARMLESS: Final = frozenset(
    {
        *("annotated_types", "attr", "attrs", "cattrs", "dateutil", "marshmallow", "more_itertools", "msgspec"),
        *("pydantic", "pydantic_core", "pytz", "toolz", "typing_extensions"),
    }
)


class Policy(msgspec.Struct, frozen=True):
    """What becomes of findings, and whose code is believed.

    :ivar severities: those that differ from the rules' own.
    :ivar trusted_modules: modules (with all below them) that are neither followed nor distrusted, besides those that
        only turn values into other values (pydantic, msgspec). What the scanner forbids by name stays forbidden.
    :ivar cap: nothing is more severe than this.
    """

    severities: Mapping[str, Severity] = MappingProxyType({})
    trusted_modules: frozenset[str] = frozenset()
    cap: Severity = Severity.ERROR

    def severity_of(self, code: str) -> Severity:
        """Return what a finding of this rule is."""
        wanted = self.severities.get(code) or RULES[code].severity
        return min(wanted, self.cap, key=_RANKS.__getitem__)

    def is_trusted(self, module: str) -> bool:
        """Say whether the module, or a package it is in, is trusted."""
        parts = module.split(".")
        if parts[0] in _HARMLESS:
            return True
        trusted = self.trusted_modules
        return bool(trusted) and any(".".join(parts[:end]) in trusted for end in range(1, len(parts) + 1))

    def changed(
        self,
        *,
        severities: Mapping[str, Severity | str] | None = None,
        trusted_modules: Iterable[str] | None = None,
    ) -> "Policy":
        """Return this policy with other severities besides those it has, and other trusted modules instead.

        Raises ``ConfigError`` on what is unknown.
        """
        return Policy(
            severities=MappingProxyType({**self.severities, **_severities(severities or {})}),
            trusted_modules=self.trusted_modules if trusted_modules is None else _modules(trusted_modules),
            cap=self.cap,
        )


class _Configured:
    """The one of the process."""

    policy: Policy = Policy()
    postponed: bool = False


def configure_checks(
    *,
    severities: Mapping[str, Severity | str] | None = None,
    trusted_modules: Iterable[str] | None = None,
) -> None:
    """Set, for the whole process, how severe findings in workflow code are, and whose code is believed.

    Call it before the modules with workflows are imported: they are checked where they are declared.

    :param severities: by code, or by the beginning of codes: ``{"CT309": "off", "CT4": "warning"}``. A longer beginning
        wins over a shorter one. Those not named are as severe as their rules say.
    :param trusted_modules: modules (with all below them) whose code is safe in workflows though it cannot be followed.
        Calls that are forbidden by name stay forbidden.

    Each call replaces what the one before has set; ``configure_checks()`` puts everything back.
    ``CONTINUUM_CHECKS=warning`` (or ``off``) in the environment caps every severity, for a deploy that cannot wait.

    Raises ``ConfigError`` on unknown codes, severities, and what is no name of a module.
    """
    _Configured.policy = Policy().changed(severities=severities, trusted_modules=trusted_modules)


def current_policy() -> Policy:
    """Return the policy of the process, capped by the environment. Raises ``ConfigError`` if that is not valid."""
    policy = _Configured.policy
    said = os.environ.get(CHECKS_VARIABLE, "").strip().lower()
    if not said:
        return policy
    return msgspec.structs.replace(policy, cap=_severity(said, what=CHECKS_VARIABLE))


@contextmanager
def postponed_checks() -> Iterator[None]:
    """Declare workflows without looking at their code: whoever asks for this looks at all of them afterwards."""
    before, _Configured.postponed = _Configured.postponed, True
    try:
        yield
    finally:
        _Configured.postponed = before


def checks_are_postponed() -> bool:
    """Say whether a declaration should leave its code unread for now: somebody collects all findings later."""
    return _Configured.postponed


def _severities(given: Mapping[str, Severity | str]) -> dict[str, Severity]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"severities={given!r} is not valid: write a dict such as {{'CT309': 'off'}}.")
    # Shortest first: what says more exactly which rule it means is written over the others.
    found: dict[str, Severity] = {}
    for text in sorted(given, key=lambda key: len(str(key))):
        severity = _severity(given[text], what=f"severities[{text!r}]")
        found.update(dict.fromkeys(match_codes(text), severity))
    return found


def _severity(value: Any, *, what: str) -> Severity:
    try:
        return Severity(value)
    except ValueError:
        raise ConfigError(f"{what}={value!r} is not valid: write 'error', 'warning' or 'off'.") from None


def _modules(given: Iterable[str]) -> frozenset[str]:
    if isinstance(given, str):
        raise ConfigError(f"trusted_modules={given!r} is not valid: write a list, [{given!r}].")
    names = frozenset(given)
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"trusted_modules holds {name!r}: write names of modules, such as 'myapp.pricing'.")
    return names
