"""What becomes of the children when a run is cancelled, is terminated, or ends before them."""

import asyncio
from functools import partial
from typing import Any

import pytest

from continuum import Continuum, RunCancelled, start_child, wait_signal
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import Journal
from continuum.model.events import EventType
from continuum.model.ids import RunId
from continuum.model.runs import ENDED, Run, RunState
from tests.integration.runtime import families, flows
from tests.integration.runtime.families import children_of, family_of
from tests.integration.runtime.test_disasters import SETTINGS
from tests.support.eventually import eventually

WAIT = 30


def states(continuum: Continuum, run_ids: list[str]) -> set[RunState]:
    return {continuum.get(run_id).state for run_id in run_ids}


def grown(continuum: Continuum, run_id: str, size: int) -> list[str]:
    """Return the ids of a family once it has this size and all wait."""

    def waits() -> list[str]:
        found = family_of(continuum, run_id)
        assert len(found) == size
        assert states(continuum, found) == {RunState.SUSPENDED}
        return found

    return eventually(waits, WAIT)


def test_a_cancel_request_reaches_all_descendants(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.tree, 2, 3)
        family = grown(continuum, handle.id, 13)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
        eventually(lambda: states(continuum, family) == {RunState.CANCELLED}, WAIT)
    for each in family:
        kinds = [event.type for event in continuum.history(each)]
        assert kinds.count(EventType.CANCEL_REQUESTED) == 1, kinds


def test_a_cancel_request_reaches_descendants_that_nobody_holds(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.tree, 2, 2)
        family = grown(continuum, handle.id, 7)
    handle.cancel()
    with continuum.running(active_runs=2, cached_runs=2):
        eventually(lambda: states(continuum, family) == {RunState.CANCELLED}, WAIT)


def test_a_cancel_request_before_the_first_turn_starts_no_child(continuum: Continuum) -> None:
    handle = continuum.start(families.tree, 2, 2)
    handle.cancel()
    with continuum.running():
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
        assert family_of(continuum, handle.id) == [handle.id]


@pytest.mark.parametrize("how", ["end", "fail", "cancel", "terminate"])
@pytest.mark.parametrize(
    ("policy", "state"),
    [("cancel", RunState.CANCELLED), ("terminate", RunState.TERMINATED), ("abandon", RunState.SUSPENDED)],
)
def test_a_run_that_ends_does_to_its_children_what_it_was_told(
    continuum: Continuum, policy: str, state: RunState, how: str
) -> None:
    with continuum.running():
        handle = continuum.start(families.leaving, policy, how)
        _, child = grown(continuum, handle.id, 2)
        match how:
            case "cancel":
                handle.cancel()
            case "terminate":
                handle.terminate()
            case _:
                handle.signal("end", None)
        eventually(lambda: handle.refresh().state in ENDED, WAIT)
        if state is RunState.SUSPENDED:
            continuum.handle(child).signal("go", "on")
            assert continuum.handle(child).result(timeout=WAIT) == "on"
        else:
            eventually(lambda: continuum.get(child).state in ENDED, WAIT)
            assert continuum.get(child).state == state
            began = EventType.ACTIVITY_SCHEDULED in [event.type for event in continuum.history(child)]
            assert began is (state is RunState.CANCELLED), "only a cancelled one cleans up"


@pytest.mark.parametrize(("policy", "state"), [("cancel", RunState.CANCELLED), ("terminate", RunState.TERMINATED)])
def test_children_outlive_a_run_that_continues_and_end_with_its_chain(
    continuum: Continuum, policy: str, state: RunState
) -> None:
    with continuum.running():
        handle = continuum.start(families.leaving, policy, "continue")
        first, child = grown(continuum, handle.id, 2)
        handle.signal("end", None)
        eventually(lambda: continuum.get(first).state == RunState.CONTINUED, WAIT)
        assert continuum.get(child).state == RunState.SUSPENDED
        handle.signal("end", None)
        handle.result(timeout=WAIT)
        eventually(lambda: continuum.get(child).state == state, WAIT)


