"""A run starts others and waits for them: whatever becomes of them, it learns of it, once."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from continuum import ChildCancelled, Continuum, RunCancelled, RunFailed
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import Journal
from continuum.model.events import EventType
from continuum.model.runs import ParentClose, RunState
from tests.integration.runtime import families
from tests.integration.runtime.families import children_of, family_of
from tests.integration.runtime.test_disasters import SETTINGS
from tests.support.eventually import eventually

WAIT = 30


def kinds(continuum: Continuum, run_id: str) -> list[str]:
    return [str(event.type) for event in continuum.history(run_id)]


def test_children_run_one_after_the_other(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.sequential, 4)
        assert handle.result(timeout=WAIT) == [0, 2, 4, 6]
    assert kinds(continuum, handle.id) == [
        EventType.RUN_STARTED,
        EventType.RUN_BEGAN,
        *[EventType.CHILD_STARTED, EventType.CHILD_COMPLETED] * 4,
        EventType.RUN_COMPLETED,
    ]


def test_a_child_knows_who_started_it(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.sequential, 1)
        handle.result(timeout=WAIT)
    [child] = children_of(continuum, handle.id)
    run = continuum.get(child)
    assert (str(run.parent_id), str(run.parent_chain_id), run.parent_command) == (handle.id, handle.id, 0)
    assert (run.chain_id, run.parent_close, run.workflow) == (child, ParentClose.CANCEL, "families.doubled")
    assert (run.state, run.is_tip, run.lease_owner) == (RunState.COMPLETED, True, None)


def test_gathered_children_return_in_the_order_they_were_asked_for(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.gathered, 50)
        assert handle.result(timeout=WAIT) == [number * 2 for number in range(50)]
    assert len(set(children_of(continuum, handle.id))) == 50


def test_children_inherit_the_namespace_and_the_attributes(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.nested, 2, namespace="other", attributes={"customer": "c1", "rank": 3})
        assert handle.result(timeout=WAIT) == 2
    for each in family_of(continuum, handle.id):
        run = continuum.get(each)
        assert (run.namespace, run.attributes) == ("other", {"customer": "c1", "rank": 3})


def test_a_child_that_fails_raises_what_it_raised_at_its_await(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.catching, "no such order")
        assert handle.result(timeout=WAIT) == "ChildFailed: LookupError: no such order"


def test_a_child_failure_that_nobody_catches_fails_the_parent(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.propagating, "no such order")
        with pytest.raises(RunFailed, match="no such order") as failed:
            handle.result(timeout=WAIT)
    assert failed.value.type_name.endswith("ChildFailed")


@pytest.mark.parametrize(("how", "state"), [("cancel", "cancelled"), ("terminate", "terminated")])
def test_a_child_that_is_ended_from_outside_is_cancelled_at_its_await(
    continuum: Continuum, how: str, state: str
) -> None:
    with continuum.running():
        handle = continuum.start(families.watching)
        [child] = eventually(lambda: children_of(continuum, handle.id), WAIT)
        eventually(lambda: continuum.get(child).state == RunState.SUSPENDED, WAIT)
        getattr(continuum, how)(child)
        assert handle.result(timeout=WAIT) == f"cancelled: {state}"
    assert continuum.get(child).state == state
    assert kinds(continuum, handle.id).count(EventType.CHILD_CANCELLED) == 1


def test_a_child_that_was_cancelled_before_it_began_has_run_no_code(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.asking)
        assert handle.result(timeout=WAIT) == "cancelled: cancelled"
    [child] = children_of(continuum, handle.id)
    assert kinds(continuum, child) == [EventType.RUN_STARTED, EventType.CANCEL_REQUESTED, EventType.RUN_CANCELLED]


def test_a_parent_that_asks_its_child_to_cancel_waits_for_it_to_clean_up(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.asking_later)
        [child] = eventually(lambda: children_of(continuum, handle.id), WAIT)
        eventually(lambda: continuum.get(child).state == RunState.SUSPENDED, WAIT)
        handle.signal("now", None)
        assert handle.result(timeout=WAIT) == "cancelled: cancelled"
    assert kinds(continuum, child)[-4:] == [
        EventType.CANCEL_REQUESTED,
        EventType.ACTIVITY_SCHEDULED,
        EventType.ACTIVITY_COMPLETED,
        EventType.RUN_CANCELLED,
    ]
    assert EventType.CHILD_CANCEL_REQUESTED in kinds(continuum, handle.id)


def test_a_wait_that_is_given_up_asks_the_child_to_cancel(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.giving_up)
        child = handle.result(timeout=WAIT)
        with pytest.raises(RunCancelled):
            continuum.handle(child).result(timeout=WAIT)
        eventually(lambda: continuum.get(child).state == RunState.CANCELLED, WAIT)


def test_signals_of_a_parent_arrive_in_order(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(families.signalling, 20).result(timeout=WAIT) == list(range(20))


def test_a_client_signals_a_child_by_its_id(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.watching)
        [child] = eventually(lambda: children_of(continuum, handle.id), WAIT)
        continuum.handle(child).signal("go", "went")
        assert handle.result(timeout=WAIT) == "went"


def test_a_child_that_continues_as_new_reports_once(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.with_chain, 3)
        assert handle.result(timeout=WAIT) == 6
    assert kinds(continuum, handle.id).count(EventType.CHILD_COMPLETED) == 1
    [child] = children_of(continuum, handle.id)
    assert continuum.get(child).state == RunState.CONTINUED
    assert continuum.handle(child).result(timeout=WAIT) == 6


def test_children_are_no_deeper_than_allowed(journal: Journal) -> None:
    with Continuum(journal=journal, max_child_depth=3, **SETTINGS) as instance, instance.running():
        handle = instance.start(families.bottomless)
        assert handle.result(timeout=WAIT) == 3
        assert len(family_of(instance, handle.id)) == 4


def test_an_abandoned_child_of_a_run_that_ends_at_once_does_its_work(continuum: Continuum) -> None:
    with continuum.running():
        child = continuum.start(families.forgetting, 21).result(timeout=WAIT)
        assert continuum.handle(child).result(timeout=WAIT) == 42
    assert continuum.get(child).state == RunState.COMPLETED


@pytest.mark.parametrize("room", [1, 2])
def test_parents_that_wait_for_their_children_take_no_room_from_them(continuum: Continuum, room: int) -> None:
    with continuum.running(active_runs=room, cached_runs=room):
        handles = [continuum.start(families.nested, 5) for _ in range(3)]
        assert [handle.result(timeout=WAIT) for handle in handles] == [5] * 3


def test_a_family_that_does_not_fit_in_memory_comes_to_its_end(continuum: Continuum) -> None:
    with continuum.running(active_runs=2, cached_runs=2):
        assert continuum.start(families.gathered, 12).result(timeout=WAIT) == [number * 2 for number in range(12)]


def registries() -> tuple[Registry, Registry, Any]:
    """Return a registry with a parent only, one with its child only, and the parent."""
    parents, children = Registry(), Registry()

    async def child(value: int) -> int:
        return value + 1

    async def parent(value: int) -> int:
        try:
            return int(await declared_child(value))
        except ChildCancelled:
            return -1

    declared_child: Any = Workflow(child, name="families.elsewhere", version=1)
    declared_parent: Any = Workflow(parent, name="families.elsewhere_parent", version=1)
    parents.register_workflow(declared_parent)
    children.register_workflow(declared_child)
    return parents, children, declared_parent


def test_a_child_is_run_by_the_dispatcher_that_has_its_code(journal: Journal) -> None:
    parents, children, parent = registries()
    with (
        Continuum(journal=journal, registry=parents, **SETTINGS) as here,
        Continuum(journal=journal, registry=children, **SETTINGS) as there,
        here.running(),
    ):
        handle = here.start(parent, 1)
        [child] = eventually(lambda: children_of(here, handle.id), WAIT)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
        assert here.get(child).state == RunState.PENDING
        with there.running():
            assert handle.result(timeout=WAIT) == 2


def test_a_child_whose_code_is_nowhere_can_be_terminated(journal: Journal) -> None:
    parents, _, parent = registries()
    with Continuum(journal=journal, registry=parents, **SETTINGS) as here, here.running():
        handle = here.start(parent, 1)
        [child] = eventually(lambda: children_of(here, handle.id), WAIT)
        here.terminate(child)
        assert handle.result(timeout=WAIT) == -1
        assert here.get(child).state == RunState.TERMINATED


def test_a_parent_that_was_given_back_hears_of_its_child_all_the_same(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(families.watching)
        [child] = eventually(lambda: children_of(continuum, handle.id), WAIT)
        eventually(lambda: continuum.get(child).state == RunState.SUSPENDED, WAIT)
    # Nobody holds either of them now.
    assert continuum.get(handle.id).lease_owner is None
    continuum.handle(child).signal("go", "later")
    with continuum.running():
        assert handle.result(timeout=WAIT) == "later"


def test_parent_and_child_may_live_in_two_dispatchers(journal: Journal) -> None:
    parents, children, parent = registries()
    slow: dict[str, Any] = {**SETTINGS, "poll_interval": timedelta(milliseconds=200)}
    with (
        Continuum(journal=journal, registry=parents, **slow) as here,
        Continuum(journal=journal, registry=children, **slow) as there,
        here.running(),
        there.running(),
    ):
        handles = [here.start(parent, number) for number in range(30)]
        assert [handle.result(timeout=WAIT) for handle in handles] == list(range(1, 31))


def test_families_and_chains_are_handed_over_as_often_as_one_likes(continuum: Continuum) -> None:
    family, chain = continuum.start(families.gathered, 40), continuum.start(families.countdown, 40)
    for number in range(1, 4):
        with continuum.running():
            # Somewhere amid it.
            eventually(partial(begun, continuum, family.id, 10 * number), WAIT, interval=0.001)
    with continuum.running():
        assert family.result(timeout=WAIT) == [number * 2 for number in range(40)]
        assert chain.result(timeout=WAIT) == sum(range(41))
    assert kinds(continuum, family.id).count(EventType.CHILD_COMPLETED) == 40


def begun(continuum: Continuum, run_id: str, count: int) -> bool:
    return sum(continuum.get(child).state != RunState.PENDING for child in children_of(continuum, run_id)) >= count
