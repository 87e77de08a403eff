"""Cascades: a run that is asked to cancel, or ends, tells the children of its chain what their policies say."""

import pytest

from continuum.model.decisions import Cascade
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId
from continuum.model.runs import ParentClose, RunState
from tests.support.families import (
    bear,
    cancel_letter,
    child_of,
    claim_children,
    continued,
    end_child,
    family,
    inbox,
    told,
)
from tests.support.journals import Desk, commit_of, event, grant_of

BEGAN = event(EventType.RUN_BEGAN)
POLICIES = (ParentClose.CANCEL, ParentClose.TERMINATE, ParentClose.ABANDON)


def test_a_run_that_is_asked_to_cancel_asks_its_children_but_those_to_be_abandoned(
    desk: Desk, worker: WorkerId
) -> None:
    run, children = family(desk, worker, *POLICIES)
    desk.write(worker, run, event(EventType.CANCEL_REQUESTED), cascade=Cascade.CANCEL)
    assert [told(desk, worker, child) for child in children] == [["cancel_requested"], ["cancel_requested"], []]
    [message] = inbox(desk, worker, children[0])
    assert (message.run_id, message.command, message.name, message.payload) == (None, None, None, None)


def test_a_run_that_ends_closes_its_children_by_their_policies(desk: Desk, worker: WorkerId) -> None:
    run, children = family(desk, worker, *POLICIES)
    desk.end(worker, run, cascade=Cascade.CLOSE)
    assert [told(desk, worker, child) for child in children] == [["cancel_requested"], ["run_terminated"], []]


def test_the_order_to_end_says_whose_end_it_was(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker, ParentClose.TERMINATE)
    desk.end(worker, run, cascade=Cascade.CLOSE)
    [message] = inbox(desk, worker, child)
    assert (message.run_id, message.command, message.name) == (None, None, None)
    assert message.payload is not None
    failure = Failure.parse(message.payload)
    assert (failure.type_name, failure.message) == ("Terminated", f"its parent {run.run_id} ended")


@pytest.mark.parametrize("cascade", [None, *Cascade])
def test_only_a_cascade_tells_children(desk: Desk, worker: WorkerId, cascade: Cascade | None) -> None:
    run, [child] = family(desk, worker)
    desk.write(worker, run, BEGAN, cascade=cascade)
    assert len(told(desk, worker, child)) == (cascade is not None)


@pytest.mark.parametrize("cascade", Cascade)
def test_a_child_that_has_ended_is_told_nothing(desk: Desk, worker: WorkerId, cascade: Cascade) -> None:
    run, children = family(desk, worker, *POLICIES)
    for child in children:
        desk.end(worker, child)
    desk.write(worker, run, BEGAN, cascade=cascade)
    assert desk.journal.upkeep.discard_dead_mail() == 0


@pytest.mark.parametrize("cascade", Cascade)
def test_a_child_that_has_continued_is_reached_by_its_chain(desk: Desk, worker: WorkerId, cascade: Cascade) -> None:
    run, children = family(desk, worker, *POLICIES)
    tips = [continued(desk, worker, continued(desk, worker, child)) for child in children]
    desk.write(worker, run, BEGAN, cascade=cascade)
    second = "cancel_requested" if cascade == Cascade.CANCEL else "run_terminated"
    assert [told(desk, worker, tip) for tip in tips] == [["cancel_requested"], [second], []]


