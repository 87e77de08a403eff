"""Mail and the floor poll: an owner finds whatever a lost hint should have said."""

import pytest

from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from tests.support.journals import DEAD, FAILURE, HOUR, HOUR_US, Desk, event, grant_of, order, succeeded

# ------------------------------------------------------------------ mail


def test_mail_is_that_of_my_runs_alone(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    mine, others, free = desk.parked(worker), desk.parked(other), desk.idle(worker)
    for run in (mine, others, free):
        desk.signal(run.run_id)
    assert [message.chain_id for message in desk.mail(worker).messages] == [mine.chain_id]
    assert [message.chain_id for message in desk.mail(other).messages] == [others.chain_id]


def test_mail_is_read_oldest_first_over_all_runs(desk: Desk, worker: WorkerId) -> None:
    first, second = desk.parked(worker), desk.parked(worker)
    for number, run in enumerate([first, second, first, second]):
        desk.signal(run.run_id, payload=str(number))
    messages = desk.mail(worker).messages
    assert [message.payload for message in messages] == ["0", "1", "2", "3"]
    assert [message.payload for message in desk.mail(worker, limit=3).messages] == ["0", "1", "2"]


def test_reading_mail_consumes_nothing(desk: Desk, worker: WorkerId) -> None:
    desk.signal(desk.parked(worker).run_id)
    assert desk.mail(worker) == desk.mail(worker)
    assert len(desk.mail(worker).messages) == 1


def test_outcomes_are_addressed_to_their_run_and_signals_to_the_tip(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, orders=[order(0)])
    desk.journal.tasks.finish(worker, succeeded(desk.take_one(worker)))
    desk.signal(run.run_id)
    outcome, signal = desk.mail(worker).messages
    assert (outcome.kind, outcome.run_id, outcome.command) == (EventType.ACTIVITY_COMPLETED, run.run_id, 0)
    assert (signal.kind, signal.run_id, signal.command) == (EventType.SIGNAL_RECEIVED, None, None)


def test_after_a_handover_the_mail_is_the_new_owners(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(worker)
    desk.signal(run.run_id)
    desk.bury(worker)
    assert desk.mail(worker).messages == []
    desk.claim_one(other)
    assert len(desk.mail(other).messages) == 1


# ------------------------------------------------------------------ look


def test_where_there_is_nothing_to_do_look_finds_nothing(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, wake_at=desk.now_us() + HOUR_US)
    desk.idle(worker, wake_at=desk.now_us() + HOUR_US)
    desk.end(worker, desk.fresh(worker))
    reply = desk.look(worker)
    assert (reply.messages, reply.due, reply.claimable, reply.tasks, reply.dead) == ([], [], False, False, False)


def test_look_finds_mail_of_my_runs(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    mine, others = desk.parked(worker), desk.parked(other)
    desk.signal(others.run_id)
    desk.signal(mine.run_id, payload="1")
    desk.signal(mine.run_id, payload="2")
    assert desk.look(worker).messages == desk.mail(worker).messages
    assert [message.payload for message in desk.look(worker, limit=1).messages] == ["1"]


def test_look_finds_my_runs_that_are_due_with_their_tokens(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    due = desk.parked(worker, wake_at=desk.now_us() - 1)
    desk.parked(worker, wake_at=desk.now_us() + HOUR_US)
    desk.parked(other, wake_at=desk.now_us() - 1)
    assert desk.look(worker).due == [grant_of(due)]


def test_look_finds_my_runs_that_have_mail_with_their_tokens(desk: Desk, worker: WorkerId) -> None:
    waiting = desk.parked(worker)
    desk.signal(waiting.run_id)
    desk.signal(waiting.run_id)
    assert desk.look(worker).due == [grant_of(waiting)]


def test_a_run_claimed_with_a_lost_answer_is_found_and_taken_again(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run()
    desk.claim(worker)  # nobody hears the answer
    [grant] = desk.look(worker).due
    [run] = desk.regrant(worker, grant)
    assert run.run_id == run_id
    desk.write(worker, run, event(EventType.RUN_BEGAN))


def test_look_lists_at_most_its_limit_of_due_runs(desk: Desk, worker: WorkerId) -> None:
    for _ in range(4):
        desk.fresh(worker)
    assert len(desk.look(worker, limit=3).due) == 3
    assert len(desk.look(worker, limit=100).due) == 4


@pytest.mark.parametrize("workflow", [("order", 2), ("other", 1)])
def test_look_sees_claimable_runs_of_loaded_code_alone(desk: Desk, worker: WorkerId, workflow: tuple[str, int]) -> None:
    desk.make_run()
    assert desk.look(worker).claimable
    assert not desk.look(worker, workflows=[workflow]).claimable
    assert not desk.look(worker, workflows=[]).claimable


def test_look_sees_a_free_run_with_mail(desk: Desk, worker: WorkerId) -> None:
    run = desk.idle(worker)
    assert not desk.look(worker).claimable
    desk.signal(run.run_id)
    assert desk.look(worker).claimable


def test_look_claims_nothing(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run()
    desk.look(worker)
    row = desk.run(run_id)
    assert (row.lease_owner, row.lease_token, row.grants) == (None, 0, 0)


def test_look_sees_free_tasks_of_the_named_queues(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0, queue="slow")])
    assert not desk.look(worker, queues=["default"]).tasks
    assert desk.look(worker, queues=["default", "slow"]).tasks
    desk.take(worker, queues={"slow": 1})
    assert not desk.look(worker, queues=["slow"]).tasks


def test_look_sees_tasks_of_any_queue_or_of_none_as_asked(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0, queue="slow")])
    assert desk.look(worker, queues=None).tasks
    assert not desk.look(worker, queues=()).tasks


def test_look_sees_a_task_only_when_it_is_due(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0)])
    task = desk.take_one(worker)
    desk.journal.tasks.retry(worker, task, failure=FAILURE, delay=HOUR)
    assert not desk.look(worker).tasks


def test_look_sees_an_expired_worker(desk: Desk, worker: WorkerId) -> None:
    assert not desk.look(worker).dead
    expired = desk.make_worker(DEAD)
    assert desk.look(worker).dead
    assert desk.journal.workers.reap().workers == (expired,)
    assert not desk.look(worker).dead


def test_look_sees_what_dead_workers_have_left(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(other, orders=[order(0)], claimed=[0])
    desk.journal.workers.deregister(other)
    assert desk.look(worker).dead
    desk.journal.workers.reap()
    assert not desk.look(worker).dead
    assert desk.run(run.run_id).lease_owner is None
