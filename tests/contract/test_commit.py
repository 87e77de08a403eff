"""The group commit: each run wholly or not at all, only under the latest grant and on what the decision was made on."""

import pytest

from continuum.errors import JournalError
from continuum.model.decisions import Commit
from continuum.model.events import Event, EventType
from continuum.model.ids import WorkerId, new_run_id
from continuum.model.leases import ClaimedRun
from continuum.model.runs import RunState
from tests.support.journals import DEAD, HOUR_US, Desk, commit_of, event, moved, order

BEGAN = event(EventType.RUN_BEGAN)


def untouched(desk: Desk, run: ClaimedRun, *, mail: int = 0) -> bool:
    """Whether nothing of a refused commit was written."""
    row = desk.run(run.run_id)
    return (
        desk.types(run.run_id) == [str(item.type) for item in run.events]
        and row.last_seq == len(run.events)
        and desk.journal.tasks.of_run(run.run_id) == []
        and (row.lease_owner is None or len(desk.mail(row.lease_owner).messages) == mail)
    )


def rich(desk: Desk, run: ClaimedRun, **fields: int) -> Commit:
    """Return a commit that writes to every table."""
    desk.signal(run.run_id)
    owner = desk.run(run.run_id).lease_owner
    assert owner is not None
    consumed = [message.id for message in desk.mail(owner).messages]
    return commit_of(
        run,
        BEGAN,
        event(EventType.SIGNAL_RECEIVED, name="paid", payload="1"),
        event(EventType.ACTIVITY_SCHEDULED, command=0, name="charge"),
        orders=[order(0)],
        consumed=consumed,
        wake_at=desk.now_us() + HOUR_US,
        **fields,
    )


