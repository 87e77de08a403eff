"""Continuing as new: a run ends and another one takes its place in the chain, in one commit."""

import pytest

from continuum.errors import JournalError, RunTerminal
from continuum.journal.protocol import PostResult
from continuum.journal.requests import CommitReply, CommitRequest
from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.runs import ParentClose, ParentLink, RunState
from tests.support.families import (
    bear,
    cancel_letter,
    child_of,
    claim_children,
    continuation,
    continue_as_new,
    continued,
    end_child,
    every_run,
    family,
    inbox,
)
from tests.support.journals import HOUR_US, WAIT_SECONDS, Desk, commit_of, event, grant_of, order, succeeded

BEGAN = event(EventType.RUN_BEGAN)


def test_the_old_run_has_ended_and_is_no_tip(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    before = desk.now()
    continue_as_new(desk, worker, run, retention_us=HOUR_US)
    row = desk.run(run.run_id)
    assert (row.state, row.is_tip, row.ended, row.lease_owner, row.wake_at) == (
        RunState.CONTINUED,
        False,
        True,
        None,
        None,
    )
    assert row.lease_token > run.token
    assert row.completed_at is not None
    assert before <= row.completed_at <= desk.now()
    assert row.retention_until is not None
    assert desk.types(run.run_id) == ["run_started", "run_began", "run_continued"]


def test_the_successor_is_a_pending_run_that_is_due_at_once_and_the_tip_of_the_chain(
    desk: Desk, worker: WorkerId
) -> None:
    run = desk.parked(worker)
    before = desk.now()
    successor = desk.run(continue_as_new(desk, worker, run))
    assert (successor.state, successor.last_seq, successor.grants) == (RunState.PENDING, 1, 0)
    assert (successor.chain_id, successor.is_tip, successor.continued_from) == (run.chain_id, True, run.run_id)
    assert (successor.lease_owner, successor.started_at, successor.completed_at) == (None, None, None)
    assert successor.wake_at is not None
    assert before <= successor.wake_at <= desk.now()
    assert before <= successor.created_at <= desk.now()


def test_the_successor_has_what_belongs_to_the_chain(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(
        worker,
        namespace="eu",
        trace_context="00-4bf9-00f0-01",
        attributes='{"a": 1, "b": {"c": 2}}',
        idempotency_key="order-1",
    )
    successor = desk.run(continue_as_new(desk, worker, run))
    assert (successor.namespace, successor.workflow, successor.trace_context) == ("eu", "order", "00-4bf9-00f0-01")
    assert (successor.attributes, successor.idempotency_key) == ({"a": 1, "b": {"c": 2}}, None)
    assert (successor.parent_id, successor.parent_chain_id, successor.parent_command) == (None, None, None)


def test_the_successor_of_a_child_has_the_same_parent_and_policy(desk: Desk, worker: WorkerId) -> None:
    parent, [_, child] = family(desk, worker, ParentClose.CANCEL, ParentClose.TERMINATE)
    last = continued(desk, worker, continued(desk, worker, child))
    row = desk.run(last.run_id)
    assert (row.parent_id, row.parent_chain_id, row.parent_command) == (parent.run_id, parent.chain_id, 1)
    assert (row.parent_close, str(row.chain_id)) == (ParentClose.TERMINATE, child.run_id)
    assert last.parent == ParentLink(parent.run_id, 1)


def test_the_successor_is_pinned_to_the_version_the_commit_names(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    successor = desk.run(continue_as_new(desk, worker, run, successor_version=(2, "hash-2")))
    assert (successor.version, successor.version_hash) == (2, "hash-2")
    assert (desk.run(run.run_id).version, desk.run(run.run_id).version_hash) == (1, "hash-1")
    assert desk.claim(worker) == []
    [claimed] = desk.claim(worker, workflows=(("order", 2),))
    assert claimed.run_id == successor.id


def test_the_history_of_the_successor_begins_with_what_the_decision_says_to_the_letter(
    desk: Desk, worker: WorkerId
) -> None:
    started = '{"seed": "1",  "input": {"b": 1, "a": [1.0, 1e2], "b": 2}, "z": "\\u00eb ë"}'
    successor = continue_as_new(desk, worker, desk.parked(worker), started=started)
    [first] = desk.journal.runs.history(successor)
    assert (first.seq, first.type, first.payload) == (1, EventType.RUN_STARTED, started)


def test_a_successor_has_the_attributes_of_the_run_and_those_of_the_decision(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, attributes='{"a": 1, "b": 1}')
    successor = continue_as_new(desk, worker, run, attributes='{"b": 2, "c": 3}')
    assert desk.run(successor).attributes == {"a": 1, "b": 2, "c": 3}
    assert desk.run(run.run_id).attributes == {"a": 1, "b": 2, "c": 3}


def test_a_successor_of_a_run_without_attributes_has_those_of_the_decision(desk: Desk, worker: WorkerId) -> None:
    successor = continue_as_new(desk, worker, desk.parked(worker), attributes='{"a": 1}')
    assert desk.run(successor).attributes == {"a": 1}


def test_the_attributes_of_both_are_separate_afterwards(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, attributes='{"a": 1}')
    successor = continued(desk, worker, run)
    desk.write(worker, successor, attributes='{"a": 2}')
    assert [desk.run(one.run_id).attributes for one in (run, successor)] == [{"a": 1}, {"a": 2}]


# ------------------------------------------------------------------ the chain, by any of its ids


def test_any_id_of_the_chain_finds_its_tip(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    middle = continued(desk, worker, root)
    tip = continued(desk, worker, middle)
    for run_id in (root.run_id, middle.run_id, tip.run_id):
        found = desk.journal.runs.find(run_id, tip=True)
        assert found is not None
        assert found.id == tip.run_id
        itself = desk.journal.runs.find(run_id)
        assert itself is not None
        assert itself.id == run_id
    assert [desk.run(one.run_id).is_tip for one in (root, middle, tip)] == [False, False, True]
    assert {str(one.chain_id) for one in (root, middle, tip)} == {root.run_id}


def test_the_outcome_of_a_chain_is_that_of_its_last_run(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    middle = continued(desk, worker, root)
    tip = continued(desk, worker, middle)
    ids = [one.run_id for one in (root, middle, tip)]
    assert desk.journal.runs.outcomes(ids) == {}
    desk.end(worker, tip)
    outcomes = desk.journal.runs.outcomes(ids)
    assert [(outcomes[one][0], outcomes[one][1].payload) for one in ids] == [(RunState.COMPLETED, '"done"')] * 3


def test_a_message_to_any_run_of_the_chain_reaches_its_tip(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    middle = continued(desk, worker, root)
    tip = continued(desk, worker, middle)
    for one in (root, middle, tip):
        assert desk.signal(one.run_id, "paid", f'"{one.run_id}"') is PostResult.DELIVERED
    assert desk.cancel(root.run_id) is PostResult.DELIVERED
    messages = inbox(desk, worker, tip)
    assert [message.payload for message in messages] == [*(f'"{one.run_id}"' for one in (root, middle, tip)), None]
    assert {(message.chain_id, message.run_id) for message in messages} == {(root.chain_id, None)}


def test_a_delivery_id_is_delivered_once_per_chain(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    desk.signal(root.run_id, delivery_id="d1")
    tip = continued(desk, worker, root)
    assert desk.signal(tip.run_id, delivery_id="d1") is PostResult.DUPLICATE
    assert desk.signal(root.run_id, delivery_id="d1") is PostResult.DUPLICATE
    assert desk.signal(tip.run_id, delivery_id="d2") is PostResult.DELIVERED
    assert desk.signal(root.run_id, delivery_id="d2") is PostResult.DUPLICATE
    assert len(inbox(desk, worker, tip)) == 2


def test_a_chain_that_has_ended_takes_no_message_by_any_of_its_ids(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    tip = continued(desk, worker, root)
    desk.end(worker, tip)
    for one in (root, tip):
        with pytest.raises(RunTerminal) as caught:
            desk.signal(one.run_id)
        assert (caught.value.run_id, caught.value.state) == (tip.run_id, "completed")


def test_a_start_under_the_same_idempotency_key_finds_the_first_run(desk: Desk, worker: WorkerId) -> None:
    root = desk.fresh(worker, idempotency_key="order-1")
    continue_as_new(desk, worker, root)
    assert desk.journal.runs.start(desk.new_run(idempotency_key="order-1")) == (root.run_id, False)


# ------------------------------------------------------------------ mail


def test_unread_mail_is_the_successors(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(worker)
    for payload in ("1", "2", "3"):
        desk.signal(run.run_id, payload=payload)
    first, *_ = inbox(desk, worker, run)
    consuming = [event(EventType.SIGNAL_RECEIVED, name="paid", payload="1")]
    continue_as_new(desk, worker, run, events=consuming, consumed=[first.id])
    assert desk.mail(worker).messages == []
    claimed = desk.claim_one(other)
    assert [message.payload for message in claimed.mail] == ["2", "3"]


def test_what_was_meant_for_the_old_run_only_is_there_to_be_discarded(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0)])
    desk.journal.tasks.finish(worker, succeeded(desk.take_one(worker)))
    successor = continued(desk, worker, run)
    [message] = successor.mail
    assert (message.run_id, message.kind) == (run.run_id, EventType.ACTIVITY_COMPLETED)
    desk.write(worker, successor, consumed=[message.id])
    assert inbox(desk, worker, successor) == []


def test_a_cancel_request_that_the_run_passes_on_reaches_its_successor(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    tip = continued(desk, worker, run, letters=[cancel_letter(run.chain_id)])
    assert [message.kind for message in tip.mail] == ["cancel_requested"]
    assert desk.run(tip.run_id).cancel_requested_at is None


def test_the_tasks_of_the_old_run_end_with_it(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0), order(1)], claimed=[1])
    tip = continued(desk, worker, run, cancelled=[0, 1])
    assert desk.journal.tasks.of_run(run.run_id) == []
    assert desk.journal.tasks.of_run(tip.run_id) == []
    assert desk.take(worker) == []


# ------------------------------------------------------------------ grants


def test_a_claim_finds_the_successor_and_never_again_the_old_run(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(worker)
    successor = continue_as_new(desk, worker, run)
    assert desk.look(other).claimable
    claimed = desk.claim_one(other)
    assert (claimed.run_id, claimed.chain_id, claimed.last_seq) == (successor, run.chain_id, 1)
    desk.release(other, desk.began(other, claimed))
    desk.signal(run.run_id)
    assert desk.claim_one(worker).run_id == successor


def test_a_second_commit_under_the_old_grant_is_fenced(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    continue_as_new(desk, worker, run)
    late = commit_of(run, BEGAN, seen=run.last_seq + 1)
    assert desk.commit(worker, late) == frozenset()
    assert desk.regrant(worker, grant_of(run)) == []
    assert desk.types(run.run_id)[-1] == "run_continued"


def test_a_run_has_one_successor(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    successor, commit = continuation(desk, run)
    _, again = continuation(desk, run, started='{"input":[2],"seed":"2"}')
    assert desk.commit(worker, commit) == {run.run_id}
    assert desk.commit(worker, again) == frozenset()
    assert desk.commit(worker, commit) == frozenset()
    assert desk.claim_one(worker).run_id == successor
    assert len(every_run(desk)) == 2
    assert len(desk.journal.runs.history(successor)) == 1


def test_two_who_think_they_hold_the_run_make_one_successor(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    first = desk.parked(worker)
    desk.release(worker, first)
    desk.signal(first.run_id)
    second = desk.claim_one(other)
    _, stale = continuation(desk, first)
    successor, fresh = continuation(desk, second)
    assert desk.commit(worker, stale) == frozenset()
    assert desk.commit(other, fresh) == {second.run_id}
    assert desk.commit(worker, stale) == frozenset()
    tip = desk.journal.runs.find(first.run_id, tip=True)
    assert tip is not None
    assert (tip.id, tip.continued_from) == (successor, first.run_id)


def test_of_two_successors_sent_at_the_same_time_under_one_grant_there_is_one(desk: Desk, worker: WorkerId) -> None:
    lines = [desk.journal.open_line() for _ in range(2)]
    try:
        for _ in range(10):
            run = desk.fresh(worker)
            pairs = [continuation(desk, run, started=f'{{"input":[{number}],"seed":"1"}}') for number in range(2)]
            for line, (_, commit) in zip(lines, pairs, strict=True):
                line.send(CommitRequest(worker, [commit]))
            replies = [line.wait(WAIT_SECONDS) for line in lines]
            assert sum(isinstance(one, CommitReply) and run.run_id in one.written for one in replies) == 1
            [tip] = [row for row in every_run(desk) if row.chain_id == run.chain_id and row.is_tip]
            assert tip.continued_from == run.run_id
            assert len([row for row in every_run(desk) if row.chain_id == run.chain_id]) == 2
            desk.end(worker, desk.claim_one(worker))
    finally:
        for line in lines:
            line.close()


def test_a_hundred_runs_continue_in_one_commit_beside_others(desk: Desk, worker: WorkerId) -> None:
    for number in range(120):
        desk.make_run(attributes=f'{{"number": {number}}}')
    runs = desk.claim(worker, limit=200)
    desk.regrant(worker, grant_of(runs[7]))
    pairs = [
        continuation(desk, run, successor_version=(1 + number % 2, f"hash-{number % 2}"))
        for number, run in enumerate(runs)
    ]
    commits = [pairs[number][1] if number % 6 else commit_of(run, BEGAN) for number, run in enumerate(runs)]
    assert desk.commit(worker, *commits) == {run.run_id for run in runs if run is not runs[7]}
    for number, run in enumerate(runs):
        tip = desk.journal.runs.find(run.run_id, tip=True)
        assert tip is not None
        if number % 6 and number != 7:
            assert (tip.id, tip.version, tip.version_hash) == (pairs[number][0], 1 + number % 2, f"hash-{number % 2}")
            assert (tip.attributes, tip.continued_from) == (desk.run(run.run_id).attributes, run.run_id)
        else:
            assert tip.id == run.run_id
    assert len(desk.claim(worker, workflows=(("order", 1), ("order", 2)), limit=200)) == 99


def test_a_run_may_continue_and_order_children_at_once(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    ordered = child_of(desk, run)
    tip = continued(desk, worker, run, children=[ordered])
    child = desk.run(ordered.id)
    assert (child.parent_id, child.parent_chain_id) == (run.run_id, tip.chain_id)


def test_a_chain_of_fifty_runs_is_one_chain(desk: Desk, worker: WorkerId) -> None:
    root = run = desk.fresh(worker, attributes='{"a": 1}')
    for _ in range(49):
        run = continued(desk, worker, run)
    tip = desk.journal.runs.find(root.run_id, tip=True)
    assert tip is not None
    assert (tip.id, str(tip.chain_id), tip.attributes) == (run.run_id, root.run_id, {"a": 1})
    rows = every_run(desk)
    assert [row.is_tip for row in rows].count(True) == 1
    assert len(rows) == 50
    desk.end(worker, run)
    assert root.run_id in desk.journal.runs.outcomes([root.run_id])


def test_a_successor_that_no_column_takes_refuses_the_whole_request(desk: Desk, worker: WorkerId) -> None:
    plain, run = desk.fresh(worker), desk.fresh(worker)
    _, commit = continuation(desk, run, started="{nonsense")
    with pytest.raises(JournalError):
        desk.commit(worker, commit_of(plain, BEGAN), commit)
    assert [desk.types(one.run_id) for one in (plain, run)] == [["run_started"]] * 2
    assert desk.run(run.run_id).is_tip


def test_the_successor_of_a_parent_hears_of_children_it_starts_itself(desk: Desk, worker: WorkerId) -> None:
    tip = continued(desk, worker, desk.parked(worker))
    tip = bear(desk, worker, tip, child_of(desk, tip))
    [child] = claim_children(desk, worker)
    end_child(desk, worker, child)
    [message] = inbox(desk, worker, tip)
    assert (message.run_id, message.chain_id, message.command) == (tip.run_id, tip.chain_id, 0)
