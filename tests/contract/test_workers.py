"""Workers: leases, death, and the sweep of what the dead have left."""

from datetime import timedelta

import pytest

from continuum.errors import JournalError
from continuum.model.events import EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.ids import WorkerId, new_worker_id
from continuum.model.leases import Reaped, WorkerInfo, WorkflowVersion
from continuum.model.runs import RunState
from tests.support.journals import DEAD, HOUR, HOUR_US, Desk, commit_of, event, order, succeeded


def test_a_registered_worker_is_listed_with_its_lease(desk: Desk) -> None:
    worker = new_worker_id()
    before = desk.now_us()
    desk.journal.workers.register(WorkerInfo(worker, "höst-1", 17, HOUR, ("default",), ("order",)))
    [record] = desk.journal.workers.list_workers()
    assert (record.id, record.hostname, record.pid, record.alive) == (worker, "höst-1", 17, True)
    assert record.turns
    assert before <= record.started_at <= desk.now_us()
    assert record.expires_at - record.started_at == pytest.approx(HOUR_US, abs=1_000_000)


def test_a_worker_that_knows_no_workflow_turns_none(desk: Desk) -> None:
    desk.journal.workers.register(WorkerInfo(new_worker_id(), "celery@höst-1", 17, HOUR, ("default",)))
    [record] = desk.journal.workers.list_workers()
    assert not record.turns


def test_a_heartbeat_prolongs_the_lease(desk: Desk) -> None:
    worker = desk.make_worker(timedelta(seconds=1))
    assert desk.journal.workers.beat(worker, HOUR)
    [record] = desk.journal.workers.list_workers()
    assert record.expires_at > desk.now_us() + HOUR_US // 2


def test_a_heartbeat_of_an_unknown_worker_says_that_it_is_dead(desk: Desk) -> None:
    assert not desk.journal.workers.beat(new_worker_id(), HOUR)


def test_a_reaped_worker_learns_of_its_death_at_its_next_heartbeat(desk: Desk, worker: WorkerId) -> None:
    desk.bury(worker)
    assert not desk.journal.workers.beat(worker, HOUR)
    assert desk.journal.workers.list_workers() == []


def test_an_expired_worker_is_not_alive_but_may_still_come_back(desk: Desk, worker: WorkerId) -> None:
    desk.kill(worker)
    [record] = desk.journal.workers.list_workers()
    assert not record.alive
    assert desk.journal.workers.beat(worker, HOUR)
    assert desk.journal.workers.reap() == Reaped()


def test_a_deregistered_worker_is_gone(desk: Desk, worker: WorkerId) -> None:
    desk.journal.workers.deregister(worker)
    assert desk.journal.workers.list_workers() == []
    assert not desk.journal.workers.beat(worker, HOUR)
    desk.journal.workers.deregister(worker)  # again: nothing to do


def test_what_a_deregistered_worker_still_holds_is_swept(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.journal.workers.deregister(worker)
    assert desk.run(run.run_id).lease_owner == worker
    assert desk.journal.workers.reap().runs == 1
    assert desk.run(run.run_id).lease_owner is None


def test_worker_ids_are_never_the_same() -> None:
    assert len({new_worker_id() for _ in range(1000)}) == 1000


def test_a_host_name_with_nul_is_refused(desk: Desk) -> None:
    with pytest.raises(JournalError):
        desk.journal.workers.register(WorkerInfo(new_worker_id(), "a\0b", 1, HOUR))
    assert desk.journal.workers.list_workers() == []


# ------------------------------------------------------------------ death and sweep


def test_there_is_nothing_to_reap_among_the_living(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0)], claimed=[0])
    assert desk.journal.workers.reap() == Reaped()
    assert len(desk.journal.tasks.held(worker)) == 1


def test_the_dead_are_deleted_and_the_living_stay(desk: Desk, worker: WorkerId) -> None:
    dead = {desk.make_worker(DEAD) for _ in range(3)}
    assert set(desk.journal.workers.reap().workers) == dead
    assert [record.id for record in desk.journal.workers.list_workers()] == [worker]


