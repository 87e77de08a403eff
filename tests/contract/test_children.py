"""Children: ordered in their parent's commit, given what it hands down, and heard of when they end."""

from typing import Any

import pytest

from continuum.errors import JournalError
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId
from continuum.model.runs import ParentClose, ParentLink, RunState
from tests.support.families import (
    CHILD,
    bear,
    child_of,
    claim_children,
    continue_as_new,
    continued,
    end_child,
    family,
    inbox,
    report_of,
    started_events,
    told,
)
from tests.support.journals import FAILURE, HOUR_US, Desk, commit_of, event, grant_of, order

BEGAN = event(EventType.RUN_BEGAN)


def test_a_child_is_a_pending_run_that_is_due_at_once_and_the_first_of_its_own_chain(
    desk: Desk, worker: WorkerId
) -> None:
    run = desk.parked(worker)
    before = desk.now()
    ordered = child_of(desk, run, 3, version=7, version_hash="abc", close=ParentClose.TERMINATE)
    bear(desk, worker, run, ordered)
    child = desk.run(ordered.id)
    assert (child.state, child.last_seq, child.grants, child.lease_owner) == (RunState.PENDING, 1, 0, None)
    assert (str(child.chain_id), child.is_tip, child.continued_from) == (ordered.id, True, None)
    assert (child.workflow, child.version, child.version_hash) == (CHILD, 7, "abc")
    assert child.wake_at is not None
    assert before <= child.wake_at <= desk.now()
    assert before <= child.created_at <= desk.now()
    assert (child.started_at, child.completed_at, child.retention_until) == (None, None, None)


def test_a_child_knows_the_run_the_chain_and_the_command_that_started_it(desk: Desk, worker: WorkerId) -> None:
    run = continued(desk, worker, desk.parked(worker))
    ordered = child_of(desk, run, 3, close=ParentClose.ABANDON)
    bear(desk, worker, run, ordered)
    child = desk.run(ordered.id)
    assert str(run.chain_id) != run.run_id
    assert (child.parent_id, child.parent_chain_id, child.parent_command) == (run.run_id, run.chain_id, 3)
    assert child.parent_close == ParentClose.ABANDON


def test_the_history_of_a_child_begins_with_what_it_was_started_with_to_the_letter(
    desk: Desk, worker: WorkerId
) -> None:
    started = '{"seed": "1",  "input": {"b": 1, "a": [1.0, 1e2], "b": 2}, "z": "\\u00eb ë"}'
    run = desk.parked(worker)
    ordered = child_of(desk, run, started=started)
    before = desk.now_us()
    bear(desk, worker, run, ordered)
    [first] = desk.journal.runs.history(ordered.id)
    assert (first.seq, first.type, first.command, first.payload) == (1, EventType.RUN_STARTED, None, started)
    assert before <= first.at <= desk.now_us()


def test_a_child_is_in_its_parents_namespace_and_has_its_trace(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, namespace="eu", trace_context="00-4bf9-00f0-01")
    ordered = child_of(desk, run)
    bear(desk, worker, run, ordered)
    child = desk.run(ordered.id)
    assert (child.namespace, child.trace_context, child.idempotency_key) == ("eu", "00-4bf9-00f0-01", None)
    assert desk.journal.runs.find(ordered.id, namespace="default") is None


# ------------------------------------------------------------------ attributes


def test_a_child_has_the_attributes_of_its_parent(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, attributes='{"customer": 7, "tags": ["a"]}')
    ordered = child_of(desk, run)
    bear(desk, worker, run, ordered)
    assert desk.run(ordered.id).attributes == {"customer": 7, "tags": ["a"]}


def test_its_own_attributes_go_over_those_of_its_parent_key_by_key(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, attributes='{"customer": 7, "place": {"city": "Ulm", "zip": 1}}')
    ordered = child_of(desk, run, attributes='{"place": {"city": "Bonn"}, "part": 1, "none": null}')
    bear(desk, worker, run, ordered)
    assert desk.run(ordered.id).attributes == {"customer": 7, "place": {"city": "Bonn"}, "part": 1, "none": None}
    assert desk.run(run.run_id).attributes == {"customer": 7, "place": {"city": "Ulm", "zip": 1}}


