"""Comments by which an author answers for a place: where they reach, and what is wrong with them."""

from collections.abc import Callable
from types import ModuleType

import pytest

from continuum.determinism.findings import Finding, Severity
from continuum.determinism.policy import Policy
from continuum.determinism.scanner import scan
from continuum.determinism.suppressions import find_suppressions

Write = Callable[..., ModuleType]


def look(write: Write, text: str, **options: Policy) -> list[Finding]:
    return list(scan(write(text).flow, workflow="flow", **options))


def test_a_suppression_on_the_line_covers_it_and_no_other(write: Write) -> None:
    [finding] = look(
        write,
        """
        import time

        async def flow():
            time.time()  # continuum: allow[CT101] shown to people only
            return time.time()
        """,
    )
    assert finding.line == 6


def test_a_suppression_on_any_line_of_the_expression_counts(write: Write) -> None:
    assert not look(
        write,
        """
        import random

        async def flow(items):
            return [
                random.choice(items)  # continuum: allow[CT102] a game
                for _ in items
            ]
        """,
    )


@pytest.mark.parametrize(
    "head",
    [
        "async def flow():  # continuum: allow[CT101] shown to people only",
        "async def flow(\n            first=1,\n        ):  # continuum: allow[CT101] shown to people only",
        "async def flow():  # continuum: allow[CT102, CT101] shown to people only",
        "async def flow():  # continuum: allow[CT1] shown to people only",
        "async def flow():  # noqa: A001  # continuum: allow[ct101] shown to people only",
    ],
)
def test_a_suppression_on_the_def_covers_the_function(write: Write, head: str) -> None:
    text = f"""
        import time

        {head}
            time.time()
            return time.time()
        """
    assert not look(write, text)


def test_a_suppression_covers_the_function_it_is_in_and_not_its_callers(write: Write) -> None:
    findings = look(
        write,
        """
        import time

        def helper():  # continuum: allow[CT101] shown to people only
            return time.time()

        async def flow():
            return helper(), time.time()
        """,
    )
    assert [finding.line for finding in findings] == [8]


def test_a_suppression_names_the_rule_it_means(write: Write) -> None:
    codes = [
        finding.code
        for finding in look(
            write,
            """
            import time

            async def flow():
                return time.time()  # continuum: allow[CT102] wrong one
            """,
        )
    ]
    assert codes == ["CT101", "CT004"]


@pytest.mark.parametrize(
    ("comment", "code", "words"),
    [
        ("allow[CT101]", "CT002", "why"),
        ("allow[CT101, CT999] because", "CT003", "'CT999'"),
        ("allow because", "CT003", "names no rule"),
        ("allow[] because", "CT003", "names no rule"),
    ],
)
def test_a_suppression_that_is_wrong_is_told(write: Write, comment: str, code: str, words: str) -> None:
    text = f"""
        import time

        async def flow():
            return time.time()  # continuum: {comment}
        """
    [finding] = [finding for finding in look(write, text) if finding.code != "CT101"]
    assert (finding.code, finding.severity, finding.line) == (code, Severity.WARNING, 5)
    assert words in finding.message


def test_a_suppression_of_nothing_is_told(write: Write) -> None:
    [finding] = look(
        write,
        """
        async def flow():
            return 1  # continuum: allow[CT101] was needed once
        """,
    )
    assert (finding.code, finding.line) == ("CT004", 3)
    assert "allow[CT101]" in finding.message


def test_a_suppression_of_a_rule_that_is_off_is_not_useless(write: Write) -> None:
    text = """
        import time

        async def flow():
            return time.time()  # continuum: allow[CT101] shown to people only
        """
    assert not look(write, text, policy=Policy().changed(severities={"CT101": "off"}))


def test_a_suppression_in_a_function_that_is_not_fully_known_yet_is_not_called_useless(write: Write) -> None:
    assert not look(
        write,
        """
        async def flow():
            return later()  # continuum: allow[CT101] it reads a clock, once it is there
        """,
    )


def test_text_that_looks_like_a_suppression_is_none() -> None:
    lines = ['x = "# continuum: allow[CT101] no"\n', "y = 'it''s'  # continuum: allow[CT101] yes\n", "# continuum\n"]
    [found] = find_suppressions(lines, 1, 3)
    assert (found.line, found.codes, found.reason) == (2, ("CT101",), "yes")
