"""How strict the scanner is can be configured, and is refused when it is not valid."""

from collections.abc import Iterator

import pytest

from continuum import ConfigError, configure_checks
from continuum.determinism.findings import Severity
from continuum.determinism.policy import Policy, checks_are_postponed, current_policy, postponed_checks
from continuum.determinism.rules import RULES


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CONTINUUM_CHECKS", raising=False)
    yield
    configure_checks()


def test_rules_are_as_severe_as_they_say_unless_configured() -> None:
    assert {code: current_policy().severity_of(code) for code in RULES} == {
        code: rule.severity for code, rule in RULES.items()
    }


def test_severities_are_set_by_code_and_by_the_beginning_of_codes_the_longest_wins() -> None:
    configure_checks(severities={"CT309": "error", "CT3": "off", "CT4": Severity.WARNING})
    policy = current_policy()
    assert policy.severity_of("CT309") is Severity.ERROR
    assert policy.severity_of("CT301") is Severity.OFF
    assert policy.severity_of("CT401") is Severity.WARNING
    assert policy.severity_of("CT101") is Severity.ERROR


def test_each_call_replaces_what_the_one_before_has_set() -> None:
    configure_checks(severities={"CT101": "off"}, trusted_modules=["myapp"])
    configure_checks(severities={"CT102": "off"})
    assert current_policy().severity_of("CT101") is Severity.ERROR
    assert not current_policy().is_trusted("myapp")
    configure_checks()
    assert current_policy().severity_of("CT102") is Severity.ERROR


def test_trusted_modules_are_trusted_with_all_below_them() -> None:
    configure_checks(trusted_modules=["myapp.pricing", "numpy"])
    policy = current_policy()
    assert policy.is_trusted("myapp.pricing")
    assert policy.is_trusted("myapp.pricing.rates")
    assert policy.is_trusted("numpy.linalg")
    assert not policy.is_trusted("myapp")
    assert not policy.is_trusted("myapp.pricings")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"severities": {"CT999": "off"}}, "There is no rule 'CT999'"),
        ({"severities": {"CT101": "fatal"}}, r"severities\['CT101'\]='fatal' is not valid: write 'error', 'warning'"),
        ({"severities": ["CT101"]}, "write a dict such as"),
        ({"trusted_modules": "myapp"}, r"write a list, \['myapp'\]"),
        ({"trusted_modules": ["my-app"]}, "holds 'my-app': write names of modules"),
        ({"trusted_modules": [3]}, "holds 3: write names of modules"),
    ],
)
def test_what_is_not_valid_is_refused_and_changes_nothing(options: dict, message: str) -> None:
    configure_checks(severities={"CT101": "warning"})
    with pytest.raises(ConfigError, match=message):
        configure_checks(**options)
    assert current_policy().severity_of("CT101") is Severity.WARNING


@pytest.mark.parametrize(
    ("cap", "error", "warning"),
    [("error", "error", "warning"), ("warning", "warning", "warning"), (" OFF ", "off", "off")],
)
def test_the_environment_caps_every_severity(
    monkeypatch: pytest.MonkeyPatch, cap: str, error: str, warning: str
) -> None:
    monkeypatch.setenv("CONTINUUM_CHECKS", cap)
    policy = current_policy()
    assert policy.severity_of("CT101") == error
    assert policy.severity_of("CT301") == warning
    assert policy.severity_of("CT401") == "off"


def test_a_cap_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_CHECKS", "loose")
    with pytest.raises(ConfigError, match="CONTINUUM_CHECKS='loose' is not valid: write 'error', 'warning' or 'off'"):
        current_policy()


def test_a_policy_is_changed_in_what_is_named() -> None:
    policy = Policy().changed(severities={"CT4": "warning"}, trusted_modules=["a"]).changed(severities={"CT1": "off"})
    assert policy.severity_of("CT401") is Severity.WARNING
    assert policy.severity_of("CT101") is Severity.OFF
    assert policy.is_trusted("a.b")


def test_checks_are_postponed_inside_the_block_only() -> None:
    assert not checks_are_postponed()
    with postponed_checks():
        assert checks_are_postponed()
        with postponed_checks():
            pass
        assert checks_are_postponed()
    assert not checks_are_postponed()


def test_packages_that_only_turn_values_into_others_are_trusted() -> None:
    assert Policy().is_trusted("msgspec.json")
    assert Policy().is_trusted("pydantic")
    assert not Policy().is_trusted("pydantic_settings")
    assert not Policy().is_trusted("pandas")