def test_a_child_has_what_its_parent_sets_in_the_very_same_decision_too(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, attributes='{"a": 1, "b": 1, "c": 1}')
    plain, own = child_of(desk, run, 0), child_of(desk, run, 1, attributes='{"c": 3}')
    bear(desk, worker, run, plain, own, attributes='{"b": 2, "c": 2, "d": 2}')
    assert desk.run(plain.id).attributes == {"a": 1, "b": 2, "c": 2, "d": 2}
    assert desk.run(own.id).attributes == {"a": 1, "b": 2, "c": 3, "d": 2}


@pytest.mark.parametrize("where", ["set by the decision", "its own"])
def test_a_child_of_a_run_without_attributes_has_those_of_the_decision_and_its_own(
    desk: Desk, worker: WorkerId, where: str
) -> None:
    run = desk.parked(worker)
    theirs, own = ('{"a": 1}', None) if where == "set by the decision" else (None, '{"a": 1}')
    ordered = child_of(desk, run, attributes=own)
    bear(desk, worker, run, ordered, attributes=theirs)
    assert desk.run(ordered.id).attributes == {"a": 1}


def test_a_child_of_a_run_without_attributes_has_none(desk: Desk, worker: WorkerId) -> None:
    _, [child] = family(desk, worker)
    assert desk.run(child.run_id).attributes == {}


