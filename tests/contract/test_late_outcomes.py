"""Outcomes of external executors: several in one statement, each judged alone; a late success saves an attempt."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from continuum.errors import JournalError
from continuum.model.failures import Failure
from continuum.model.ids import WorkerId, new_run_id, new_worker_id
from continuum.model.leases import ClaimedRun
from continuum.model.tasks import ClaimedTask, TaskOutcome, TaskRef, TaskState
from tests.support.dispatches import MINUTE, celery, deliver, letters, mark, published, ref_of, row_of
from tests.support.journals import FAILURE, HOUR, NOW, Desk, failed, order, succeeded

Age = Callable[[timedelta], None]


def finish(desk: Desk, worker: WorkerId, *outcomes: TaskOutcome) -> frozenset[TaskRef]:
    return desk.journal.tasks.finish_many(worker, outcomes)


def lose(desk: Desk, holder: WorkerId, task: ClaimedTask, *, delay: timedelta = NOW) -> None:
    """Take the claim away: the next attempt is free, after the delay."""
    assert desk.journal.tasks.retry(holder, task, failure=FAILURE, delay=delay)


# ------------------------------------------------------------------ several at once


def test_outcomes_of_several_runs_end_in_one_call(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    first, second = published(desk, worker, celery(0), celery(1)), published(desk, worker)
    tasks = [deliver(desk, other, first, 0), deliver(desk, other, first, 1), deliver(desk, other, second)]
    failure = Failure("X", "nö", traceback="line\n", attempts=3, permanent=True)
    outcomes = [succeeded(tasks[0], '{"b": 1,  "a": 2}'), failed(tasks[1], failure), succeeded(tasks[2], "3")]
    assert finish(desk, other, *outcomes) == {ref_of(first, 0), ref_of(first, 1), ref_of(second, 0)}
    messages = {(message.run_id, message.command): message for message in desk.mail(worker).messages}
    assert len(messages) == 3
    found = {key: (str(message.kind), message.payload) for key, message in messages.items()}
    assert found[first.run_id, 0] == ("activity_completed", '{"b": 1,  "a": 2}')
    assert found[second.run_id, 0] == ("activity_completed", "3")
    kind, payload = found[first.run_id, 1]
    assert kind == "activity_failed"
    assert payload is not None
    assert Failure.parse(payload) == failure
    assert desk.journal.tasks.held(other) == []
    assert desk.journal.tasks.of_run(first.run_id) == []


def test_no_outcomes_are_no_error(desk: Desk, worker: WorkerId) -> None:
    assert finish(desk, worker) == frozenset()


def test_a_stale_outcome_does_not_hold_up_the_others(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker, *(celery(n) for n in range(5)))
    mine, theirs = deliver(desk, other, run, 0), deliver(desk, worker, run, 1)
    late, too_late = deliver(desk, other, run, 2), deliver(desk, other, run, 3)
    lose(desk, other, late)
    lose(desk, other, too_late)
    unknown = TaskOutcome(new_run_id(desk.now_us()), 0, 1, "charge", "9")
    outcomes = [succeeded(theirs), failed(too_late), unknown, succeeded(mine), succeeded(late)]
    assert finish(desk, other, *outcomes) == {ref_of(run, 0), ref_of(run, 2)}
    assert sorted(letters(desk, worker)) == [("activity_completed", 0, '"paid"'), ("activity_completed", 2, '"paid"')]
    assert desk.journal.tasks.held(worker) == [theirs]
    assert (row_of(desk, run, 3).attempt, row_of(desk, run, 4).state) == (2, TaskState.DISPATCHED)


def test_an_attempt_ends_once_however_often_it_is_handed_in(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    task = deliver(desk, other, published(desk, worker))
    ref = TaskRef(task.run_id, task.command, task.attempt)
    assert finish(desk, other, succeeded(task, "1"), succeeded(task, "1")) == {ref}
    assert finish(desk, other, succeeded(task, "2")) == frozenset()
    assert finish(desk, other, failed(task)) == frozenset()
    assert letters(desk, worker) == [("activity_completed", 0, "1")]


def test_of_outcomes_at_once_one_is_accepted(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker, celery(0), celery(1))
    held, lost = deliver(desk, other, run, 0), deliver(desk, other, run, 1)
    lose(desk, other, lost)
    together = Barrier(4)

    def hand_in(number: int) -> frozenset[TaskRef]:
        together.wait()
        pair = [succeeded(held, str(number)), succeeded(lost, str(number))]
        return finish(desk, other, *(pair if number % 2 else reversed(pair)))

    with ThreadPoolExecutor(4) as pool:
        accepted = [ref for refs in pool.map(hand_in, range(4)) for ref in refs]
    assert sorted(accepted) == [ref_of(run, 0), ref_of(run, 1)]
    assert sorted(command or 0 for _, command, _ in letters(desk, worker)) == [0, 1]


@pytest.mark.parametrize("payload", ["{nonsense", '"a\0b"'])
def test_one_outcome_that_is_no_json_refuses_them_all(
    desk: Desk, worker: WorkerId, other: WorkerId, payload: str
) -> None:
    run = published(desk, worker, celery(0), celery(1))
    tasks = [deliver(desk, other, run, n) for n in range(2)]
    with pytest.raises(JournalError):
        finish(desk, other, succeeded(tasks[0]), succeeded(tasks[1], payload))
    assert sorted(task.command for task in desk.journal.tasks.held(other)) == [0, 1]
    assert letters(desk, worker) == []


def test_outcomes_do_not_touch_the_run_row(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    before = desk.run(run.run_id)
    with desk.locked(run.run_id):
        assert len(finish(desk, other, succeeded(task))) == 1
    assert desk.run(run.run_id) == before


def test_outcomes_of_local_attempts_end_as_well(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.parked(worker, orders=[order(0)])
    assert len(finish(desk, other, succeeded(desk.take_one(other)))) == 1


# ------------------------------------------------------------------ late


def lost(desk: Desk, worker: WorkerId, other: WorkerId) -> tuple[ClaimedRun, ClaimedTask]:
    """Return a task whose first attempt ``other`` has begun, and may not end any more."""
    run = published(desk, worker)
    task = deliver(desk, other, run)
    lose(desk, other, task)
    return run, task


def test_a_late_success_saves_the_next_attempt(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run, task = lost(desk, worker, other)
    assert finish(desk, other, succeeded(task, "1")) == {ref_of(run)}
    assert desk.journal.tasks.of_run(run.run_id) == []
    assert mark(desk, worker).tasks == []
    assert letters(desk, worker) == [("activity_completed", 0, "1")]


def test_a_late_success_is_accepted_while_the_next_attempt_is_only_published(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run, task = lost(desk, worker, other)
    assert len(mark(desk, worker).tasks) == 1
    assert finish(desk, other, succeeded(task, "1")) == {ref_of(run)}
    assert desk.journal.tasks.claim_dispatched(worker, [ref_of(run, attempt=2)]) == []
    assert desk.journal.tasks.undelivered(worker, executor="celery") == []


def test_a_late_success_is_accepted_while_the_next_attempt_waits(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    lose(desk, other, task, delay=HOUR)
    assert finish(desk, other, succeeded(task)) == {ref_of(run)}


@pytest.mark.parametrize("published_again", [False, True])
def test_a_late_success_is_accepted_at_the_same_attempt(
    desk: Desk, worker: WorkerId, other: WorkerId, published_again: bool
) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    assert desk.journal.tasks.put_back(other, [task]) == 1
    assert len(mark(desk, worker).tasks if published_again else [task]) == 1
    assert finish(desk, other, succeeded(task, "1")) == {ref_of(run)}
    assert letters(desk, worker) == [("activity_completed", 0, "1")]


def test_a_late_success_of_a_worker_taken_for_dead_is_accepted(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    desk.bury(other)
    assert row_of(desk, run).attempt == 2
    assert finish(desk, other, succeeded(task)) == {ref_of(run)}


def test_a_late_success_of_an_attempt_that_has_timed_out_is_accepted(
    desk: Desk, worker: WorkerId, other: WorkerId, age: Age
) -> None:
    run = published(desk, worker, celery(0, timeout=MINUTE))
    task = deliver(desk, other, run)
    age(2 * MINUTE)
    assert desk.journal.workers.reap().requeued == 1
    assert finish(desk, other, succeeded(task)) == {ref_of(run)}


@pytest.mark.parametrize("by", ["the same worker", "another worker"])
def test_a_late_success_is_refused_once_a_newer_attempt_has_begun(
    desk: Desk, worker: WorkerId, other: WorkerId, by: str
) -> None:
    run, task = lost(desk, worker, other)
    holder = other if by == "the same worker" else worker
    newer = deliver(desk, holder, run, attempt=2)
    assert finish(desk, other, succeeded(task, "1")) == frozenset()
    assert desk.journal.tasks.held(holder) == [newer]
    assert letters(desk, worker) == []
    assert finish(desk, holder, succeeded(newer, "2")) == {ref_of(run, attempt=2)}
    assert finish(desk, other, succeeded(task, "1")) == frozenset()
    assert letters(desk, worker) == [("activity_completed", 0, "2")]


def test_a_success_is_refused_while_another_worker_holds_the_same_attempt(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    desk.journal.tasks.put_back(other, [task])
    again = deliver(desk, worker, run)
    assert finish(desk, other, succeeded(task)) == frozenset()
    assert desk.journal.tasks.held(worker) == [again]


def test_a_success_of_an_attempt_that_has_not_come_yet_is_refused(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run = published(desk, worker)
    early = TaskOutcome(run.run_id, 0, 2, "charge", "1")
    assert finish(desk, other, early) == frozenset()
    task = deliver(desk, other, run)
    assert finish(desk, other, early) == frozenset()
    assert desk.journal.tasks.held(other) == [task]


@pytest.mark.parametrize("state", ["free", "put back", "dispatched", "begun"])
def test_a_late_failure_is_never_accepted(desk: Desk, worker: WorkerId, other: WorkerId, state: str) -> None:
    run = published(desk, worker)
    task = deliver(desk, other, run)
    if state == "put back":
        desk.journal.tasks.put_back(other, [task])
    else:
        lose(desk, other, task)
    if state == "dispatched":
        mark(desk, worker)
    if state == "begun":
        deliver(desk, worker, run, attempt=2)
    before = row_of(desk, run)
    assert finish(desk, other, failed(task)) == frozenset()
    assert row_of(desk, run) == before
    assert letters(desk, worker) == []


def test_of_two_late_successes_of_one_task_one_is_accepted(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run, first = lost(desk, worker, other)
    second = deliver(desk, other, run, attempt=2)
    lose(desk, other, second)
    accepted = finish(desk, other, succeeded(first, "1"), succeeded(second, "2"))
    assert len(accepted) == 1
    [(kind, command, payload)] = letters(desk, worker)
    [ref] = accepted
    assert (kind, command, payload) == ("activity_completed", 0, str(ref.attempt))


def test_a_claim_that_holds_goes_before_a_late_success_in_one_call(
    desk: Desk, worker: WorkerId, other: WorkerId
) -> None:
    run, first = lost(desk, worker, other)
    second = deliver(desk, other, run, attempt=2)
    assert finish(desk, other, succeeded(first, "1"), succeeded(second, "2")) == {ref_of(run, attempt=2)}
    assert letters(desk, worker) == [("activity_completed", 0, "2")]


def test_a_late_success_of_a_local_attempt_is_accepted(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.parked(worker, orders=[order(0)])
    task = desk.take_one(other)
    lose(desk, other, task)
    assert len(finish(desk, other, succeeded(task, "1"))) == 1
    assert desk.take(worker) == []


def test_a_late_success_needs_no_living_worker(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run, task = lost(desk, worker, other)
    assert finish(desk, new_worker_id(), succeeded(task)) == {ref_of(run)}


def test_a_late_outcome_after_the_end_of_the_run_is_stale(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    run, task = lost(desk, worker, other)
    desk.end(worker, run)
    assert finish(desk, other, succeeded(task)) == frozenset()
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_only_many_are_accepted_late(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    # The local pool, keys and transactions compare claims and nothing else.
    run, task = lost(desk, worker, other)
    assert not desk.journal.tasks.finish(other, succeeded(task))
    assert desk.journal.tasks.finish_keyed(other, succeeded(task, "1"), key="k") == (False, "1")
    with desk.journal.tasks.transaction(other) as transaction:
        assert not transaction.finish(succeeded(task))
    assert row_of(desk, run).attempt == 2
    assert letters(desk, worker) == []
