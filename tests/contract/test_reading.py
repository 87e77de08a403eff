"""What clients read: one run, histories, outcomes; and ending a run from outside."""

import pytest

from continuum.errors import RunNotFound, RunTerminal
from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_run_id
from continuum.model.runs import RunState
from tests.support.journals import Desk, commit_of, event, order


def test_an_unknown_run_is_none_has_no_history_and_no_outcome(desk: Desk) -> None:
    unknown = new_run_id(desk.now_us())
    assert desk.journal.runs.find(unknown) is None
    assert desk.journal.runs.find(unknown, tip=True) is None
    assert desk.journal.runs.history(unknown) == []
    assert desk.journal.runs.outcomes([unknown]) == {}
    assert desk.journal.tasks.of_run(unknown) == []


def test_find_is_bound_to_the_namespace_if_one_is_given(desk: Desk) -> None:
    run_id = desk.make_run(namespace="tenant-a")
    assert desk.journal.runs.find(run_id, namespace="tenant-b") is None
    assert desk.journal.runs.find(run_id, namespace="tenant-b", tip=True) is None
    for namespace in ("tenant-a", None):
        found = desk.journal.runs.find(run_id, namespace=namespace)
        assert found is not None
        assert found.id == run_id


def test_a_chain_of_one_run_is_its_own_tip(desk: Desk) -> None:
    run_id = desk.make_run()
    assert desk.journal.runs.find(run_id, tip=True) == desk.journal.runs.find(run_id)


# ------------------------------------------------------------------ histories


def test_a_history_is_read_from_a_point_on_and_in_pieces(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    values = [event(EventType.VALUE_RECORDED, command=n, payload=str(n)) for n in range(5)]
    desk.write(worker, run, *values)
    read = desk.journal.runs.history
    assert [item.seq for item in read(run.run_id)] == [1, 2, 3, 4, 5, 6]
    assert [item.seq for item in read(run.run_id, after=4)] == [5, 6]
    assert [item.seq for item in read(run.run_id, after=1, limit=2)] == [2, 3]
    assert read(run.run_id, after=6) == []


def test_events_come_back_as_they_were_written(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    payload = '{"z": 1.50, "a" : [null, "ü\\u0000"], "z": {}}'
    at = 1_700_000_000_123_457
    commit = commit_of(
        run,
        event(EventType.RUN_BEGAN, at=at),
        event(EventType.ACTIVITY_SCHEDULED, command=0, name="a.b", payload=payload, at=at, location="x.py:3"),
        event(EventType.SIGNAL_RECEIVED, command=2**31 - 1, name="sïgnal", payload="null", at=at + 1),
        event(EventType.VERSION_ADOPTED, name="h2", at=at + 2),
    )
    assert desk.commit(worker, commit) == {run.run_id}
    assert desk.journal.runs.history(run.run_id, after=1) == commit.decision.events
    assert [item.seq for item in commit.decision.events] == [2, 3, 4, 5]


# ------------------------------------------------------------------ outcomes


def test_outcomes_are_those_of_ended_runs_alone(desk: Desk, worker: WorkerId) -> None:
    going = desk.parked(worker).run_id
    done = desk.end(worker, desk.fresh(worker)).run_id
    run = desk.fresh(worker)
    desk.write(worker, run, event(EventType.RUN_FAILED, payload='{"type_name":"X"}'), state=RunState.FAILED, woke=True)
    outcomes = desk.journal.runs.outcomes([going, done, run.run_id])
    assert set(outcomes) == {done, run.run_id}
    state, last = outcomes[done]
    assert (state, last.type, last.payload) == (RunState.COMPLETED, EventType.RUN_COMPLETED, '"done"')
    state, last = outcomes[run.run_id]
    assert (state, last.type, last.payload) == (RunState.FAILED, EventType.RUN_FAILED, '{"type_name":"X"}')


def test_outcomes_of_nothing_are_nothing(desk: Desk) -> None:
    assert desk.journal.runs.outcomes([]) == {}


# ------------------------------------------------------------------ terminate


def test_terminate_ends_a_run_that_nobody_owns(desk: Desk) -> None:
    run_id = desk.make_run()
    assert desk.journal.runs.terminate(run_id, namespace=None, reason="gone wrong") == run_id
    run = desk.run(run_id)
    assert (run.state, run.wake_at, run.lease_owner) == (RunState.TERMINATED, None, None)
    assert run.completed_at is not None
    assert desk.types(run_id) == ["run_started", "run_terminated"]
    assert run.last_seq == 2
    state, last = desk.journal.runs.outcomes([run_id])[run_id]
    assert state == RunState.TERMINATED
    assert last.payload is not None
    assert "gone wrong" in last.payload


def test_terminate_fences_the_owner_and_its_tasks(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0), order(1)], claimed=[0])
    [mine] = desk.journal.tasks.held(worker)
    desk.journal.runs.terminate(run.run_id, namespace=None, reason="")
    assert desk.run(run.run_id).lease_token > run.token
    assert desk.commit(worker, commit_of(run, event(EventType.RUN_COMPLETED), state=RunState.COMPLETED)) == set()
    assert desk.journal.tasks.of_run(run.run_id) == []
    assert not desk.journal.tasks.progress(worker, mine, details=None)
    assert desk.types(run.run_id)[-1] == "run_terminated"


def test_a_terminated_run_is_not_claimed_again(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run()
    desk.signal(run_id)
    desk.journal.runs.terminate(run_id, namespace=None, reason="")
    assert desk.claim(worker) == []


def test_terminate_of_an_unknown_run_or_another_namespace_is_not_found(desk: Desk) -> None:
    run_id = desk.make_run(namespace="tenant-a")
    for target, namespace in ((run_id, "tenant-b"), (new_run_id(desk.now_us()), None)):
        with pytest.raises(RunNotFound):
            desk.journal.runs.terminate(target, namespace=namespace, reason="")
    assert desk.run(run_id).state == RunState.PENDING
    assert desk.journal.runs.terminate(run_id, namespace="tenant-a", reason="") == run_id


def test_an_ended_run_cannot_be_terminated(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.end(worker, desk.fresh(worker)).run_id
    for _ in range(2):
        with pytest.raises(RunTerminal) as caught:
            desk.journal.runs.terminate(run_id, namespace=None, reason="")
        assert caught.value.state == "completed"
    assert desk.types(run_id) == ["run_started", "run_completed"]
