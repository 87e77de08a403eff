"""Runs that take dispatchers down, or that spin: set aside, tried again, and mended by a deploy."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from continuum import Continuum
from continuum.journal.protocol import Journal
from continuum.journal.requests import ClaimReply, ClaimRequest
from continuum.model.ids import new_worker_id
from continuum.model.leases import WorkerInfo
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.integration.runtime.test_disasters import SETTINGS, declared, registry_of
from tests.support.eventually import eventually

WAIT = 30


def take_down(journal: Journal, workflow: str) -> int:
    """Claim a run and die: what a workflow that crashes the process does. Return the grants it has had."""
    worker = new_worker_id()
    journal.workers.register(WorkerInfo(worker, "somewhere", 1, timedelta(seconds=60)))
    line = journal.open_line()
    line.send(ClaimRequest(worker, ((workflow, 1),), 10))
    reply = eventually(lambda: line.wait(1.0))
    assert isinstance(reply, ClaimReply)
    line.close()
    journal.workers.deregister(worker)
    journal.workers.reap()
    return reply.runs[0].grants


@pytest.fixture
def instance(journal: Journal) -> Iterator[Continuum]:
    with Continuum(journal=journal, **SETTINGS) as made:
        yield made


def test_a_run_that_takes_dispatchers_down_is_set_aside_and_tried_once_after_each_back_off(
    instance: Continuum, journal: Journal
) -> None:
    handle = instance.start(flows.order, "o1")
    assert [take_down(journal, "flows.order") for _ in range(5)] == [1, 2, 3, 4, 5]
    with instance.running(stuck_backoff=timedelta(milliseconds=300)):
        stuck = eventually(lambda: (run := instance.get(handle.id)).state == RunState.STUCK and run, WAIT)
        assert "took 5 dispatchers down" in (stuck.stuck_reason or "")
        # This dispatcher survives it: the next try makes progress, and the run ends.
        assert handle.result(timeout=WAIT).order == "o1"


def test_a_spinning_run_stays_stuck_for_its_own_reason_and_goes_on_with_the_mended_code(journal: Journal) -> None:
    async def spinning() -> str:
        while True:
            await asyncio.sleep(0)

    async def mended() -> str:
        return "mended"

    bad, good = declared(spinning, "spin.flow"), declared(mended, "spin.flow")
    with Continuum(journal=journal, registry=registry_of(bad), **SETTINGS) as instance:
        handle = instance.start(bad)
        with instance.running(spin_limit=1_000, stuck_backoff=timedelta(milliseconds=20)):
            # Through many back-offs, more than a run may take dispatchers down.
            for _ in range(8):
                token = instance.get(handle.id).lease_token
                eventually(lambda: instance.get(handle.id).lease_token > token + 1, WAIT)  # noqa: B023
            run = eventually(lambda: (found := instance.get(handle.id)).state == RunState.STUCK and found, WAIT)
            assert "without coming to rest" in (run.stuck_reason or "")
    with Continuum(journal=journal, registry=registry_of(good), **SETTINGS) as deployed, deployed.running():
        assert deployed.handle(handle.id).result(timeout=WAIT) == "mended"
