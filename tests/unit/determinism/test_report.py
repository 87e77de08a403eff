"""Findings are told with place, way and remedy."""

import msgspec

from continuum import DeterminismWarning
from continuum.determinism.findings import Finding, Link, Severity
from continuum.determinism.report import as_value, describe, refusal, report, sorted_findings, summary

CLOCK = Finding(
    "CT101", Severity.ERROR, "time.time() reads a clock", "use continuum.now()", "/app/flows.py", 12, 5, "order_flow"
)
DEEP = msgspec.structs.replace(
    CLOCK,
    file="/app/pricing.py",
    line=3,
    chain=(Link("price", "/app/flows.py", 9), Link("stamp", "/app/helpers/money.py", 4)),
)
LOST = Finding("CT304", Severity.WARNING, "charge() is not awaited", "await it", "/app/flows.py", 2, 1, "order_flow")


def test_a_finding_says_where_what_and_what_to_write_instead() -> None:
    assert describe(CLOCK) == (
        "/app/flows.py:12:5: CT101 error: time.time() reads a clock\n    help: use continuum.now()"
    )


def test_the_chain_of_calls_is_shown_and_files_below_the_base_are_short() -> None:
    assert describe(DEEP, base="/app/") == (
        "pricing.py:3:5: CT101 error: time.time() reads a clock\n"
        "    order_flow → price (flows.py:9) → stamp (helpers/money.py:4)\n"
        "    help: use continuum.now()"
    )
    assert describe(DEEP, base="/ap").startswith("/app/pricing.py")


def test_a_report_is_sorted_by_place_and_ends_with_the_counts() -> None:
    text = report([DEEP, CLOCK, LOST])
    assert [line.split(":")[0:2] for line in text.splitlines() if ": CT" in line] == [
        ["/app/flows.py", "2"],
        ["/app/flows.py", "12"],
        ["/app/pricing.py", "3"],
    ]
    assert text.splitlines()[-1] == "2 errors, 1 warning"


def test_counts_are_told() -> None:
    assert summary([]) == "nothing found"
    assert summary([CLOCK]) == "1 error"
    assert summary([LOST, LOST]) == "2 warnings"


def test_a_place_is_told_once_by_the_shortest_way() -> None:
    far = msgspec.structs.replace(CLOCK, workflow="other", chain=DEEP.chain)
    assert sorted_findings([far, CLOCK]) == [CLOCK]


def test_a_refusal_has_a_header_the_findings_their_remedies_and_the_way_to_suppress_them() -> None:
    text = refusal("order_flow", [CLOCK, DEEP])
    assert text.startswith("Workflow order_flow could not be replayed (2 errors):\n/app/flows.py:12:5: CT101")
    assert text.count("help: use continuum.now()") == 2
    assert "# continuum: allow[CT101] reason" in text
    assert "docs/how_to/write_deterministic_code.md" in text


def test_findings_are_plain_values_for_programs() -> None:
    value = as_value(DEEP)
    assert msgspec.json.decode(msgspec.json.encode(value)) == value
    assert value["code"] == "CT101"
    assert value["name"] == "clock"
    assert value["severity"] == "error"
    assert value["chain"][0] == {"function": "price", "file": "/app/flows.py", "line": 9}


def test_warnings_are_the_users() -> None:
    assert issubclass(DeterminismWarning, UserWarning)
