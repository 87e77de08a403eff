"""Terminating a run that has a parent or children: the one is told, the others are closed by their policies."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from continuum.errors import RunTerminal
from continuum.journal.requests import CommitReply, CommitRequest
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import RunId, WorkerId
from continuum.model.runs import ParentClose, RunState
from tests.support.families import (
    bear,
    child_of,
    claim_children,
    continued,
    end_child,
    family,
    inbox,
    started_events,
    told,
)
from tests.support.journals import WAIT_SECONDS, Desk, commit_of

POLICIES = (ParentClose.CANCEL, ParentClose.TERMINATE, ParentClose.ABANDON)


def terminate(desk: Desk, run_id: RunId, reason: str = "enough") -> RunId:
    return desk.journal.runs.terminate(run_id, namespace=None, reason=reason)


def test_the_parent_of_a_terminated_run_hears_why(desk: Desk, worker: WorkerId) -> None:
    run, [_, child] = family(desk, worker, ParentClose.CANCEL, ParentClose.CANCEL)
    terminate(desk, child.run_id, "enough")
    [message] = inbox(desk, worker, run)
    assert (message.run_id, message.kind, message.command) == (run.run_id, EventType.CHILD_CANCELLED, 1)
    assert (message.chain_id, message.name) == (run.chain_id, None)
    assert message.payload is not None
    failure = Failure.parse(message.payload)
    assert (failure.type_name, failure.message) == ("Terminated", "enough")
    terminal = desk.journal.runs.history(child.run_id)[-1]
    assert (terminal.type, terminal.payload) == (EventType.RUN_TERMINATED, message.payload)


@pytest.mark.parametrize("by", ["root", "tip"])
def test_a_child_that_has_continued_is_terminated_by_any_of_its_ids_and_its_parent_hears_of_it(
    desk: Desk, worker: WorkerId, by: str
) -> None:
    run, [child] = family(desk, worker)
    tip = continued(desk, worker, child)
    assert terminate(desk, child.run_id if by == "root" else tip.run_id) == tip.run_id
    assert [desk.run(one.run_id).state for one in (child, tip)] == [RunState.CONTINUED, RunState.TERMINATED]
    assert told(desk, worker, run) == ["child_cancelled"]


def test_a_parent_that_nobody_holds_is_woken(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.release(worker, run)
    terminate(desk, child.run_id)
    assert [message.kind for message in desk.claim_one(worker).mail] == ["child_cancelled"]


def test_a_parent_that_has_ended_is_told_nothing(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.end(worker, run)
    terminate(desk, child.run_id)
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_a_parent_that_has_continued_is_told_nothing(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    tip = continued(desk, worker, run)
    terminate(desk, child.run_id)
    assert told(desk, worker, tip) == []


def test_children_of_a_terminated_run_are_closed_by_their_policies(desk: Desk, worker: WorkerId) -> None:
    run, children = family(desk, worker, *POLICIES)
    terminate(desk, run.run_id)
    assert [told(desk, worker, child) for child in children] == [["cancel_requested"], ["run_terminated"], []]
    [message] = inbox(desk, worker, children[1])
    assert message.payload is not None
    failure = Failure.parse(message.payload)
    assert (failure.type_name, failure.message) == ("Terminated", f"its parent {run.run_id} ended")
    assert (message.run_id, message.command, message.name) == (None, None, None)


def test_children_of_the_whole_chain_are_closed_those_that_continued_too(desk: Desk, worker: WorkerId) -> None:
    run, [old] = family(desk, worker, ParentClose.TERMINATE)
    tip = continued(desk, worker, run)
    bear(desk, worker, tip, child_of(desk, tip))
    [young] = claim_children(desk, worker)
    older = continued(desk, worker, old)
    assert terminate(desk, run.run_id) == tip.run_id
    assert [told(desk, worker, one) for one in (older, young)] == [["run_terminated"], ["cancel_requested"]]


def test_children_that_have_ended_are_told_nothing(desk: Desk, worker: WorkerId) -> None:
    run, children = family(desk, worker, *POLICIES)
    for child in children:
        end_child(desk, worker, child)
    terminate(desk, run.run_id)
    # What they had reported is the run's own, and dead with it.
    assert desk.journal.upkeep.discard_dead_mail() == 3
    assert [desk.types(child.run_id)[-1] for child in children] == ["run_completed"] * 3


def test_grandchildren_are_left_to_their_own_parents(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    child = bear(desk, worker, child, child_of(desk, child))
    [grandchild] = claim_children(desk, worker)
    terminate(desk, run.run_id)
    assert [told(desk, worker, one) for one in (child, grandchild)] == [["cancel_requested"], []]
    terminate(desk, child.run_id)
    assert told(desk, worker, grandchild) == ["cancel_requested"]


def test_a_run_in_the_middle_tells_both_sides(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    child = bear(desk, worker, child, child_of(desk, child))
    [grandchild] = claim_children(desk, worker)
    terminate(desk, child.run_id)
    assert [told(desk, worker, one) for one in (run, grandchild)] == [["child_cancelled"], ["cancel_requested"]]


def test_a_run_without_relatives_tells_nobody(desk: Desk, worker: WorkerId) -> None:
    run, stranger = desk.parked(worker), desk.parked(worker)
    terminate(desk, run.run_id)
    assert told(desk, worker, stranger) == []
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_a_refused_termination_tells_nobody(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    child = bear(desk, worker, child, child_of(desk, child))
    [grandchild] = claim_children(desk, worker)
    desk.end(worker, child)
    with pytest.raises(RunTerminal):
        terminate(desk, child.run_id)
    assert [told(desk, worker, one) for one in (run, grandchild)] == [[], []]


def test_a_termination_does_not_wait_for_relatives_that_somebody_has_locked(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    child = bear(desk, worker, child, child_of(desk, child))
    [grandchild] = claim_children(desk, worker)
    with desk.locked(run.run_id), desk.locked(grandchild.run_id):
        terminate(desk, child.run_id)
    assert [told(desk, worker, one) for one in (run, grandchild)] == [["child_cancelled"], ["cancel_requested"]]


def test_no_child_escapes_a_termination_that_meets_the_commit_which_starts_it(desk: Desk, worker: WorkerId) -> None:
    line = desk.journal.open_line()
    try:
        for number in range(10):
            run = desk.parked(worker)
            ordered = child_of(desk, run, close=ParentClose.TERMINATE)
            commit = commit_of(run, *started_events([ordered]), children=[ordered], state=RunState.SUSPENDED)
            with ThreadPoolExecutor(1) as pool:
                if number % 2:
                    line.send(CommitRequest(worker, [commit]))
                terminating = pool.submit(terminate, desk, run.run_id)
                if not number % 2:
                    line.send(CommitRequest(worker, [commit]))
                reply = line.wait(WAIT_SECONDS)
                assert terminating.result() == run.run_id
            assert isinstance(reply, CommitReply)
            children = claim_children(desk, worker)
            assert [child.run_id for child in children] == ([ordered.id] if run.run_id in reply.written else [])
            assert all([message.kind for message in child.mail] == ["run_terminated"] for child in children)
    finally:
        line.close()