def test_a_child_that_ended_after_it_had_continued_is_told_nothing(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    end_child(desk, worker, continued(desk, worker, child))
    desk.write(worker, run, BEGAN, cascade=Cascade.CLOSE)
    assert desk.journal.upkeep.discard_dead_mail() == 0


@pytest.mark.parametrize("cascade", Cascade)
def test_children_of_an_earlier_run_of_the_chain_are_told(desk: Desk, worker: WorkerId, cascade: Cascade) -> None:
    run, [old] = family(desk, worker)
    middle = continued(desk, worker, run)
    last = continued(desk, worker, middle)
    last = bear(desk, worker, last, child_of(desk, last, 0))
    [young] = claim_children(desk, worker)
    desk.write(worker, last, BEGAN, cascade=cascade)
    assert [told(desk, worker, child) for child in (old, young)] == [["cancel_requested"]] * 2


@pytest.mark.parametrize("cascade", Cascade)
def test_grandchildren_parents_and_strangers_are_told_nothing(desk: Desk, worker: WorkerId, cascade: Cascade) -> None:
    run, [child] = family(desk, worker)
    child = bear(desk, worker, child, child_of(desk, child, close=ParentClose.TERMINATE))
    [grandchild] = claim_children(desk, worker)
    strangers, [cousin] = family(desk, worker)
    desk.write(worker, child, BEGAN, cascade=cascade)
    assert len(told(desk, worker, grandchild)) == 1
    assert [told(desk, worker, one) for one in (run, child, strangers, cousin)] == [[]] * 4


@pytest.mark.parametrize("cascade", Cascade)
def test_a_cascade_leaves_children_of_the_same_decision_to_its_letters(
    desk: Desk, worker: WorkerId, cascade: Cascade
) -> None:
    run, [old] = family(desk, worker)
    fresh = [child_of(desk, run, command, close=ParentClose.CANCEL) for command in (1, 2)]
    bear(desk, worker, run, *fresh, cascade=cascade, letters=[cancel_letter(fresh[0].id)])
    assert told(desk, worker, old) == ["cancel_requested"]
    assert [len(child.mail) for child in claim_children(desk, worker)] == [1, 0]


def test_a_cascade_wakes_children_that_nobody_holds(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run, children = family(desk, worker, *POLICIES)
    desk.release(worker, *[desk.began(worker, child) for child in children])
    desk.end(worker, run, cascade=Cascade.CLOSE)
    assert [child.run_id for child in claim_children(desk, other)] == [child.run_id for child in children[:2]]


def test_a_cascade_does_not_wait_for_a_child_that_somebody_has_locked(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    with desk.locked(child.run_id):
        desk.end(worker, run, cascade=Cascade.CLOSE)
    assert told(desk, worker, child) == ["cancel_requested"]


def test_a_cascade_reaches_five_hundred_children(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    orders = [child_of(desk, run, number, close=POLICIES[number % 3]) for number in range(500)]
    run = bear(desk, worker, run, *orders)
    children = claim_children(desk, worker, limit=1000)
    desk.end(worker, run, cascade=Cascade.CLOSE)
    kinds = {message.chain_id: str(message.kind) for message in desk.mail(worker, limit=1000).messages}
    assert [kinds.get(child.chain_id) for child in children] == [
        ("cancel_requested", "run_terminated", None)[number % 3] for number in range(500)
    ]


def test_a_batch_may_mix_cascades(desk: Desk, worker: WorkerId) -> None:
    families = [family(desk, worker, *POLICIES) for _ in range(12)]
    plain = [desk.fresh(worker) for _ in range(12)]
    desk.regrant(worker, grant_of(families[9][0]))
    kinds = [None, Cascade.CANCEL, Cascade.CLOSE]
    commits = [commit_of(run, BEGAN, cascade=kinds[number % 3]) for number, (run, _) in enumerate(families)]
    commits = [one for pair in zip(commits, [commit_of(run, BEGAN) for run in plain], strict=True) for one in pair]
    desk.regrant(worker, grant_of(families[10][0]))
    assert len(desk.commit(worker, *commits)) == 22
    cancelled, closed = [["cancel_requested"]] * 2 + [[]], [["cancel_requested"], ["run_terminated"], []]
    expected = [[[]] * 3, cancelled, closed] * 4
    expected[10] = [[]] * 3
    assert [[told(desk, worker, child) for child in children] for _, children in families] == expected


def test_a_child_that_ends_passes_its_own_end_on_and_reports_it_at_once(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    child = bear(desk, worker, child, child_of(desk, child))
    [grandchild] = claim_children(desk, worker)
    end_child(desk, worker, child, cascade=Cascade.CLOSE)
    assert [told(desk, worker, one) for one in (run, grandchild)] == [["child_completed"], ["cancel_requested"]]
    assert desk.run(child.run_id).state == RunState.COMPLETED
