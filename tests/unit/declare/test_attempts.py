"""What a body sees of its attempt."""

from typing import Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.attempts import Attempt, current_attempt
from continuum.declare.workflows import workflow
from continuum.errors import CodecError
from tests.support.first_turn import failure_of, first_turn


@activity
def report(n: int) -> tuple[int, bool]:
    attempt = current_attempt()
    attempt.heartbeat({"done": n})
    return attempt.number, attempt.cancelled


def test_a_unit_test_that_calls_an_activity_needs_nothing() -> None:
    assert report(3) == (1, False)
    assert current_attempt().last_heartbeat is None


def test_a_unit_test_can_be_any_attempt() -> None:
    beats: list[str | None] = []
    with Attempt(number=4, earlier='{"done":2}', beat=beats.append).bound() as attempt:
        attempt.cancel()
        assert report(3) == (4, True)
        assert current_attempt().last_heartbeat == {"done": 2}
        current_attempt().heartbeat()
    assert beats == ['{"done":3}', None]
    assert current_attempt().number == 1


@pytest.mark.parametrize("details", [object(), {"a": [lambda: 1]}, float("nan")])
def test_heartbeat_details_that_cannot_be_stored_are_refused_at_once(details: Any) -> None:
    with pytest.raises(CodecError) as caught:
        current_attempt().heartbeat(details)
    assert caught.value.path.startswith("heartbeat")


def test_heartbeat_details_are_small() -> None:
    current_attempt().heartbeat("x" * (16 * 1024 - 2))
    with pytest.raises(CodecError, match="16,384"):
        current_attempt().heartbeat("x" * (16 * 1024 - 1))


def test_workflow_code_has_no_attempt() -> None:
    @workflow
    async def flow() -> None:
        current_attempt()

    assert "run_info()" in failure_of(first_turn(flow)).message
