"""A commit that is not written reaches nobody: no child, letter, report, attribute or successor of it exists."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from continuum.errors import JournalError
from continuum.model.decisions import Cascade, Commit, Successor
from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_run_id
from continuum.model.leases import ClaimedRun
from continuum.model.runs import ParentClose, RunState
from tests.support.families import (
    CHILD,
    bear,
    child_of,
    claim_children,
    continuation,
    every_run,
    family,
    report_of,
    signal_letter,
    started_events,
    told,
)
from tests.support.journals import Desk, commit_of, event, grant_of, order

POLICIES = (ParentClose.CANCEL, ParentClose.TERMINATE)
Relatives = tuple[ClaimedRun, ClaimedRun, list[ClaimedRun]]
Hinder = Callable[[Desk, WorkerId, Relatives], AbstractContextManager[None]]


def reaching(desk: Desk, relatives: Relatives, kind: str, **fields: Any) -> Commit:
    """Return a commit of the run in the middle that does one of all that reaches beyond its own row."""
    _, run, children = relatives
    if kind == "successor":
        return continuation(desk, run, successor_version=(1, "child-1"), **fields)[1]
    ordered = child_of(desk, run, 9)
    does: dict[str, dict[str, Any]] = {
        "child": {"children": [ordered]},
        "letter": {"letters": [signal_letter(children[0].chain_id)]},
        "letter to a fresh child": {"children": [ordered], "letters": [signal_letter(ordered.id)]},
        "attributes": {"attributes": '{"a": 2}'},
        "cancel": {"cascade": Cascade.CANCEL},
        "close": {"cascade": Cascade.CLOSE, "state": RunState.COMPLETED, "woke": True},
        "report": {"report": report_of(run), "state": RunState.COMPLETED, "woke": True},
    }
    events = started_events([ordered]) if "child" in kind else [event(EventType.VALUE_RECORDED, command=8)]
    if kind in {"close", "report"}:
        events = [event(EventType.RUN_COMPLETED, payload="1")]
    return commit_of(run, *events, **does[kind], **fields)


KINDS = (
    "child",
    "letter",
    "letter to a fresh child",
    "attributes",
    "cancel",
    "close",
    "report",
    "successor",
)


@pytest.fixture
def relatives(desk: Desk, worker: WorkerId) -> Relatives:
    """Return a run, its child, and the children of that one."""
    run = desk.fresh(worker, attributes='{"a": 1}')
    run = bear(desk, worker, run, child_of(desk, run))
    [middle] = claim_children(desk, worker)
    orders = [child_of(desk, middle, command, close=close) for command, close in enumerate(POLICIES)]
    middle = bear(desk, worker, middle, *orders)
    return run, middle, claim_children(desk, worker)


def nothing_was_written(desk: Desk, worker: WorkerId, relatives: Relatives) -> bool:
    run, middle, children = relatives
    row = desk.run(middle.run_id)
    return (
        all(told(desk, worker, one) == [] for one in relatives[2])
        and told(desk, worker, run) == []
        and desk.types(middle.run_id) == [str(item.type) for item in middle.events]
        and (row.is_tip, row.attributes, row.state) == (True, {"a": 1}, RunState.SUSPENDED)
        and len(every_run(desk)) == 2 + len(children)
        and claim_children(desk, worker) == []
    )


def released(desk: Desk, worker: WorkerId, relatives: Relatives) -> AbstractContextManager[None]:
    desk.release(worker, relatives[1])
    return nullcontext()


def under_a_newer_token(desk: Desk, worker: WorkerId, relatives: Relatives) -> AbstractContextManager[None]:
    desk.regrant(worker, grant_of(relatives[1]))
    return nullcontext()


def locked(desk: Desk, worker: WorkerId, relatives: Relatives) -> AbstractContextManager[None]:
    assert worker
    return desk.locked(relatives[1].run_id)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hinder", [released, under_a_newer_token, locked], ids=lambda one: one.__name__)
def test_who_does_not_hold_the_run_or_finds_it_locked_reaches_nobody(
    desk: Desk, worker: WorkerId, relatives: Relatives, kind: str, hinder: Hinder
) -> None:
    commit = reaching(desk, relatives, kind)
    with hinder(desk, worker, relatives):
        assert desk.commit(worker, commit) == frozenset()
    assert nothing_was_written(desk, worker, relatives)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hinder", [released, under_a_newer_token, locked], ids=lambda one: one.__name__)
def test_nor_does_it_in_a_batch_of_which_the_rest_is_written(
    desk: Desk, worker: WorkerId, relatives: Relatives, kind: str, hinder: Hinder
) -> None:
    commit = reaching(desk, relatives, kind)
    plain = commit_of(relatives[0], event(EventType.VALUE_RECORDED, command=7))
    with hinder(desk, worker, relatives):
        assert desk.commit(worker, plain, commit) == {plain.run_id}
    assert nothing_was_written(desk, worker, relatives)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [-1, 1])
def test_a_decision_made_on_another_last_event_reaches_nobody(
    desk: Desk, worker: WorkerId, relatives: Relatives, kind: str, step: int
) -> None:
    commit = reaching(desk, relatives, kind, seen=relatives[1].last_seq + step)
    assert desk.commit(worker, commit) == frozenset()
    assert nothing_was_written(desk, worker, relatives)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_with_a_result_whose_claim_is_gone_reaches_nobody(
    desk: Desk, worker: WorkerId, relatives: Relatives, kind: str
) -> None:
    commit = reaching(desk, relatives, kind, finished=[(6, 1)])
    assert desk.commit(worker, commit) == frozenset()
    assert nothing_was_written(desk, worker, relatives)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_decision_reaches_them_once_when_it_is_written(
    desk: Desk, worker: WorkerId, relatives: Relatives, kind: str
) -> None:
    run, _, children = relatives
    commit = reaching(desk, relatives, kind)
    assert [len(desk.commit(worker, commit)) for _ in range(3)] == [1, 0, 0]
    fresh = claim_children(desk, worker)
    found = [len(told(desk, worker, one)) for one in (run, *children)] + [len(fresh)]
    assert (
        found
        == {
            "child": [0, 0, 0, 1],
            "letter": [0, 1, 0, 0],
            "letter to a fresh child": [0, 0, 0, 1],
            "attributes": [0, 0, 0, 0],
            "cancel": [0, 1, 1, 0],
            "close": [0, 1, 1, 0],
            "report": [1, 0, 0, 0],
            "successor": [0, 0, 0, 1],
        }[kind]
    )
    assert all(len(one.mail) == (kind == "letter to a fresh child") for one in fresh)


def test_an_unknown_run_reaches_nobody(desk: Desk, worker: WorkerId, relatives: Relatives) -> None:
    _, middle, children = relatives
    commit = reaching(desk, relatives, "letter to a fresh child")
    fields = {name: getattr(commit, name) for name in commit.__struct_fields__}
    unknown = Commit(**{**fields, "run_id": new_run_id(desk.now_us())})
    assert desk.commit(worker, unknown) == frozenset()
    assert nothing_was_written(desk, worker, (relatives[0], middle, children))


def test_of_a_mixed_batch_the_refused_reach_nobody_and_the_others_whom_they_want(desk: Desk, worker: WorkerId) -> None:
    families = [family(desk, worker, *POLICIES) for _ in range(40)]
    refused = set(range(0, 40, 5))
    for number in refused:
        desk.regrant(worker, grant_of(families[number][0]))
    commits, orders = [], []
    for number, (run, children) in enumerate(families):
        ordered = child_of(desk, run, 5)
        orders.append(ordered)
        commits.append(
            commit_of(
                run,
                *started_events([ordered]),
                event(EventType.ACTIVITY_SCHEDULED, command=6, name="charge"),
                orders=[order(6)],
                children=[ordered],
                letters=[signal_letter(children[0].chain_id), signal_letter(ordered.id)] if number % 2 else [],
                attributes=f'{{"number": {number}}}' if number % 3 == 0 else None,
                cascade=Cascade.CANCEL if number % 4 == 0 else None,
            )
        )
    written = {run.run_id for number, (run, _) in enumerate(families) if number not in refused}
    assert desk.commit(worker, *commits) == written
    fresh = {child.run_id: child for child in claim_children(desk, worker)}
    assert set(fresh) == {one.id for number, one in enumerate(orders) if number not in refused}
    for number, (run, children) in enumerate(families):
        good = number not in refused
        signals = ["signal_received"] if good and number % 2 else []
        asked = ["cancel_requested"] if good and number % 4 == 0 else []
        assert [sorted(told(desk, worker, child)) for child in children] == [sorted(asked + signals), asked]
        assert desk.run(run.run_id).attributes == ({"number": number} if good and number % 3 == 0 else {})
        if good:
            assert len(fresh[orders[number].id].mail) == len(signals)
            assert desk.run(orders[number].id).workflow == CHILD


@pytest.mark.parametrize("kind", ["child", "successor"])
def test_a_run_that_exists_is_nobodys_child_and_no_successor(
    desk: Desk, worker: WorkerId, relatives: Relatives, kind: str
) -> None:
    run, middle, _ = relatives
    taken = desk.make_run(workflow="other")
    if kind == "child":
        commit = commit_of(middle, children=[child_of(desk, middle, 9, id=taken)])
    else:
        last = event(EventType.RUN_CONTINUED)
        commit = commit_of(middle, last, successor=Successor(taken, "{}"), state=RunState.CONTINUED, woke=True)
    plain = commit_of(run, event(EventType.VALUE_RECORDED, command=7))
    with pytest.raises(JournalError):
        desk.commit(worker, plain, commit)
    assert [desk.run(one.run_id).last_seq for one in (run, middle)] == [run.last_seq, middle.last_seq]
    assert desk.run(middle.run_id).is_tip
    assert (desk.types(taken), desk.run(taken).parent_id) == (["run_started"], None)