def test_runs_of_the_dead_are_freed_under_higher_tokens(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    lost, kept = desk.parked(worker), desk.parked(other)
    desk.kill(worker)
    assert desk.journal.workers.reap() == Reaped(workers=(worker,), runs=1)
    row = desk.run(lost.run_id)
    assert (row.lease_owner, row.state, row.last_seq) == (None, RunState.SUSPENDED, 2)
    assert row.lease_token > lost.token
    row = desk.run(kept.run_id)
    assert (row.lease_owner, row.lease_token) == (other, kept.token)


def test_the_sweep_leaves_wake_at_alone(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    # A parked run of a dead dispatcher need not be replayed before its time.
    later = desk.parked(worker, wake_at=desk.now_us() + HOUR_US)
    never = desk.parked(worker)
    due = desk.fresh(worker)
    before = [desk.run(run.run_id).wake_at for run in (later, never, due)]
    desk.bury(worker)
    assert [desk.run(run.run_id).wake_at for run in (later, never, due)] == before
    assert [run.run_id for run in desk.claim(other)] == [due.run_id]


def test_mail_of_a_swept_run_makes_it_claimable(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(worker)
    desk.signal(run.run_id)
    desk.bury(worker)
    assert [message.chain_id for message in desk.claim_one(other).mail] == [run.chain_id]


def test_a_run_left_by_an_earlier_sweep_is_found_by_the_next(desk: Desk, worker: WorkerId) -> None:
    # The owner's row is long gone; the sweep asks whether the owner exists, not whether it died just now.
    run = desk.fresh(worker)
    desk.journal.workers.deregister(worker)
    with desk.locked(run.run_id):
        assert desk.journal.workers.reap().runs == 0
    assert desk.journal.workers.reap() == Reaped(runs=1)


def test_ended_runs_are_not_swept(desk: Desk, worker: WorkerId) -> None:
    desk.end(worker, desk.fresh(worker))
    desk.kill(worker)
    assert desk.journal.workers.reap().runs == 0


def test_runs_are_swept_in_chunks(desk: Desk, worker: WorkerId) -> None:
    runs = [desk.fresh(worker) for _ in range(5)]
    desk.kill(worker)
    freed, passes, more = 0, 0, True
    while more:
        reaped = desk.journal.workers.reap(limit=2)
        assert reaped.runs <= 2
        freed, passes, more = freed + reaped.runs, passes + 1, reaped.more
        assert passes < 10
    assert freed == 5
    assert all(desk.run(run.run_id).lease_owner is None for run in runs)


def test_two_sweeps_free_each_run_once(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.bury(worker)
    token = desk.run(run.run_id).lease_token
    assert desk.journal.workers.reap() == Reaped()
    assert desk.run(run.run_id).lease_token == token


# ------------------------------------------------------------------ tasks of the dead


def test_a_dead_workers_task_is_offered_again_one_attempt_later(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(other, orders=[order(0, attempts=3)])
    task = desk.take_one(worker)
    desk.journal.tasks.progress(worker, task, details='{"done": 3}')
    desk.kill(worker)
    assert desk.journal.workers.reap() == Reaped(workers=(worker,), requeued=1)
    [row] = desk.journal.tasks.of_run(run.run_id)
    assert (row.claimed_by, row.claimed_at, row.attempt) == (None, None, 2)
    again = desk.take_one(other)
    assert (again.attempt, again.heartbeat) == (2, '{"done": 3}')
    assert desk.mail(other).messages == []


def test_the_dead_attempt_can_neither_finish_nor_go_on(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(other, orders=[order(0)])
    task = desk.take_one(worker)
    desk.bury(worker)
    again = desk.take_one(other)
    assert not desk.journal.tasks.finish(worker, succeeded(task))
    assert not desk.journal.tasks.progress(worker, task, details=None)
    assert not desk.journal.tasks.retry(worker, task, failure=Failure("X", "x"), delay=timedelta(0))
    assert [(item.claimed_by, item.attempt) for item in desk.journal.tasks.of_run(run.run_id)] == [(other, 2)]
    assert desk.journal.tasks.finish(other, succeeded(again))
    assert len(desk.mail(other).messages) == 1


def test_a_task_that_has_used_its_last_attempt_fails_by_message(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(other, orders=[order(0, attempts=1)])
    desk.take_one(worker)
    desk.kill(worker)
    assert desk.journal.workers.reap() == Reaped(workers=(worker,), exhausted=1)
    assert desk.journal.tasks.of_run(run.run_id) == []
    [message] = desk.mail(other).messages
    assert (message.kind, message.run_id, message.command) == (EventType.ACTIVITY_FAILED, run.run_id, 0)
    assert message.payload is not None
    failure = Failure.parse(message.payload)
    assert (failure.kind, failure.attempts) == (FailureKind.WORKER_DIED, 1)


def test_a_dead_dispatchers_run_and_its_local_tasks_are_both_freed(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = desk.parked(worker, orders=[order(0), order(1)], claimed=[0])
    desk.kill(worker)
    reaped = desk.journal.workers.reap()
    assert (reaped.runs, reaped.requeued, reaped.exhausted) == (1, 1, 0)
    tasks = desk.journal.tasks.of_run(run.run_id)
    assert [(task.command, task.attempt, task.claimed_by) for task in tasks] == [(0, 2, None), (1, 1, None)]
    late = commit_of(run, event(EventType.ACTIVITY_COMPLETED, command=0), finished=[(0, 1)])
    assert desk.commit(worker, late) == frozenset()
    assert len(desk.take(other)) == 2


def test_tasks_are_swept_in_chunks(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.parked(other, orders=[order(n) for n in range(5)])
    assert len(desk.take(worker)) == 5
    desk.kill(worker)
    requeued, passes, more = 0, 0, True
    while more:
        reaped = desk.journal.workers.reap(limit=2)
        requeued, passes, more = requeued + reaped.requeued, passes + 1, reaped.more
        assert passes < 10
    assert requeued == 5


def test_repeated_sweeps_raise_an_attempt_once(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(other, orders=[order(0)])
    desk.take_one(worker)
    desk.bury(worker)
    desk.journal.workers.reap()
    assert [task.attempt for task in desk.journal.tasks.of_run(run.run_id)] == [2]


# ------------------------------------------------------------------ versions


def test_versions_keep_the_source_they_were_first_recorded_with(desk: Desk) -> None:
    first = WorkflowVersion("order", 1, "h1", "async def order(): ...\n# ü", 5_000_000)
    second = WorkflowVersion("order", 1, "h2", "other")
    workers = desk.journal.workers
    workers.record_versions([first, second])
    workers.record_versions([WorkflowVersion("order", 1, "h1", "changed"), first])
    assert workers.source_of("order", "h1") == first.source
    assert workers.source_of("order", "h2") == "other"


def test_the_source_of_an_unknown_version_is_none(desk: Desk) -> None:
    desk.journal.workers.record_versions([WorkflowVersion("order", 1, "h1", "x")])
    assert desk.journal.workers.source_of("order", "h2") is None
    assert desk.journal.workers.source_of("other", "h1") is None


def test_recording_no_versions_is_no_error(desk: Desk) -> None:
    desk.journal.workers.record_versions([])
