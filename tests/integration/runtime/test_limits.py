"""Payloads over the limit are refused where they arise, with their size, and nothing of them is stored."""

from collections.abc import Iterator

import pytest

from continuum import Continuum
from continuum.errors import RunFailed
from continuum.journal.protocol import Journal
from tests.integration.runtime import flows
from tests.integration.runtime.test_disasters import SETTINGS

WAIT = 20
LIMIT = 10_000


@pytest.fixture
def instance(journal: Journal) -> Iterator[Continuum]:
    with Continuum(journal=journal, max_payload_bytes=LIMIT, **SETTINGS) as made:
        yield made


@pytest.mark.parametrize("where", ["arguments", "side effect"])
def test_workflow_code_is_told_that_a_payload_is_too_large(instance: Continuum, where: str) -> None:
    with instance.running(cached_runs=1):
        handles = [instance.start(flows.large, where, 20_000) for _ in range(3)]
        for handle in handles:
            told = handle.result(timeout=WAIT)
            assert "20,00" in told, told
            assert "10,000" in told
            assert all(len(event.payload or "") < LIMIT for event in instance.history(handle.id))


def test_a_result_that_is_too_large_fails_the_run(instance: Continuum) -> None:
    with instance.running():
        handle = instance.start(flows.large, "result", 20_000)
        with pytest.raises(RunFailed, match="result") as failed:
            handle.result(timeout=WAIT)
    assert failed.value.type_name.endswith("CodecError")


def test_the_limit_a_run_was_started_with_is_its_own(journal: Journal) -> None:
    with Continuum(journal=journal, **SETTINGS) as generous:
        handle = generous.start(flows.large, "arguments", 20_000)
    # Activity results are the business of the worker that makes them.
    with Continuum(journal=journal, max_payload_bytes=30_000, **SETTINGS) as other, other.running():
        assert other.handle(handle.id).result(timeout=WAIT) == "x" * 20_000
