"""Dispatchers of external executors: marking tasks as dispatched, in a commit or later; rooms, deadlines, handovers."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from continuum.journal.requests import CommitReply, CommitRequest
from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_worker_id
from continuum.model.runs import RunState
from continuum.model.tasks import TaskRef, TaskState
from tests.support.dispatches import (
    MINUTE,
    SECOND,
    celery,
    deliver,
    letters,
    mark,
    published,
    ref_of,
    row_of,
    waiting,
)
from tests.support.journals import FAILURE, HOUR, NOW, Desk, commit_of, event, moved, order, succeeded

Age = Callable[[timedelta], None]


def refs(desk: Desk, worker: WorkerId) -> list[TaskRef]:
    return sorted(desk.journal.tasks.undelivered(worker, executor="celery"))


# ------------------------------------------------------------------ in a commit


def test_a_commit_inserts_claimed_dispatched_and_free_tasks(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(
        worker,
        orders=[order(0), celery(1, queue="mail", priority=7), celery(2)],
        claimed=[0],
        dispatched=frozenset([1]),
    )
    mine, sent, free = desk.journal.tasks.of_run(run.run_id)
    assert [row.state for row in (mine, sent, free)] == [TaskState.LEASED, TaskState.DISPATCHED, TaskState.AVAILABLE]
    assert [row.claimed_by for row in (mine, sent, free)] == [worker, worker, None]
    assert [row.dispatch_no for row in (mine, sent, free)] == [0, 1, 0]
    assert [row.executor for row in (mine, sent, free)] == ["local", "celery", "celery"]
    assert (sent.queue, sent.priority, sent.attempt, sent.claimed_at) == ("mail", 7, 1, None)
    assert refs(desk, worker) == [ref_of(run, 1)]


def test_every_kind_of_commit_inserts_dispatched_tasks(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run, second = published(desk, worker), published(desk, worker)
    one = event(EventType.ACTIVITY_SCHEDULED, command=1)
    # An ordinary step of one run.
    run = desk.write(worker, run, one, orders=[celery(1)], dispatched=frozenset([1]), state=RunState.SUSPENDED)
    # Several runs at once.
    two = event(EventType.ACTIVITY_SCHEDULED, command=2)
    commits = [commit_of(item, two, orders=[celery(2), celery(3)], dispatched=frozenset([3])) for item in (run, second)]
    assert desk.commit(worker, *commits) == {run.run_id, second.run_id}
    # One that consumes mail and cancels.
    grown = moved(run, commits[0])
    assert desk.journal.tasks.finish(other, succeeded(deliver(desk, other, run)))
    [message] = desk.mail(worker).messages
    done = event(EventType.ACTIVITY_COMPLETED, command=0, payload=message.payload)
    fields = {"dispatched": frozenset([4]), "consumed": [message.id], "cancelled": [2]}
    desk.write(worker, grown, done, orders=[celery(4)], **fields)
    assert refs(desk, worker) == sorted(
        [ref_of(run, 1), ref_of(run, 3), ref_of(run, 4), ref_of(second, 0), ref_of(second, 3)]
    )
    assert row_of(desk, second, 2).state == TaskState.AVAILABLE


def test_dispatched_tasks_of_a_commit_have_the_deadline_it_names(desk: Desk, worker: WorkerId, age: Age) -> None:
    run = desk.fresh(worker)
    commit = commit_of(run, event(EventType.RUN_BEGAN), orders=[celery(0)], dispatched=frozenset([0]))
    reply = desk.ask(CommitRequest(worker, [commit], dispatch_deadline=3 * MINUTE))
    assert reply == CommitReply(frozenset([run.run_id]))
    age(3 * MINUTE - 10 * SECOND)
    assert desk.journal.workers.reap().reoffered == 0
    age(20 * SECOND)
    assert desk.journal.workers.reap().reoffered == 1


def test_a_fenced_commit_dispatches_nothing(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    begun = event(EventType.RUN_BEGAN)
    late = commit_of(run, begun, orders=[celery(0)], dispatched=frozenset([0]), token=run.token - 1)
    assert desk.commit(worker, late) == frozenset()
    assert refs(desk, worker) == []


def test_a_dispatched_task_is_nobodys_attempt(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    # Its dispatcher stands in the row, but holds no claim: it can neither end nor prolong what it has only announced.
    run = published(desk, worker)
    task = deliver(desk, other, run)
    assert desk.journal.tasks.put_back(other, [task]) == 1
    [again] = mark(desk, worker).tasks
    assert again.ref == ref_of(run)
    assert desk.journal.tasks.held(worker) == []
    assert not desk.journal.tasks.finish(worker, succeeded(task))
    assert not desk.journal.tasks.retry(worker, task, failure=FAILURE, delay=NOW)
    assert not desk.journal.tasks.progress(worker, task, details=None)
    assert not desk.journal.tasks.abandon(worker, again.ref, failure=FAILURE)
    assert desk.journal.tasks.put_back(worker, [task]) == 0
    done = event(EventType.ACTIVITY_COMPLETED, command=0, payload="1")
    assert desk.commit(worker, commit_of(run, done, finished=[(0, 1)])) == frozenset()
    assert row_of(desk, run).state == TaskState.DISPATCHED
    assert letters(desk, worker) == []


# ------------------------------------------------------------------ later


def test_a_free_task_is_marked_with_all_that_its_message_needs(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    wanted = celery(3, activity="a.b", queue="mail", priority=4)
    run = waiting(desk, worker, wanted)
    before = desk.now_us()
    marked = mark(desk, other)
    [task] = marked.tasks
    assert (task.ref, task.activity, task.policy, task.dispatch_no) == (ref_of(run, 3), "a.b", wanted.policy, 1)
    assert before + 59_000_000 <= task.deadline_us <= desk.now_us() + 61_000_000
    assert (marked.next_due_us, marked.more) == (None, False)
    row = row_of(desk, run, 3)
    assert (row.state, row.claimed_by, row.claimed_at) == (TaskState.DISPATCHED, other, None)
    assert (row.dispatch_no, row.attempt) == (1, 1)


def test_a_dispatched_task_is_not_dispatched_again(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    waiting(desk, worker)
    published(desk, worker)
    assert len(mark(desk, worker).tasks) == 1
    assert mark(desk, worker).tasks == []
    assert mark(desk, other).tasks == []


def test_a_dead_or_unknown_worker_dispatches_nothing(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = waiting(desk, worker)
    desk.kill(other)
    assert mark(desk, other).tasks == []
    assert mark(desk, new_worker_id()).tasks == []
    assert row_of(desk, run).state == TaskState.AVAILABLE


def test_the_most_urgent_tasks_are_dispatched_first(desk: Desk, worker: WorkerId) -> None:
    old = waiting(desk, worker, celery(0), celery(1, priority=9))
    young = waiting(desk, worker, celery(0), celery(1, priority=9))
    marked = [task.ref for _ in range(4) for task in mark(desk, worker, limit=1).tasks]
    assert marked == [ref_of(old, 1), ref_of(young, 1), ref_of(old, 0), ref_of(young, 0)]


def test_what_is_dispatched_together_is_published_in_the_order_of_urgency(desk: Desk, worker: WorkerId) -> None:
    waiting(desk, worker, *(celery(n, priority=p, queue=f"q{n % 2}") for n, p in enumerate([-5, 0, 900, 3, 2])))
    assert [task.ref.command for task in mark(desk, worker).tasks] == [2, 3, 4, 1, 0]


def test_a_dispatch_takes_at_most_its_limit_and_says_that_there_is_more(desk: Desk, worker: WorkerId) -> None:
    waiting(desk, worker, *(celery(n) for n in range(5)))
    answers = [mark(desk, worker, limit=2) for _ in range(4)]
    assert [(len(answer.tasks), answer.more) for answer in answers] == [(2, True), (2, True), (1, False), (0, False)]


def test_a_limit_that_is_just_enough_leaves_nothing(desk: Desk, worker: WorkerId) -> None:
    waiting(desk, worker, celery(0), celery(1))
    answer = mark(desk, worker, limit=2)
    assert (len(answer.tasks), answer.more) == (2, False)


def test_each_queue_has_a_room_of_its_own(desk: Desk, worker: WorkerId) -> None:
    orders = [celery(n, queue=queue, priority=9 - n) for n, queue in enumerate(["a", "a", "a", "b", "b", "c"])]
    waiting(desk, worker, *orders)
    first = mark(desk, worker, rooms={"a": 2, "c": 0}, room=1)
    assert [(task.ref.command, task.policy.queue) for task in first.tasks] == [(0, "a"), (1, "a"), (3, "b")]
    assert first.more
    second = mark(desk, worker, rooms={"a": 0}, room=5)
    assert sorted(task.ref.command for task in second.tasks) == [4, 5]
    assert mark(desk, worker, room=0).tasks == []
    assert [task.ref.command for task in mark(desk, worker, rooms={"a": 1}, room=0).tasks] == [2]


def test_a_full_queue_does_not_hold_up_the_others(desk: Desk, worker: WorkerId) -> None:
    waiting(desk, worker, *(celery(n, queue="full", priority=9) for n in range(20)), celery(20, queue="quick"))
    taken = mark(desk, worker, rooms={"full": 1}, room=5, limit=2).tasks
    assert sorted(task.policy.queue_name for task in taken) == ["full", "quick"]


def test_tasks_of_another_executor_are_not_dispatched(desk: Desk, worker: WorkerId) -> None:
    run = waiting(desk, worker, order(0), order(1, executor="local"), order(2, executor="other"), celery(3))
    assert [task.ref for task in mark(desk, worker).tasks] == [ref_of(run, 3)]
    assert [task.ref for task in mark(desk, worker, executor="other").tasks] == [ref_of(run, 2)]
    assert desk.journal.tasks.undelivered(worker, executor="other") == [ref_of(run, 2)]
    assert refs(desk, worker) == [ref_of(run, 3)]


def test_a_dispatch_says_when_the_next_task_is_due(desk: Desk, worker: WorkerId, age: Age) -> None:
    run = published(desk, worker, celery(0), celery(1))
    local = desk.parked(worker, orders=[order(0)])
    assert mark(desk, worker).next_due_us is None
    assert desk.journal.tasks.defer([ref_of(run, 0)], delay=HOUR) == 1
    assert desk.journal.tasks.defer([ref_of(run, 1)], delay=2 * HOUR) == 1
    desk.journal.tasks.retry(worker, desk.take_one(worker), failure=FAILURE, delay=MINUTE)
    due = row_of(desk, run, 0).available_at
    assert row_of(desk, local).available_at < due
    answer = mark(desk, worker)
    assert (answer.tasks, answer.next_due_us, answer.more) == ([], due, False)
    age(HOUR + SECOND)
    answer = mark(desk, worker)
    assert [task.ref for task in answer.tasks] == [ref_of(run, 0)]
    assert answer.next_due_us == row_of(desk, run, 1).available_at


def test_dispatchers_at_once_share_no_task(desk: Desk, worker: WorkerId) -> None:
    waiting(desk, worker, *(celery(n) for n in range(40)))
    workers = [desk.make_worker() for _ in range(4)]
    together = Barrier(4)

    def take(dispatcher: WorkerId) -> list[int]:
        together.wait()
        return [task.ref.command for _ in range(20) for task in mark(desk, dispatcher, limit=3).tasks]

    with ThreadPoolExecutor(4) as pool:
        taken = [command for mine in pool.map(take, workers) for command in mine]
    taken += [task.ref.command for task in mark(desk, worker).tasks]
    assert sorted(taken) == list(range(40))


# ------------------------------------------------------------------ deadlines


def test_each_dispatch_doubles_the_deadline_up_to_ten_minutes(desk: Desk, worker: WorkerId) -> None:
    run = published(desk, worker)
    spans = []
    for number in range(2, 9):
        assert desk.journal.tasks.defer([ref_of(run)], delay=NOW) == 1
        [task] = mark(desk, worker, deadline=MINUTE).tasks
        assert task.dispatch_no == number
        spans.append(round((task.deadline_us - desk.now_us()) / 60_000_000))
    assert spans == [2, 4, 8, 10, 10, 10, 10]


def test_a_task_that_nobody_claims_in_time_is_offered_again_at_the_same_attempt(
    desk: Desk, worker: WorkerId, age: Age
) -> None:
    run = published(desk, worker)
    age(50 * SECOND)
    assert desk.journal.workers.reap().reoffered == 0
    assert row_of(desk, run).state == TaskState.DISPATCHED
    age(20 * SECOND)
    reaped = desk.journal.workers.reap()
    assert (reaped.workers, reaped.runs, reaped.requeued, reaped.exhausted, reaped.reoffered) == ((), 0, 0, 0, 1)
    row = row_of(desk, run)
    assert (row.state, row.claimed_by, row.attempt, row.dispatch_no) == (TaskState.AVAILABLE, None, 1, 1)
    assert desk.journal.workers.reap().reoffered == 0
    [again] = mark(desk, worker).tasks
    assert (again.ref, again.dispatch_no) == (ref_of(run), 2)
    assert letters(desk, worker) == []


def test_a_task_on_its_last_attempt_is_offered_again_however_often(desk: Desk, worker: WorkerId, age: Age) -> None:
    run = published(desk, worker, celery(0, attempts=1))
    for number in (2, 3, 4):
        age(HOUR)
        assert desk.journal.workers.reap().reoffered == 1
        assert [task.dispatch_no for task in mark(desk, worker).tasks] == [number]
    assert row_of(desk, run).attempt == 1


def test_tasks_of_a_dead_dispatcher_are_offered_again_at_once(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = waiting(desk, worker, celery(0, attempts=1), celery(1))
    assert len(mark(desk, other).tasks) == 2
    task = deliver(desk, worker, run, 1)
    desk.kill(other)
    reaped = desk.journal.workers.reap()
    assert (reaped.workers, reaped.requeued, reaped.exhausted, reaped.reoffered) == ((other,), 0, 0, 1)
    row = row_of(desk, run)
    assert (row.state, row.claimed_by, row.attempt, row.dispatch_no) == (TaskState.AVAILABLE, None, 1, 1)
    # Whoever has begun does not care who has published.
    assert desk.journal.tasks.held(worker) == [task]


def test_what_a_deregistered_dispatcher_has_dispatched_is_offered_again(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = waiting(desk, worker)
    mark(desk, other)
    desk.journal.workers.deregister(other)
    assert desk.journal.workers.reap().reoffered == 1
    assert row_of(desk, run).state == TaskState.AVAILABLE


def test_unclaimed_tasks_are_offered_again_in_chunks(desk: Desk, worker: WorkerId, age: Age) -> None:
    published(desk, worker, *(celery(n) for n in range(5)))
    age(HOUR)
    again, passes, more = 0, 0, True
    while more:
        reaped = desk.journal.workers.reap(limit=2)
        assert reaped.reoffered <= 2
        again, passes, more = again + reaped.reoffered, passes + 1, reaped.more
        assert passes < 10
    assert again == 5
    assert len(mark(desk, worker).tasks) == 5


# ------------------------------------------------------------------ undelivered, handed over


def test_undelivered_is_what_i_have_dispatched_and_nobody_has_claimed(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    mine = published(desk, worker, celery(0), celery(1), celery(2))
    theirs = waiting(desk, worker, celery(0), celery(1))
    assert len(mark(desk, other).tasks) == 2
    deliver(desk, other, mine, 1)
    desk.journal.tasks.defer([ref_of(mine, 2)], delay=NOW)
    assert refs(desk, worker) == [ref_of(mine, 0)]
    assert refs(desk, other) == [ref_of(theirs, 0), ref_of(theirs, 1)]
    assert refs(desk, new_worker_id()) == []


def test_a_handed_over_task_waits_for_its_deadline_whoever_lives(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age
) -> None:
    run = waiting(desk, worker)
    mark(desk, other)
    assert desk.journal.tasks.hand_over(other) == 1
    row = row_of(desk, run)
    assert (row.state, row.claimed_by, row.dispatch_no) == (TaskState.DISPATCHED, None, 1)
    assert refs(desk, other) == []
    desk.bury(other)
    age(50 * SECOND)
    assert not desk.look(worker).dead
    assert desk.journal.workers.reap().reoffered == 0
    assert mark(desk, worker).tasks == []
    age(20 * SECOND)
    assert desk.journal.workers.reap().reoffered == 1
    assert [task.dispatch_no for task in mark(desk, worker).tasks] == [2]


def test_a_handed_over_task_is_claimed_by_whoever_gets_the_message(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = published(desk, worker)
    assert desk.journal.tasks.hand_over(worker) == 1
    assert desk.journal.tasks.held(other) == []
    assert desk.journal.tasks.finish(other, succeeded(deliver(desk, other, run)))


def test_only_what_is_still_dispatched_by_me_is_handed_over(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(
        worker, orders=[order(0), celery(1), celery(2), celery(3)], claimed=[0], dispatched=frozenset([1, 2])
    )
    assert len(mark(desk, other).tasks) == 1
    deliver(desk, worker, run, 2)
    assert desk.journal.tasks.hand_over(worker) == 1
    assert desk.journal.tasks.hand_over(worker) == 0
    assert sorted(task.command for task in desk.journal.tasks.held(worker)) == [0, 2]
    assert refs(desk, other) == [ref_of(run, 3)]


# ------------------------------------------------------------------ defer


def test_a_deferred_task_is_offered_after_its_delay_at_the_same_attempt(desk: Desk, worker: WorkerId, age: Age) -> None:
    run = published(desk, worker)
    before = desk.now_us()
    assert desk.journal.tasks.defer([ref_of(run)], delay=MINUTE) == 1
    row = row_of(desk, run)
    assert (row.state, row.claimed_by, row.attempt, row.dispatch_no) == (TaskState.AVAILABLE, None, 1, 1)
    assert before + 60_000_000 - 1 <= row.available_at <= desk.now_us() + 60_000_000 + 1
    assert mark(desk, worker).tasks == []
    age(HOUR)
    assert desk.journal.workers.reap().reoffered == 0
    assert [task.dispatch_no for task in mark(desk, worker).tasks] == [2]


def test_only_dispatched_tasks_at_that_attempt_are_deferred(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = desk.parked(worker, orders=[celery(n) for n in range(4)], dispatched=frozenset([0, 1, 2]))
    task = deliver(desk, other, run, 1)
    wanted = [ref_of(run, n) for n in (1, 3, 7)] + [ref_of(run, 2, attempt=2)]
    assert desk.journal.tasks.defer(wanted, delay=HOUR) == 0
    assert desk.journal.tasks.held(other) == [task]
    assert [row.state for row in desk.journal.tasks.of_run(run.run_id)] == [
        TaskState.DISPATCHED,
        TaskState.LEASED,
        TaskState.DISPATCHED,
        TaskState.AVAILABLE,
    ]
    assert desk.journal.tasks.defer([*wanted, ref_of(run, 0), ref_of(run, 2)], delay=HOUR) == 2
    assert desk.journal.tasks.defer([], delay=HOUR) == 0
    assert [task.ref for task in mark(desk, worker).tasks] == [ref_of(run, 3)]


def test_tasks_of_runs_that_have_ended_are_not_deferred(desk: Desk, worker: WorkerId) -> None:
    run = published(desk, worker)
    desk.end(worker, run)
    assert desk.journal.tasks.defer([ref_of(run)], delay=NOW) == 0


# ------------------------------------------------------------------ look


def test_look_sees_free_tasks_of_the_named_executors_whatever_their_queue(desk: Desk, worker: WorkerId) -> None:
    waiting(desk, worker, celery(0, queue="anything"))
    assert not desk.look(worker, queues=None).tasks
    assert not desk.look(worker, queues=["anything"]).tasks
    assert not desk.look(worker, queues=None, executors=["other"]).tasks
    assert desk.look(worker, queues=["default"], executors=["celery"]).tasks
    assert desk.look(worker, queues=(), executors=["other", "celery"]).tasks
    assert desk.look(worker, queues=None, executors=["celery"]).tasks
    mark(desk, worker)
    assert not desk.look(worker, queues=None, executors=["celery"]).tasks


def test_look_sees_local_tasks_beside_external_ones(desk: Desk, worker: WorkerId) -> None:
    desk.parked(worker, orders=[order(0, queue="slow")])
    assert desk.look(worker, queues=["slow"], executors=["celery"]).tasks
    assert not desk.look(worker, queues=(), executors=["celery"]).tasks
    assert not desk.look(worker, queues=["default"], executors=["celery"]).tasks


@pytest.mark.parametrize("due", [False, True])
def test_look_sees_a_deferred_task_when_it_is_due(desk: Desk, worker: WorkerId, age: Age, due: bool) -> None:
    run = published(desk, worker)
    desk.journal.tasks.defer([ref_of(run)], delay=MINUTE)
    age(70 * SECOND if due else 50 * SECOND)
    assert desk.look(worker, executors=["celery"]).tasks == due


def test_look_sees_a_task_that_nobody_has_claimed_in_time(desk: Desk, worker: WorkerId, age: Age) -> None:
    published(desk, worker)
    age(50 * SECOND)
    assert not desk.look(worker).dead
    age(20 * SECOND)
    assert desk.look(worker).dead
    desk.journal.workers.reap()
    assert not desk.look(worker).dead


def test_look_sees_what_a_dead_dispatcher_has_dispatched(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    waiting(desk, worker)
    mark(desk, other)
    assert not desk.look(worker).dead
    desk.journal.workers.deregister(other)
    assert desk.look(worker).dead
    desk.journal.workers.reap()
    assert not desk.look(worker).dead
