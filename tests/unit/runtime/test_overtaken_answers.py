"""A look at a run's row overtakes the answer to its commit: the desk and the commits have lines of their own."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from continuum.journal.requests import CommitReply, InspectReply
from continuum.model.decisions import Commit, Decision
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.leases import GrantState
from continuum.model.runs import RunState
from continuum.runtime.turns.batches import Batches
from continuum.runtime.turns.slots import Slot
from tests.support.settling import Settling

RUN = RunId("018f0000-0000-7000-8000-000000000001")


class Line:
    """A commit line that answers when it is told to."""

    def __init__(self) -> None:
        self.idle = True
        self.slots: list[Slot] = []
        self.commits: list[Commit] = []

    def send(self, slots: list[Slot], request: Any) -> None:
        self.idle, self.slots, self.commits = False, slots, request.commits


class Stage(Settling):
    """Two commit lines, and a run that is held."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = Batches(
            selector=SimpleNamespace(),  # type: ignore[arg-type]
            journal=SimpleNamespace(open_line=None),  # type: ignore[arg-type]
            lines=0,
            table=self.table,
            settlement=self.settlement,
            lease=self.lease,
            patience=1.0,
            dispatch_deadline=timedelta(seconds=1),
        )
        self.lines = [Line(), Line()]
        self.batches.wires = self.lines  # type: ignore[assignment]
        self.slot = self.hold(RUN)

    def fly(self, seen: int) -> Commit:
        """Take a decision of one event on a history of so many."""
        event = Event(seen + 1, EventType.VALUE_RECORDED, 0, "v", "1", 0)
        commit = Commit(RUN, ChainId(RUN), 1, seen, Decision([event], [], [], RunState.SUSPENDED, None, []))
        self.table.fly(self.slot, commit)
        self.batches.add(self.slot)
        return commit

    def look(self, last_seq: int, owner: WorkerId | None = None) -> None:
        """The row was looked up, and this is what it said."""
        state = GrantState(RUN, self.lease.worker if owner is None else owner, 1, last_seq)
        self.settlement.inspected([RUN], InspectReply((state,)))

    def answer(self, line: Line, *, written: bool = True) -> None:
        line.idle = True
        self.settlement.replied(line.slots, CommitReply(frozenset({RUN} if written else ())))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_look_that_sees_the_commit_leaves_it_to_its_answer(stage: Stage) -> None:
    commit = stage.fly(seen=3)
    stage.batches.send()
    stage.look(last_seq=4)
    assert stage.slot.commit is commit
    stage.answer(stage.lines[0])
    assert stage.slot.commit is None
    assert stage.table.flying == 0


def test_a_look_that_does_not_see_the_commit_yet_does_not_send_it_twice(stage: Stage) -> None:
    stage.fly(seen=3)
    stage.batches.send()
    stage.look(last_seq=3)
    stage.batches.send()
    assert stage.lines[1].idle
    stage.answer(stage.lines[0])
    following = stage.fly(seen=4)
    stage.batches.send()
    assert stage.slot.commit is following
    assert stage.slot.sent


def test_a_look_at_a_run_that_ends_by_its_own_commit_does_not_lose_its_end(stage: Stage) -> None:
    stage.fly(seen=3)
    stage.batches.send()
    # Nobody owns a run that has ended.
    stage.look(last_seq=4, owner=WorkerId(""))
    assert stage.table.holds(stage.slot)
    stage.slot.execution.ended = True  # type: ignore[misc]
    stage.answer(stage.lines[0])
    assert stage.settlement.done == [RUN]


def test_a_look_before_the_commit_was_sent_does_not_send_it_on_its_own(stage: Stage) -> None:
    commit = stage.fly(seen=3)
    stage.look(last_seq=3)
    stage.batches.send()
    assert stage.lines[0].commits == [commit]
    assert stage.lines[1].idle


def test_a_commit_that_was_missed_is_looked_up_and_sent_again_on_one_line(stage: Stage) -> None:
    commit = stage.fly(seen=3)
    stage.batches.send()
    stage.answer(stage.lines[0], written=False)
    assert stage.desk.inspects == {RUN}
    # Twice, as when it was looked up for another reason as well.
    stage.look(last_seq=3)
    stage.look(last_seq=3)
    stage.batches.send()
    assert [line.commits for line in stage.lines if not line.idle] == [[commit]]
    stage.answer(stage.lines[0])
    assert stage.slot.commit is None


def test_a_run_that_somebody_else_has_is_dropped(stage: Stage) -> None:
    stage.fly(seen=3)
    stage.batches.send()
    stage.answer(stage.lines[0], written=False)
    stage.look(last_seq=9, owner=WorkerId("another"))
    assert not stage.table.holds(stage.slot)