def test_a_commit_appends_events_and_moves_the_run(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    after = desk.write(worker, run, BEGAN, event(EventType.TIMER_STARTED, command=0), state=RunState.SUSPENDED)
    row = desk.run(run.run_id)
    assert (row.state, row.last_seq, row.lease_owner, row.lease_token) == (
        RunState.SUSPENDED,
        3,
        worker,
        run.token,
    )
    assert desk.types(run.run_id) == ["run_started", "run_began", "timer_started"]
    desk.write(worker, after, event(EventType.TIMER_FIRED, command=0), state=RunState.RUNNING)
    assert [item.seq for item in desk.journal.runs.history(run.run_id)] == [1, 2, 3, 4]


def test_the_run_starts_at_its_first_commit(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    assert desk.run(run.run_id).started_at is None
    before = desk.now()
    run = desk.write(worker, run, BEGAN)
    started = desk.run(run.run_id).started_at
    assert started is not None
    assert before <= started <= desk.now()
    desk.end(worker, run)
    assert desk.run(run.run_id).started_at == started


def test_many_runs_are_written_in_one_commit(desk: Desk, worker: WorkerId) -> None:
    for _ in range(60):
        desk.make_run()
    runs = desk.claim(worker)
    commits = [
        commit_of(run, BEGAN, event(EventType.ACTIVITY_SCHEDULED, command=0), orders=[order(0)], claimed=[0])
        for run in runs
    ]
    assert desk.commit(worker, *commits) == {run.run_id for run in runs}
    assert {desk.run(run.run_id).last_seq for run in runs} == {3}
    assert len(desk.journal.tasks.held(worker)) == 60
    second = [
        commit_of(
            moved(run, commit),
            event(EventType.ACTIVITY_COMPLETED, command=0, payload=str(index)),
            event(EventType.RUN_COMPLETED, payload=str(index)),
            finished=[(0, 1)],
            state=RunState.COMPLETED,
            woke=True,
        )
        for index, (run, commit) in enumerate(zip(runs, commits, strict=True))
    ]
    assert desk.commit(worker, *second) == {run.run_id for run in runs}
    outcomes = desk.journal.runs.outcomes([run.run_id for run in runs])
    assert [outcomes[run.run_id][1].payload for run in runs] == [str(index) for index in range(60)]


def test_a_commit_of_nothing_writes_nothing(desk: Desk, worker: WorkerId) -> None:
    assert desk.commit(worker) == frozenset()


def test_a_commit_may_move_a_run_without_an_event(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    desk.signal(run.run_id)
    [message] = desk.mail(worker).messages
    desk.write(worker, run, consumed=[message.id], state=RunState.SUSPENDED)
    assert desk.mail(worker).messages == []
    assert desk.run(run.run_id).last_seq == run.last_seq


def test_a_thousand_events_fit_into_one_decision(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    values = [event(EventType.VALUE_RECORDED, command=n, payload='"' + "x" * 1000 + '"', at=n) for n in range(1000)]
    desk.write(worker, run, *values)
    assert [item.at for item in desk.journal.runs.history(run.run_id, after=1)] == list(range(1000))


# ------------------------------------------------------------------ the fence


def test_a_worker_that_does_not_own_the_run_cannot_write(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.fresh(worker)
    assert desk.commit(other, rich(desk, run)) == frozenset()
    assert untouched(desk, run, mail=1)


@pytest.mark.parametrize("step", [-1, 1])
def test_another_token_cannot_write(desk: Desk, worker: WorkerId, step: int) -> None:
    run = desk.fresh(worker)
    assert desk.commit(worker, rich(desk, run, token=run.token + step)) == frozenset()
    assert untouched(desk, run, mail=1)


@pytest.mark.parametrize("step", [-1, 1])
def test_a_decision_made_on_another_last_event_cannot_be_written(desk: Desk, worker: WorkerId, step: int) -> None:
    run = desk.parked(worker)
    assert desk.commit(worker, rich(desk, run, seen=run.last_seq + step)) == frozenset()
    assert untouched(desk, run, mail=1)


def test_the_former_holder_cannot_write_after_a_release_even_to_itself(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    late = rich(desk, run)
    desk.release(worker, run)
    assert desk.commit(worker, late) == frozenset()
    again = desk.claim_one(worker)
    assert desk.commit(worker, late) == frozenset()
    assert untouched(desk, again, mail=1)


def test_a_swept_worker_cannot_write_not_even_after_the_run_was_claimed(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = desk.fresh(worker)
    late = rich(desk, run)
    desk.bury(worker)
    assert desk.commit(worker, late) == frozenset()
    again = desk.claim_one(other)
    assert desk.commit(worker, late) == frozenset()
    assert untouched(desk, again, mail=1)


def test_an_unknown_run_is_missing_in_the_answer(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    unknown = new_run_id(desk.now_us())
    strange = commit_of(run, BEGAN)
    fields = {name: getattr(strange, name) for name in strange.__struct_fields__}
    strange = type(strange)(**{**fields, "run_id": unknown, "chain_id": unknown})
    assert desk.commit(worker, strange, commit_of(run, BEGAN)) == {run.run_id}
    assert desk.journal.runs.history(unknown) == []


def test_a_fenced_run_does_not_hold_up_the_others_of_its_batch(desk: Desk, worker: WorkerId) -> None:
    runs = [desk.fresh(worker) for _ in range(3)]
    desk.release(worker, runs[1])
    assert desk.commit(worker, *(commit_of(run, BEGAN) for run in runs)) == {runs[0].run_id, runs[2].run_id}
    assert [len(desk.types(run.run_id)) for run in runs] == [2, 1, 2]


def test_a_locked_run_is_skipped_and_can_be_sent_again(desk: Desk, worker: WorkerId) -> None:
    runs = [desk.fresh(worker) for _ in range(2)]
    commits = [commit_of(run, BEGAN) for run in runs]
    with desk.locked(runs[0].run_id):
        assert desk.commit(worker, *commits) == {runs[1].run_id}
        state = desk.inspect(runs[0].run_id)[runs[0].run_id]
    assert (state.owner, state.token, state.last_seq) == (worker, runs[0].token, 1)
    assert desk.commit(worker, commits[0]) == {runs[0].run_id}


def test_the_same_commit_is_written_once(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    commit = commit_of(run, BEGAN)
    assert desk.commit(worker, commit) == {run.run_id}
    assert desk.commit(worker, commit) == frozenset()
    state = desk.inspect(run.run_id)[run.run_id]
    assert (state.owner, state.token, state.last_seq) == (worker, run.token, 2)  # it had landed
    assert desk.types(run.run_id) == ["run_started", "run_began"]


def test_an_expired_worker_still_writes_until_it_is_swept(desk: Desk, worker: WorkerId) -> None:
    # The token is the authority; the lease only says when somebody may raise it.
    run = desk.fresh(worker)
    desk.kill(worker)
    assert desk.commit(worker, commit_of(run, BEGAN)) == {run.run_id}


# ------------------------------------------------------------------ data that no column takes


@pytest.mark.parametrize(
    "poison",
    [
        event(EventType.VALUE_RECORDED, command=0, payload="{nonsense"),
        event(EventType.VALUE_RECORDED, command=0, payload='"a\0b"'),
        event(EventType.VALUE_RECORDED, command=0, name="a\0b"),
    ],
    ids=["no JSON", "NUL in a payload", "NUL in a name"],
)
def test_a_poisoned_decision_refuses_the_whole_request_and_nothing_is_written(
    desk: Desk, worker: WorkerId, poison: Event
) -> None:
    good, bad = desk.fresh(worker), desk.fresh(worker)
    healthy, poisoned = commit_of(good, BEGAN), commit_of(bad, BEGAN, poison)
    with pytest.raises(JournalError):
        desk.commit(worker, healthy, poisoned)
    assert [desk.types(run.run_id) for run in (good, bad)] == [["run_started"]] * 2
    # The line lives, and the healthy half of the batch goes through alone.
    assert desk.commit(worker, healthy) == {good.run_id}


# ------------------------------------------------------------------ the run row


def test_consumed_mail_is_deleted_and_the_rest_stays(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    for payload in ("1", "2", "3"):
        desk.signal(run.run_id, payload=payload)
    first, second, third = desk.mail(worker).messages
    desk.write(worker, run, event(EventType.SIGNAL_RECEIVED), consumed=[first.id, third.id])
    assert desk.mail(worker).messages == [second]


def test_a_commit_consumes_only_mail_of_its_own_chain(desk: Desk, worker: WorkerId) -> None:
    mine, others = desk.parked(worker), desk.parked(worker)
    desk.signal(others.run_id)
    [message] = desk.mail(worker).messages
    desk.write(worker, mine, consumed=[message.id])
    assert desk.mail(worker).messages == [message]


def test_wake_at_is_written_only_if_the_commit_says_so(desk: Desk, worker: WorkerId) -> None:
    first, second = desk.now_us() + HOUR_US, desk.now_us() + 2 * HOUR_US
    run = desk.parked(worker, wake_at=first)

    def wake_at() -> int | None:
        at = desk.run(run.run_id).wake_at
        return None if at is None else round(at.timestamp() * 1_000_000)

    assert wake_at() == first
    run = desk.write(worker, run, BEGAN, woke=False)
    assert wake_at() == first
    run = desk.write(worker, run, BEGAN, wake_at=second)
    assert wake_at() == second
    run = desk.write(worker, run, BEGAN, woke=True)
    assert wake_at() is None


def test_an_adopted_hash_replaces_the_pinned_one(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    run = desk.write(worker, run, event(EventType.VERSION_ADOPTED, name="h9"), adopted_hash="h9")
    assert desk.run(run.run_id).version_hash == "h9"
    desk.write(worker, run, BEGAN)
    assert desk.run(run.run_id).version_hash == "h9"


def test_progress_of_a_stuck_run_clears_the_reason(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.stick(worker, run, backoff=DEAD)
    run = desk.claim_one(worker)
    desk.write(worker, run, BEGAN)
    row = desk.run(run.run_id)
    assert (row.state, row.stuck_reason) == (RunState.RUNNING, None)


# ------------------------------------------------------------------ the end


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (RunState.COMPLETED, EventType.RUN_COMPLETED),
        (RunState.FAILED, EventType.RUN_FAILED),
        (RunState.CANCELLED, EventType.RUN_CANCELLED),
    ],
)
def test_the_end_frees_the_run_and_clears_its_tasks_and_timers(
    desk: Desk, worker: WorkerId, state: RunState, kind: EventType
) -> None:
    run = desk.parked(worker, orders=[order(0), order(1)], claimed=[1], wake_at=desk.now_us() + HOUR_US)
    before = desk.now()
    desk.write(worker, run, event(kind, payload='{"a":1}'), state=state, woke=True, cancelled=[0, 1])
    row = desk.run(run.run_id)
    assert (row.state, row.lease_owner, row.wake_at, row.ended) == (state, None, None, True)
    assert row.completed_at is not None
    assert before <= row.completed_at <= desk.now()
    assert row.retention_until is None
    assert desk.journal.tasks.of_run(run.run_id) == []
    assert desk.journal.tasks.held(worker) == []
    assert desk.journal.runs.outcomes([run.run_id])[run.run_id][0] == state


def test_retention_is_counted_from_the_end(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    desk.end(worker, run, retention_us=5_000_000)
    row = desk.run(run.run_id)
    assert row.completed_at is not None
    assert row.retention_until is not None
    assert (row.retention_until - row.completed_at).total_seconds() == pytest.approx(5)


def test_a_run_that_goes_on_has_no_retention_yet(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.write(worker, run, BEGAN, retention_us=5_000_000)
    row = desk.run(run.run_id)
    assert (row.retention_until, row.completed_at) == (None, None)


def test_nothing_can_be_written_after_the_end(desk: Desk, worker: WorkerId) -> None:
    run = desk.end(worker, desk.fresh(worker))
    late = commit_of(run, event(EventType.RUN_FAILED, payload="{}"), state=RunState.FAILED)
    assert desk.commit(worker, late) == frozenset()
    assert desk.run(run.run_id).state == RunState.COMPLETED
    assert desk.types(run.run_id) == ["run_started", "run_completed"]


def test_a_run_twice_in_one_commit_is_refused_as_a_whole(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    with pytest.raises(ValueError, match="twice"):
        desk.commit(worker, commit_of(run, BEGAN), commit_of(run, BEGAN))
    assert untouched(desk, run)
    desk.write(worker, run, BEGAN)
