"""Grants after the claim: taking a fresh token, giving back, sticking, and looking at who owns what."""

from datetime import timedelta

import pytest

from continuum.errors import JournalError
from continuum.journal.requests import CommitRequest
from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_run_id
from continuum.model.leases import Grant
from continuum.model.runs import RunState
from tests.support.journals import DEAD, HOUR, HOUR_US, Desk, commit_of, event, grant_of, order

BEGAN = event(EventType.RUN_BEGAN)


# ------------------------------------------------------------------ regrant


def test_a_regrant_raises_the_token_and_loads_the_run(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    desk.signal(run.run_id, "late")
    [again] = desk.regrant(worker, grant_of(run))
    assert (again.run_id, again.last_seq, again.events) == (run.run_id, 2, desk.journal.runs.history(run.run_id))
    assert again.token > run.token
    assert [message.name for message in again.mail] == ["late"]
    assert desk.inspect(run.run_id)[run.run_id].token == again.token
    assert desk.run(run.run_id).lease_owner == worker


def test_a_regrant_fences_a_commit_that_lands_later(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    ghost = CommitRequest(worker, [commit_of(run, BEGAN)])
    [again] = desk.regrant(worker, grant_of(run))
    line = desk.journal.open_line()
    line.send(ghost)
    reply = line.wait(20)
    line.close()
    assert reply is not None
    assert reply.written == frozenset()  # type: ignore[union-attr]
    assert desk.types(run.run_id) == ["run_started"]
    desk.write(worker, again, BEGAN)


def test_a_regrant_after_the_commit_had_landed_shows_what_it_wrote(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    line = desk.journal.open_line()
    line.send(CommitRequest(worker, [commit_of(run, BEGAN)]))
    line.wait(20)
    line.close()  # its answer is lost
    [again] = desk.regrant(worker, grant_of(run))
    assert [item.type for item in again.events] == [EventType.RUN_STARTED, EventType.RUN_BEGAN]


def test_a_regrant_is_no_new_claim(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    [again] = desk.regrant(worker, grant_of(run))
    assert again.grants == run.grants == 1


def test_a_regrant_needs_owner_and_token(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.fresh(worker)
    assert desk.regrant(other, grant_of(run)) == []
    assert desk.regrant(worker, Grant(run.run_id, run.token + 1), Grant(run.run_id, run.token - 1)) == []
    assert desk.regrant(worker, Grant(new_run_id(desk.now_us()), 1)) == []
    assert desk.inspect(run.run_id)[run.run_id].token == run.token


def test_a_regrant_takes_those_that_are_still_mine(desk: Desk, worker: WorkerId) -> None:
    runs = [desk.fresh(worker) for _ in range(3)]
    desk.release(worker, runs[1])
    again = desk.regrant(worker, *(grant_of(run) for run in runs))
    assert sorted(run.run_id for run in again) == sorted([runs[0].run_id, runs[2].run_id])


def test_a_regrant_of_nothing_is_nothing(desk: Desk, worker: WorkerId) -> None:
    assert desk.regrant(worker) == []


def test_an_ended_run_is_not_regranted(desk: Desk, worker: WorkerId) -> None:
    run = desk.end(worker, desk.fresh(worker))
    assert desk.regrant(worker, grant_of(run)) == []


# ------------------------------------------------------------------ release


def test_a_released_run_is_free_under_a_higher_token(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.fresh(worker)
    assert desk.release(worker, run) == {run.run_id}
    row = desk.run(run.run_id)
    assert row.lease_owner is None
    assert row.lease_token > run.token
    assert desk.claim_one(other).token > row.lease_token


def test_a_release_leaves_wake_at_alone(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, wake_at=desk.now_us() + HOUR_US)
    before = desk.run(run.run_id).wake_at
    desk.release(worker, run)
    assert desk.run(run.run_id).wake_at == before


def test_a_release_needs_owner_and_token(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.fresh(worker)
    assert desk.release(other, run) == frozenset()
    [again] = desk.regrant(worker, grant_of(run))
    assert desk.release(worker, run) == frozenset()
    assert desk.run(run.run_id).lease_owner == worker
    assert desk.release(worker, again) == {run.run_id}
    assert desk.release(worker, again) == frozenset()


def test_of_several_runs_those_that_are_mine_are_released(desk: Desk, worker: WorkerId) -> None:
    first, second = desk.fresh(worker), desk.fresh(worker)
    desk.journal.runs.terminate(first.run_id, namespace=None, reason="")
    assert desk.release(worker, first, second) == {second.run_id}


# ------------------------------------------------------------------ stuck


def test_a_stuck_run_says_why_and_is_free(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    assert desk.stick(worker, run, reason="drift at 3: ü")
    row = desk.run(run.run_id)
    assert (row.state, row.stuck_reason, row.lease_owner) == (RunState.STUCK, "drift at 3: ü", None)
    assert row.lease_token > run.token
    assert (row.last_seq, desk.types(run.run_id), row.ended) == (1, ["run_started"], False)


def test_a_stuck_run_waits_out_its_backoff(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    before = desk.now()
    desk.stick(worker, run, backoff=HOUR)
    wake_at = desk.run(run.run_id).wake_at
    assert wake_at is not None
    assert before + HOUR <= wake_at <= desk.now() + HOUR
    assert desk.claim(worker) == []


def test_a_stuck_run_waits_out_its_backoff_whatever_mail_it_has(desk: Desk, worker: WorkerId) -> None:
    # Otherwise one message would make it spin: claimed, stuck, claimed ...
    run = desk.fresh(worker)
    desk.signal(run.run_id)
    desk.stick(worker, run, backoff=HOUR)
    desk.signal(run.run_id)
    assert desk.claim(worker) == []
    assert not desk.look(worker).claimable


def test_a_stuck_run_is_tried_again_after_its_backoff(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.signal(run.run_id)
    desk.stick(worker, run, backoff=DEAD)
    again = desk.claim_one(worker)
    # Whoever set it aside survived it: the count of grants without progress begins anew.
    assert (again.run_id, again.grants, len(again.mail)) == (run.run_id, 1, 1)
    assert desk.run(run.run_id).state == RunState.STUCK  # until it makes progress


def test_backoffs_are_exact_to_the_microsecond(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    backoff = timedelta(hours=1, microseconds=1)
    before = desk.now()
    desk.stick(worker, run, backoff=backoff)
    wake_at = desk.run(run.run_id).wake_at
    assert wake_at is not None
    assert before + backoff <= wake_at <= desk.now() + backoff


def test_only_the_owner_can_stick_a_run(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.fresh(worker)
    assert not desk.stick(other, run)
    [again] = desk.regrant(worker, grant_of(run))
    assert not desk.stick(worker, run)
    row = desk.run(run.run_id)
    assert (row.state, row.stuck_reason, row.lease_owner) == (RunState.PENDING, None, worker)
    assert desk.stick(worker, again)


def test_sticking_leaves_tasks_and_mail_alone(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0), order(1)], claimed=[0])
    desk.signal(run.run_id)
    desk.stick(worker, run, backoff=DEAD)
    assert len(desk.journal.tasks.of_run(run.run_id)) == 2
    assert len(desk.journal.tasks.held(worker)) == 1
    assert len(desk.claim_one(worker).mail) == 1


def test_a_reason_with_nul_is_refused(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    with pytest.raises(JournalError):
        desk.stick(worker, run, reason="a\0b")
    assert desk.run(run.run_id).lease_owner == worker


# ------------------------------------------------------------------ inspect


def test_inspect_shows_owner_token_and_last_event(desk: Desk, worker: WorkerId) -> None:
    mine, free = desk.parked(worker), desk.idle(worker)
    unknown = new_run_id(desk.now_us())
    states = desk.inspect(mine.run_id, free.run_id, unknown)
    assert set(states) == {mine.run_id, free.run_id}
    state = states[mine.run_id]
    assert (state.owner, state.token, state.last_seq) == (worker, mine.token, 2)
    state = states[free.run_id]
    assert (state.owner, state.last_seq) == (None, 2)
    assert state.token > free.token


def test_inspect_of_nothing_is_nothing(desk: Desk) -> None:
    assert desk.inspect() == {}
