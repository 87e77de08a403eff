"""Runs that take dispatchers down, or that spin: set aside, tried again, and mended by a deploy."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from continuum import Continuum, start_child, wait_signal
from continuum.journal.protocol import Journal
from continuum.journal.requests import ClaimReply, ClaimRequest
from continuum.model.ids import new_worker_id
from continuum.model.leases import WorkerInfo
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.integration.runtime.families import children_of
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
        soon = timedelta(milliseconds=20)
        with instance.running(spin_limit=1_000, stuck_backoff=soon, stuck_backoff_max=soon):
            # Through many back-offs, more than a run may take dispatchers down.
            for _ in range(8):
                token = instance.get(handle.id).lease_token
                eventually(lambda: instance.get(handle.id).lease_token > token + 1, WAIT)  # noqa: B023
            run = eventually(lambda: (found := instance.get(handle.id)).state == RunState.STUCK and found, WAIT)
            assert "without coming to rest" in (run.stuck_reason or "")
    with Continuum(journal=journal, registry=registry_of(good), **SETTINGS) as deployed, deployed.running():
        assert deployed.handle(handle.id).result(timeout=WAIT) == "mended"


def test_a_child_that_takes_dispatchers_down_is_not_replayed_to_be_terminated(journal: Journal) -> None:
    begun: list[str] = []

    async def child() -> None:
        begun.append("child")  # continuum: allow[CT201] the test counts how often the code runs
        await wait_signal("go")

    async def parent() -> None:
        start_child(pill, on_parent_close="terminate")
        await wait_signal("end")

    pill, flow = declared(child, "pill.child"), declared(parent, "pill.parent")
    with Continuum(journal=journal, registry=registry_of(pill, flow), **SETTINGS) as instance:
        handle = instance.start(flow)
        with instance.running():
            eventually(lambda: instance.get(handle.id).state == RunState.SUSPENDED, WAIT)
            [found] = children_of(instance, handle.id)
            eventually(lambda: instance.get(found).state == RunState.SUSPENDED, WAIT)
        before = list(begun)
        instance.handle(found).signal("another", None)
        assert [take_down(journal, "pill.child") for _ in range(5)] == [1, 2, 3, 4, 5]
    with Continuum(journal=journal, registry=registry_of(flow), **SETTINGS) as parents, parents.running():
        parents.handle(handle.id).signal("end", None)
        parents.handle(handle.id).result(timeout=WAIT)
    with Continuum(journal=journal, registry=registry_of(pill), **SETTINGS) as children:
        with children.running(stuck_backoff=timedelta(hours=1)):
            eventually(lambda: children.get(found).state == RunState.TERMINATED, WAIT)
    assert begun == before, "what ends it needs none of its code"