def test_what_a_parent_sets_later_is_its_own(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.write(worker, run, attributes='{"a": 1}')
    assert desk.run(child.run_id).attributes == {}


# ------------------------------------------------------------------ claims


def test_a_claim_finds_a_child_and_says_who_started_it(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    ordered = child_of(desk, run, 5)
    bear(desk, worker, run, ordered)
    assert desk.look(worker, workflows=((CHILD, 1),)).claimable
    [child] = claim_children(desk, worker)
    assert (child.run_id, str(child.chain_id), child.workflow) == (ordered.id, ordered.id, CHILD)
    assert (child.parent, child.last_seq) == (ParentLink(run.run_id, 5), 1)
    assert [item.type for item in child.events] == [EventType.RUN_STARTED]


def test_a_regrant_says_who_started_a_child_too(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    [again] = desk.regrant(worker, grant_of(child))
    assert again.parent == ParentLink(run.run_id, 0)


def test_a_run_that_nobody_started_as_a_child_has_no_parent(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    assert run.parent is None
    assert desk.regrant(worker, grant_of(run))[0].parent is None
    row = desk.run(run.run_id)
    assert (row.parent_id, row.parent_chain_id, row.parent_command, row.parent_close) == (None, None, None, None)


def test_a_child_of_a_child_is_a_child(desk: Desk, worker: WorkerId) -> None:
    _, [child] = family(desk, worker)
    ordered = child_of(desk, child)
    bear(desk, worker, child, ordered)
    [grandchild] = claim_children(desk, worker)
    assert (grandchild.run_id, grandchild.parent) == (ordered.id, ParentLink(child.run_id, 0))


def test_a_child_is_only_claimed_by_who_has_its_code(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    bear(desk, worker, run, child_of(desk, run))
    assert desk.claim(worker) == []


def test_a_message_may_reach_a_child_before_its_first_turn(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    ordered = child_of(desk, run)
    bear(desk, worker, run, ordered)
    desk.signal(ordered.id, "early")
    [child] = claim_children(desk, worker)
    assert [message.name for message in child.mail] == ["early"]


# ------------------------------------------------------------------ many, and beside other things


def test_a_thousand_children_fit_into_one_commit(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    orders = [child_of(desk, run, command) for command in range(1000)]
    bear(desk, worker, run, *orders)
    assert {desk.run(one.id).parent_command for one in orders[::100]} == set(range(0, 1000, 100))
    children = claim_children(desk, worker, limit=2000)
    assert [child.run_id for child in children] == [one.id for one in orders]


def test_a_run_may_order_children_beside_all_else(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    desk.signal(run.run_id)
    [message] = inbox(desk, worker, run)
    ordered = child_of(desk, run, 1)
    desk.write(
        worker,
        run,
        event(EventType.SIGNAL_RECEIVED, name="paid", payload="1"),
        event(EventType.ACTIVITY_SCHEDULED, command=0, name="charge"),
        *started_events([ordered]),
        orders=[order(0)],
        children=[ordered],
        consumed=[message.id],
        wake_at=desk.now_us() + HOUR_US,
    )
    assert inbox(desk, worker, run) == []
    assert [task.command for task in desk.journal.tasks.of_run(run.run_id)] == [0]
    assert [child.run_id for child in claim_children(desk, worker)] == [ordered.id]


def test_a_run_that_ends_still_gets_the_children_it_ordered(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    ordered = child_of(desk, run, close=ParentClose.ABANDON)
    desk.end(worker, run, children=[ordered])
    [child] = claim_children(desk, worker)
    assert (child.run_id, child.mail) == (ordered.id, [])


def test_a_batch_may_mix_runs_that_have_children_with_others(desk: Desk, worker: WorkerId) -> None:
    for number in range(60):
        desk.make_run(attributes=f'{{"number": {number}}}', namespace=f"n{number % 2}")
    runs = desk.claim(worker)
    orders = {run.run_id: child_of(desk, run, 1) for run in runs[::3]}
    commits = []
    for run in runs:
        children = [orders[run.run_id]] if run.run_id in orders else []
        tasks = [] if children else [order(0)]
        commits.append(commit_of(run, BEGAN, *started_events(children), orders=tasks, children=children, woke=True))
    desk.release(worker, runs[3])
    assert desk.commit(worker, *commits) == {run.run_id for run in runs if run is not runs[3]}
    born = {child.run_id for child in claim_children(desk, worker)}
    assert born == {one.id for run_id, one in orders.items() if run_id != runs[3].run_id}
    for run in runs[::3]:
        if run is not runs[3]:
            child, parent = desk.run(orders[run.run_id].id), desk.run(run.run_id)
            assert (child.namespace, child.attributes) == (parent.namespace, parent.attributes)
            assert child.parent_id == run.run_id
    assert all(len(desk.journal.tasks.of_run(run.run_id)) == (run.run_id not in orders) for run in runs)


def test_a_commit_that_had_landed_makes_no_second_child(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    ordered = child_of(desk, run)
    commit = commit_of(run, *started_events([ordered]), children=[ordered], woke=True)
    assert desk.commit(worker, commit) == {run.run_id}
    [child] = claim_children(desk, worker)
    desk.write(worker, child, BEGAN)
    assert desk.commit(worker, commit) == frozenset()
    assert desk.types(ordered.id) == ["run_started", "run_began"]
    assert claim_children(desk, worker) == []


@pytest.mark.parametrize(
    "poison",
    [{"started": "{nonsense"}, {"started": '"a\0b"'}, {"attributes": "{nonsense"}, {"attributes": '{"a": "\\u0000"}'}],
    ids=["no JSON", "NUL", "attributes that are no JSON", "attributes with NUL"],
)
def test_a_child_that_no_column_takes_refuses_the_whole_request(
    desk: Desk, worker: WorkerId, poison: dict[str, Any]
) -> None:
    good, bad = desk.fresh(worker), desk.fresh(worker)
    orders = child_of(desk, good), child_of(desk, bad, **poison)
    commits = [commit_of(run, BEGAN, children=[one]) for run, one in zip((good, bad), orders, strict=True)]
    with pytest.raises(JournalError):
        desk.commit(worker, *commits)
    assert [desk.types(run.run_id) for run in (good, bad)] == [["run_started"]] * 2
    assert claim_children(desk, worker) == []
    assert desk.commit(worker, commits[0]) == {good.run_id}
    assert [child.run_id for child in claim_children(desk, worker)] == [orders[0].id]


# ------------------------------------------------------------------ reports


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (EventType.CHILD_COMPLETED, '{"b": 1,  "a": 2}'),
        (EventType.CHILD_FAILED, FAILURE.encode()),
        (EventType.CHILD_CANCELLED, None),
        (EventType.CHILD_CANCELLED, Failure("Terminated", "no").encode()),
    ],
    ids=["completed", "failed", "cancelled", "terminated"],
)
def test_the_end_of_a_child_reaches_its_parents_inbox(
    desk: Desk, worker: WorkerId, kind: EventType, payload: str | None
) -> None:
    run, [_, child] = family(desk, worker, ParentClose.CANCEL, ParentClose.ABANDON)
    end_child(desk, worker, child, report=report_of(child, kind, payload))
    [message] = inbox(desk, worker, run)
    assert (message.chain_id, message.run_id, message.kind) == (run.chain_id, run.run_id, kind)
    assert (message.command, message.name, message.payload) == (1, None, payload)


def test_the_report_of_a_child_wakes_a_parent_that_nobody_holds(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.release(worker, run)
    end_child(desk, worker, child)
    claimed = desk.claim_one(other)
    assert (claimed.run_id, [message.kind for message in claimed.mail]) == (run.run_id, ["child_completed"])


def test_a_parent_that_is_stuck_hears_of_its_child_later(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.stick(worker, run)
    end_child(desk, worker, child)
    assert desk.claim(worker) == []
    desk.journal.runs.terminate(run.run_id, namespace=None, reason="enough")
    assert desk.journal.upkeep.discard_dead_mail() == 1


def test_a_report_does_not_wait_for_a_parent_that_somebody_has_locked(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    with desk.locked(run.run_id):
        end_child(desk, worker, child)
    assert told(desk, worker, run) == ["child_completed"]


def test_parent_and_child_may_be_written_in_one_commit(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    end = commit_of(
        child,
        event(EventType.RUN_COMPLETED, payload="1"),
        state=RunState.COMPLETED,
        woke=True,
        report=report_of(child),
    )
    step = commit_of(run, event(EventType.VALUE_RECORDED, command=1, payload="1"))
    assert desk.commit(worker, step, end) == {run.run_id, child.run_id}
    assert told(desk, worker, run) == ["child_completed"]


def test_a_parent_that_has_ended_is_told_nothing(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.end(worker, run)
    end_child(desk, worker, child)
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_a_parent_that_has_continued_as_new_is_told_nothing(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    successor = continued(desk, worker, run)
    end_child(desk, worker, child)
    assert told(desk, worker, successor) == []


def test_a_child_that_continues_as_new_reports_only_when_its_chain_ends(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    continue_as_new(desk, worker, child, successor_version=(1, "child-1"))
    assert told(desk, worker, run) == []
    [successor] = claim_children(desk, worker)
    assert successor.parent == ParentLink(run.run_id, 0)
    end_child(desk, worker, successor)
    assert told(desk, worker, run) == ["child_completed"]


def test_many_children_report_in_one_commit(desk: Desk, worker: WorkerId) -> None:
    run, children = family(desk, worker, *[ParentClose.CANCEL] * 60)
    commits = [
        commit_of(
            child,
            event(EventType.RUN_COMPLETED, payload=str(number)),
            state=RunState.COMPLETED,
            woke=True,
            report=report_of(child, payload=str(number)),
        )
        for number, child in enumerate(children)
    ]
    assert desk.commit(worker, *commits) == {child.run_id for child in children}
    found = sorted((message.command, message.payload) for message in inbox(desk, worker, run))
    assert found == [(number, str(number)) for number in range(60)]


def test_a_report_that_no_column_takes_refuses_the_whole_request(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    with pytest.raises(JournalError):
        end_child(desk, worker, child, report=report_of(child, payload="{nonsense"))
    assert not desk.run(child.run_id).ended
    assert told(desk, worker, run) == []
