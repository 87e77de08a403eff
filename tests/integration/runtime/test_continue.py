"""A run goes on as new: one chain to everybody outside, and nothing that was meant for it is lost between two runs."""

from typing import Any

import pytest

from continuum import Continuum, RunCancelled, RunFailed, continue_as_new, wait_signal
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import Journal
from continuum.model.events import EventType
from continuum.model.runs import Run, RunState
from tests.integration.runtime import families
from tests.integration.runtime.families import children_of
from tests.integration.runtime.test_disasters import SETTINGS
from tests.support.eventually import eventually

WAIT = 30


def chain_of(continuum: Continuum, root: str) -> list[Run]:
    """Return the runs of a chain, the first one first."""
    runs = [continuum.handle(root).refresh()]
    while runs[-1].continued_from is not None:
        runs.append(continuum.get(runs[-1].continued_from))
    assert runs[-1].id == root
    assert {run.chain_id for run in runs} == {root}
    return runs[::-1]


def kinds(continuum: Continuum, run_id: str) -> list[str]:
    return [str(event.type) for event in continuum.history(run_id)]


def tip_of(continuum: Continuum, root: str) -> str:
    return chain_of(continuum, root)[-1].id


def wait_for(continuum: Continuum, run_id: str, kind: EventType) -> None:
    eventually(lambda: kind in kinds(continuum, run_id), WAIT)


def grown(continuum: Continuum, root: str, length: int) -> list[Run]:
    """Return the runs of a chain once there are so many."""

    def found() -> list[Run]:
        runs = chain_of(continuum, root)
        assert len(runs) >= length
        return runs

    return eventually(found, WAIT)


@pytest.mark.parametrize("flow", [families.countdown, families.quick_countdown])
def test_the_result_of_a_chain_is_that_of_its_last_run(continuum: Continuum, flow: Any) -> None:
    with continuum.running():
        handle = continuum.start(flow, 3)
        assert handle.result(timeout=WAIT) == (6 if flow is families.countdown else 3)
        runs = chain_of(continuum, handle.id)
        assert [run.state for run in runs] == [RunState.CONTINUED, RunState.CONTINUED, RunState.COMPLETED]
        assert [run.is_tip for run in runs] == [False, False, True]
        assert all(run.lease_owner is None for run in runs)
        # By the id of any of them.
        assert [continuum.handle(run.id).result(timeout=WAIT) for run in runs] == [handle.result()] * 3
    assert kinds(continuum, handle.id)[-1] == EventType.RUN_CONTINUED


def test_a_long_chain_keeps_each_history_short(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.quick_countdown, 200)
        assert handle.result(timeout=WAIT) == 200
    runs = chain_of(continuum, handle.id)
    assert len(runs) == 200
    assert {run.last_seq for run in runs} == {3}


def test_a_chain_keeps_its_namespace_and_attributes(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.countdown, 2, namespace="other", attributes={"customer": "c1"})
        handle.result(timeout=WAIT)
    first, last = chain_of(continuum, handle.id)
    assert (last.namespace, last.attributes) == (first.namespace, first.attributes) == ("other", {"customer": "c1"})


def test_signals_across_continues_are_neither_lost_nor_mixed_up(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.relay, 40, 3, [])
        for number in range(40):
            handle.signal("item", number)
        assert handle.result(timeout=WAIT) == list(range(40))
    assert len(chain_of(continuum, handle.id)) == 14


@pytest.mark.timeout(120)
def test_no_signal_falls_between_two_runs(continuum: Continuum) -> None:
    """Five hundred continues, and a thousand signals that come while they happen."""
    with continuum.running():
        handle = continuum.start(families.relay, 1_000, 2, [])
        for number in range(1_000):
            handle.signal("item", number)
        assert handle.result(timeout=90) == list(range(1_000))


def test_signals_that_came_before_the_chain_began_are_taken_run_by_run(continuum: Continuum) -> None:
    handle = continuum.start(families.relay, 20, 2, [])
    for number in range(20):
        handle.signal("item", number)
    with continuum.running():
        assert handle.result(timeout=WAIT) == list(range(20))


