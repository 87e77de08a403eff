"""The text of a group commit: its limits, and which of the texts it calls."""

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from continuum.errors import JournalError
from continuum.journal.postgres import commit as module
from continuum.journal.postgres.commit import MAX_RUNS, commit_call
from continuum.journal.postgres.commit_texts import (
    COMMIT,
    COMMIT_DOOMED,
    COMMIT_FAMILY,
    COMMIT_MAIL,
    COMMIT_SINGLE,
    COMMIT_STEP,
)
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.requests import CommitRequest
from continuum.model.decisions import Cascade, ChildOrder, Commit, Decision, Letter, Report, Successor
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, new_run_id, new_worker_id
from continuum.model.policies import ActivityPolicy
from continuum.model.runs import ParentClose, RunState
from continuum.model.tasks import TaskOrder

WORKER = new_worker_id()
POLICY = ActivityPolicy(queue="payments")


def commit(
    run_id: RunId | None = None,
    *,
    state: RunState = RunState.SUSPENDED,
    cancelled: list[int] | None = None,
    consumed: tuple[int, ...] = (),
    events: int = 1,
    adopted: str | None = None,
    woke: bool = False,
    kind: EventType = EventType.RUN_BEGAN,
) -> Commit:
    run_id = run_id or new_run_id(1_000_000)
    decision = Decision(
        events=[Event(2 + at, kind, None, None, None, 5) for at in range(events)],
        orders=[TaskOrder(1, "charge", "[]", POLICY, POLICY.encode())],
        cancelled=cancelled or [],
        state=state,
        wake_at=None,
        logs=[],
    )
    return Commit(run_id, ChainId(run_id), 1, 1, decision, consumed=consumed, adopted_hash=adopted, woke=woke)


def called(*commits: Commit) -> str:
    return commit_call(CommitRequest(WORKER, commits), Payloads(None))


def text_of(*commits: Commit) -> str:
    """Return the name of the prepared text that the commit calls, having seen that it is given what it takes."""
    call = called(*commits)
    name, _, arguments = call.removeprefix("execute continuum_").partition("(")
    [statement] = [one for one in TEXTS if one.name == name]
    # No argument of these commits holds a comma followed by a space.
    assert arguments.count(", ") + 1 == parameters(statement)
    return name


def parameters(statement: Statement) -> int:
    return max(int(number) for number in re.findall(r"\$(\d+)::", statement.sql))


TEXTS = (COMMIT, COMMIT_MAIL, COMMIT_DOOMED, COMMIT_FAMILY, COMMIT_SINGLE, COMMIT_STEP)


def test_an_ordinary_step_of_one_run_calls_the_shortest_text() -> None:
    assert text_of(commit()) == "commit_step"


@pytest.mark.parametrize(
    "rare",
    [
        commit(woke=True),
        commit(adopted="hash"),
        commit(state=RunState.COMPLETED),
        commit(state=RunState.FAILED),
        commit(kind=EventType.CANCEL_REQUESTED),
    ],
)
def test_one_run_of_which_more_changes_calls_the_text_for_a_single_run(rare: Commit) -> None:
    assert text_of(rare) == "commit_single"


@pytest.mark.parametrize("count", [1, 2])
def test_mail_calls_the_text_with_mail(count: int) -> None:
    assert text_of(*(commit(consumed=(7,)) for _ in range(count))) == "commit_mail"


@pytest.mark.parametrize("count", [1, 2])
def test_a_cancelled_task_calls_the_longest_text(count: int) -> None:
    assert text_of(*(commit(cancelled=[7]) for _ in range(count))) == "commit_doomed"
    assert text_of(*(commit(cancelled=[7], consumed=(7,)) for _ in range(count))) == "commit_doomed"


def test_one_run_that_wrote_much_travels_in_columns() -> None:
    assert text_of(commit(events=1_000)) == "commit"


OTHER = new_run_id(2_000_000)
CHILD = ChildOrder(OTHER, 1, "child", 3, "hash", "{}", ParentClose.TERMINATE)
LETTER = Letter(ChainId(OTHER), EventType.SIGNAL_RECEIVED, "go", "1")
REPORT = Report(OTHER, 1, EventType.CHILD_COMPLETED, "1")


def reaching(**reach: Any) -> Commit:
    one = commit()
    return msgspec.structs.replace(one, decision=msgspec.structs.replace(one.decision, **reach))


@pytest.mark.parametrize(
    "far",
    [
        reaching(children=[CHILD]),
        reaching(letters=[LETTER]),
        reaching(cascade=Cascade.CANCEL),
        reaching(cascade=Cascade.CLOSE),
        reaching(attributes="{}"),
        reaching(state=RunState.CONTINUED, successor=Successor(OTHER, "{}")),
        msgspec.structs.replace(commit(state=RunState.COMPLETED), report=REPORT),
    ],
)
def test_a_run_that_reaches_out_calls_the_text_for_families_with_whoever_is_beside_it(far: Commit) -> None:
    assert text_of(far) == "commit_family"
    assert text_of(commit(), far, commit(cancelled=[7], consumed=(7,))) == "commit_family"


def test_a_letter_to_a_child_of_the_same_decision_is_marked_as_such() -> None:
    """Nobody can see the child's row yet: whether its chain has ended cannot be asked."""
    stranger, newborn = called(reaching(letters=[LETTER])), called(reaching(children=[CHILD], letters=[LETTER]))
    assert "'{1,0,-1}'" in stranger  # place, what, no command
    assert "'{1,1,-1}'" in newborn


@pytest.mark.parametrize("state", [RunState.SUSPENDED, RunState.COMPLETED])
def test_several_runs_call_the_text_for_many_also_if_one_ends(state: RunState) -> None:
    assert text_of(commit(), commit(state=state)) == "commit"


def test_an_ended_run_orders_nothing_any_more() -> None:
    assert "charge" in called(commit())
    assert "charge" not in called(commit(state=RunState.COMPLETED))


@pytest.mark.parametrize("statement", TEXTS)
def test_a_text_uses_each_of_its_parameters(statement: Statement) -> None:
    assert all(f"${number}::" in statement.sql for number in range(1, parameters(statement) + 1))


def test_a_policy_travels_once_however_many_tasks_have_it() -> None:
    assert called(*(commit() for _ in range(50))).count("payments") == 2  # its queue, and its text


def test_too_many_runs_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="send several"):
        called(*(commit() for _ in range(MAX_RUNS + 1)))


def test_a_run_twice_is_the_callers_mistake() -> None:
    one = commit()
    with pytest.raises(ValueError, match="twice"):
        called(one, one)


def test_a_text_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TEXT", 100)
    with pytest.raises(JournalError, match="send fewer runs"):
        called(commit())


@pytest.mark.parametrize("deadline", [timedelta(0), timedelta(microseconds=1), timedelta(milliseconds=1)])
@pytest.mark.parametrize("count", [1, 2])
def test_a_dispatched_task_is_no_claimed_one_however_short_its_deadline(count: int, deadline: timedelta) -> None:
    """How an order is inserted travels as one number: 0 free, 1 claimed, or a deadline in milliseconds."""
    sent = [msgspec.structs.replace(commit(), dispatched=frozenset({1})) for _ in range(count)]
    request = CommitRequest(WORKER, sent, deadline)
    shortest = CommitRequest(WORKER, sent, timedelta(milliseconds=2))
    assert commit_call(request, Payloads(None)) == commit_call(shortest, Payloads(None))
