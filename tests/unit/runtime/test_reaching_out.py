"""What the turns thread does once a commit is acknowledged that reaches beyond its own run."""

from typing import Any

import pytest

from continuum.journal.requests import ClaimRequest, CommitReply, MailRequest, Request
from continuum.model.decisions import Cascade, ChildOrder, Commit, Decision, Letter, Report, Successor
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.runs import ENDED, ParentClose, RunState
from continuum.runtime.turns.batches import _size
from continuum.runtime.turns.slots import Slot
from tests.support.settling import Settling

WORKER = WorkerId("w")


class Stage(Settling):
    """A settlement on whose desk nothing is wanted yet."""

    def __init__(self) -> None:
        super().__init__()
        self.asked()

    def commit(
        self, slot: Slot, state: RunState = RunState.SUSPENDED, *, report: Report | None = None, **reach: Any
    ) -> None:
        """Acknowledge a decision of a run."""
        decision = Decision([], [], [], state, None, [], **reach)
        execution: Any = slot.execution
        execution.ended = state in ENDED
        commit = Commit(slot.run_id, slot.chain_id, slot.token, 0, decision, report=report)
        self.table.fly(slot, commit)
        self.settlement.replied([slot], CommitReply(frozenset((slot.run_id,))))

    def asked(self, room: int = 64) -> list[Request]:
        """Return what the desk asks for until it has nothing to ask."""
        found = []
        while (request := self.desk.next_request(WORKER, room=room)) is not None:
            found.append(request)
        return found

    def asked_for(self) -> list[type]:
        return [type(request) for request in self.asked()]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def order(name: str, workflow: str = "flow") -> ChildOrder:
    return ChildOrder(RunId(name), 0, workflow, 1, "hash", "{}", ParentClose.CANCEL)


def letter(to: str) -> Letter:
    return Letter(ChainId(to), EventType.SIGNAL_RECEIVED, "s", "1")


def test_new_children_are_claimed_and_nobody_else_is_told_if_that_takes_all(stage: Stage) -> None:
    stage.commit(stage.hold("parent"), children=[order("child")])
    assert not stage.settlement.freed_runs
    assert stage.asked_for() == [ClaimRequest]
    assert stage.desk.claimed(all_of_it=True) is False


def test_others_are_told_of_the_children_that_a_claim_has_left(stage: Stage) -> None:
    stage.commit(stage.hold("parent"), children=[order("child")])
    assert stage.asked_for() == [ClaimRequest]
    assert stage.desk.claimed(all_of_it=False) is True
    assert stage.desk.claimed(all_of_it=False) is False, "once"


def test_a_claim_on_its_way_says_nothing_of_children_that_came_after_it(stage: Stage) -> None:
    stage.desk.want_claim = True
    assert stage.asked_for() == [ClaimRequest]
    stage.commit(stage.hold("parent"), children=[order("child")])
    assert stage.desk.claimed(all_of_it=False) is False
    assert stage.desk.untold
    assert stage.asked_for() == [ClaimRequest]


def test_others_are_told_at_once_of_children_whose_code_is_not_here(stage: Stage) -> None:
    stage.commit(stage.hold("parent"), children=[order("child"), order("other", "elsewhere")])
    assert stage.settlement.freed_runs


def test_the_end_of_a_child_whose_parent_is_here_makes_its_mail_read_and_tells_nobody(stage: Stage) -> None:
    stage.hold("parent")
    report = Report(RunId("parent"), 3, EventType.CHILD_COMPLETED, "1")
    stage.commit(stage.hold("child"), RunState.COMPLETED, report=report)
    assert stage.asked_for() == [MailRequest]
    assert not stage.settlement.posted


def test_the_end_of_a_child_whose_parent_is_not_here_is_told(stage: Stage) -> None:
    stage.hold("another")
    report = Report(RunId("parent"), 3, EventType.CHILD_COMPLETED, "1")
    stage.commit(stage.hold("child"), RunState.COMPLETED, report=report)
    assert stage.settlement.posted
    assert stage.asked_for() == [MailRequest]


def test_letters_are_told_unless_they_are_for_somebody_here(stage: Stage) -> None:
    parent = stage.hold("parent")
    stage.hold("tip", "chain")
    stage.commit(parent, letters=[letter("chain")])
    assert not stage.settlement.posted
    assert stage.asked_for() == [MailRequest]
    stage.commit(parent, letters=[letter("chain"), letter("stranger")])
    assert stage.settlement.posted


def test_a_letter_to_a_child_that_is_only_now_there_comes_with_its_claim(stage: Stage) -> None:
    stage.commit(stage.hold("parent"), children=[order("child")], letters=[letter("child")])
    assert not stage.settlement.posted
    assert stage.asked_for() == [ClaimRequest]


def test_a_cascade_is_told(stage: Stage) -> None:
    stage.commit(stage.hold("parent"), cascade=Cascade.CANCEL)
    assert stage.settlement.posted
    assert stage.asked_for() == [MailRequest]


def test_the_end_of_a_chain_is_announced_under_its_last_run_and_its_first(stage: Stage) -> None:
    stage.commit(stage.hold("tip", "root"), RunState.FAILED)
    assert stage.settlement.done == ["tip", "root"]
    assert stage.table.of_chain(ChainId("root")) is None


def test_a_run_that_goes_on_as_new_is_not_announced_and_its_successor_is_claimed(stage: Stage) -> None:
    successor = Successor(RunId("next"), "{}")
    stage.commit(stage.hold("root"), RunState.CONTINUED, successor=successor, letters=[letter("root")])
    assert stage.settlement.done == []
    assert not stage.settlement.posted, "the letter to its own chain comes with the claim"
    assert stage.asked_for() == [ClaimRequest]


def test_the_size_of_a_commit_counts_what_it_sends_to_others() -> None:
    empty = Decision([], [], [], RunState.COMPLETED, None, [])
    event = Event(1, EventType.CHILD_STARTED, 0, "flow", "x" * 10, 0)
    full = Decision(
        [event],
        [],
        [],
        RunState.CONTINUED,
        None,
        [],
        children=[ChildOrder(RunId("c"), 0, "flow", 1, "h", "y" * 100, ParentClose.CANCEL, "z" * 1_000)],
        letters=[Letter(ChainId("l"), EventType.CANCEL_REQUESTED), letter("l")],
        attributes="a" * 10_000,
        successor=Successor(RunId("s"), "b" * 100_000),
    )
    report = Report(RunId("p"), 1, EventType.CHILD_COMPLETED, "r" * 1_000_000)
    assert _size(Commit(RunId("r"), ChainId("r"), 1, 0, empty)) == 0
    assert _size(Commit(RunId("r"), ChainId("r"), 1, 0, full, report=report)) == 1_111_111