def test_signals_that_nobody_took_are_handed_on(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.hoarding, 2)
        for step in range(2):
            handle.signal("item", step)
            tip = tip_of(continuum, handle.id)
            # Journaled by this run before it goes on.
            wait_for(continuum, tip, EventType.SIGNAL_RECEIVED)
            handle.signal("next", None)
            wait_for(continuum, tip, EventType.RUN_CONTINUED)
        handle.signal("item", 2)
        assert handle.result(timeout=WAIT) == [0, 1, 2]


def test_a_chain_takes_up_the_newest_version_of_its_code(journal: Journal) -> None:
    old, new = Registry(), Registry()

    async def first(left: int) -> str:
        await wait_signal("go")
        continue_as_new(left - 1)

    async def second(left: int) -> str:
        return f"the second version, {left} left"

    flow: Any = Workflow(first, name="families.versioned", version=1)
    old.register_workflow(flow)
    new.register_workflow(flow)
    new.register_workflow(Workflow(second, name="families.versioned", version=2))
    with Continuum(journal=journal, registry=old, **SETTINGS) as instance, instance.running():
        handle = instance.start(flow, 5)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
    with Continuum(journal=journal, registry=new, **SETTINGS) as deployed, deployed.running():
        again = deployed.handle(handle.id)
        again.signal("go", None)
        assert again.result(timeout=WAIT) == "the second version, 4 left"
        assert [run.version for run in chain_of(deployed, handle.id)] == [1, 2]


def test_a_cancelled_run_that_goes_on_as_new_is_cancelled_before_its_code(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.refusing, 3)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
    first, last = chain_of(continuum, handle.id)
    assert (first.state, last.state) == (RunState.CONTINUED, RunState.CANCELLED)
    assert kinds(continuum, last.id) == [EventType.RUN_STARTED, EventType.CANCEL_REQUESTED, EventType.RUN_CANCELLED]


def test_a_cancel_request_meets_a_chain_wherever_it_is(continuum: Continuum) -> None:
    with continuum.running():
        handles = [continuum.start(families.countdown, 10_000) for _ in range(4)]
        for length, handle in enumerate(handles, 1):
            grown(continuum, handle.id, length + 1)
            handle.cancel()
        for handle in handles:
            with pytest.raises(RunCancelled):
                handle.result(timeout=WAIT)
            runs = chain_of(continuum, handle.id)
            assert {run.state for run in runs[:-1]} == {RunState.CONTINUED}
            assert runs[-1].state == RunState.CANCELLED


def test_a_chain_is_terminated_at_its_tip(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.relay, 9, 1, [])
        handle.signal("item", 0)
        grown(continuum, handle.id, 2)
        handle.terminate()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
    assert [run.state for run in chain_of(continuum, handle.id)] == [RunState.CONTINUED, RunState.TERMINATED]


def test_a_chain_fails_as_its_last_run_does(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.failing_chain, 2)
        with pytest.raises(RunFailed, match="at the end"):
            handle.result(timeout=WAIT)


def test_children_of_every_run_of_a_chain_are_closed_with_it(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.parting, 3)
        runs = grown(continuum, handle.id, 3)
        children = [child for run in runs for child in children_of(continuum, run.id)]
        assert len(children) == 3
        eventually(lambda: {continuum.get(child).state for child in children} == {RunState.SUSPENDED}, WAIT)
        handle.signal("end", None)
        assert handle.result(timeout=WAIT) == 1
        eventually(lambda: {continuum.get(child).state for child in children} == {RunState.CANCELLED}, WAIT)


def test_chains_go_on_where_there_is_room_for_one_run_only(continuum: Continuum) -> None:
    with continuum.running(active_runs=1, cached_runs=1):
        handles = [continuum.start(families.with_chain, 3) for _ in range(3)]
        assert [handle.result(timeout=WAIT) for handle in handles] == [6] * 3