def test_a_terminated_child_ends_its_own_children(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.tree, 2, 1)
        root, middle, leaf = grown(continuum, handle.id, 3)
        continuum.terminate(middle)
        eventually(lambda: continuum.get(leaf).state == RunState.CANCELLED, WAIT)
        eventually(lambda: continuum.get(root).state == RunState.FAILED, WAIT)


def test_a_parent_that_refuses_to_be_cancelled_learns_that_its_child_was(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.stubborn)
        _, child = grown(continuum, handle.id, 2)
        handle.cancel()
        assert handle.result(timeout=WAIT) == "kept going: cancelled"
        assert continuum.get(child).state == RunState.CANCELLED


def test_a_child_that_was_to_be_terminated_before_it_began_runs_no_code(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.dropping)
        handle.result(timeout=WAIT)
        [child] = children_of(continuum, handle.id)
        eventually(lambda: continuum.get(child).state in ENDED, WAIT)
    assert [event.type for event in continuum.history(child)] == [EventType.RUN_STARTED, EventType.RUN_TERMINATED]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_nobody_escapes_who_is_started_or_goes_on_as_new_meanwhile(
    continuum: Continuum, journal: Journal, how: str
) -> None:
    def generations(root: str) -> list[Run]:
        return list(journal.runs.descendants(RunId(root), limit=10_000))

    def grown(root: str, size: int) -> bool:
        return len(generations(root)) >= size

    def ended(root: str) -> bool:
        return all(run.state in ENDED for run in generations(root))

    with continuum.running():
        for size in (1, 2, 5, 9, 14, 20):
            handle = continuum.start(families.restless, 2)
            eventually(partial(grown, handle.id, size), WAIT, interval=0.001)
            getattr(handle, how)()
            with pytest.raises(RunCancelled):
                handle.result(timeout=WAIT)
            eventually(partial(ended, handle.id), WAIT)
            found = len(generations(handle.id))
            # Nobody is left who could start one more.
            assert continuum.start(flows.sequence, 3).result(timeout=WAIT) == 3
            assert len(generations(handle.id)) == found
            assert {run.state for run in generations(handle.id)} == {RunState.CANCELLED}


def test_a_child_whose_code_has_drifted_can_still_be_terminated_by_its_parent(journal: Journal) -> None:
    async def child() -> None:
        call = asyncio.ensure_future(flows.sleepy())
        await wait_signal("go")
        await call

    async def drifted() -> None:
        await wait_signal("another")

    async def parent() -> None:
        start_child(declared, on_parent_close="terminate")
        await wait_signal("end")

    declared: Any = Workflow(child, name="cascades.child", version=1)
    flow: Any = Workflow(parent, name="cascades.parent", version=1)
    old, new = Registry(), Registry()
    old.register_workflow(declared)
    old.register_workflow(flow)
    new.register_workflow(Workflow(drifted, name="cascades.child", version=1))
    new.register_workflow(flow)
    with Continuum(journal=journal, registry=old, **SETTINGS) as before:
        # Nobody runs activities here, so that its task is there to the end.
        with before.running(activities=False):
            handle = before.start(flow)
            eventually(lambda: children_of(before, handle.id), WAIT)
            [child_id] = children_of(before, handle.id)
            eventually(lambda: before.tasks(child_id), WAIT)
    with Continuum(journal=journal, registry=new, **SETTINGS) as after, after.running(activities=False):
        after.handle(child_id).signal("go", None)
        eventually(lambda: after.get(child_id).state == RunState.STUCK, WAIT)
        after.handle(handle.id).signal("end", None)
        after.handle(handle.id).result(timeout=WAIT)
        eventually(lambda: after.get(child_id).state == RunState.TERMINATED, WAIT)
        assert after.tasks(child_id) == []
        events = after.history(child_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[-1].type == EventType.RUN_TERMINATED
        assert handle.id in (events[-1].payload or "")
