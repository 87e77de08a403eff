"""What is ordered is marked by its commit and published after it; what is free is marked and published here."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from continuum.model.tasks import TaskRef
from tests.support.eventually import eventually
from tests.support.journals import FAILURE
from tests.support.outboxes import OutboxBench, fake_order


@pytest.fixture
def bench() -> Iterator[OutboxBench]:
    made = OutboxBench()
    yield made
    made.close()


def test_what_a_commit_has_marked_is_published_without_another_statement(bench: OutboxBench) -> None:
    bench.run()
    bench.calls.clear()
    refs = bench.submit(*[fake_order(n) for n in (1, 2, 3)])
    bench.run()
    assert bench.transport.refs == refs
    assert bench.transport.instances == {"shop"}
    assert bench.transport.batches == [3]
    assert bench.states(refs) == ["dispatched"] * 3
    assert not bench.calls
    assert bench.status == (3, 0, "up")


def test_free_tasks_are_marked_and_published(bench: OutboxBench) -> None:
    refs = bench.free(fake_order(1), fake_order(2, executor="other"), fake_order(3, queue="r"))
    bench.run()
    assert sorted(bench.transport.refs) == [refs[0], refs[2]]
    assert bench.states(refs) == ["dispatched", "available", "dispatched"]
    assert [task.dispatch_no for task in bench.transport.published] == [1, 1]


def test_the_most_urgent_free_task_goes_first_and_the_rest_waits_for_room(bench: OutboxBench) -> None:
    refs = bench.free(*[fake_order(n, priority=n) for n in range(1, 16)])
    bench.run()
    assert bench.transport.commands == list(range(15, 5, -1))
    assert bench.states(refs) == ["available"] * 5 + ["dispatched"] * 10


def test_many_free_tasks_are_published_in_bounded_batches() -> None:
    bench = OutboxBench(window=1000)
    bench.free(*[fake_order(n) for n in range(1, 451)])
    bench.run()
    assert bench.transport.batches == [200, 200, 50]
    bench.close()


def test_a_full_queue_reserves_nothing_until_something_of_it_is_claimed(bench: OutboxBench) -> None:
    refs = bench.submit(*[fake_order(n) for n in range(1, 13)])
    assert len(refs) == 10
    bench.run()
    assert bench.outbox.reserve(fake_order(1, queue="other"))
    assert not bench.outbox.reserve(fake_order(20))
    assert bench.claim(*refs[:4]) == refs[:4]
    bench.pass_time(0.06)
    bench.run()
    # The two that had no room come first, then there is room for new ones.
    assert sorted(bench.transport.commands) == list(range(1, 13))
    assert [bench.outbox.reserve(fake_order(20)) for _ in range(3)] == [True, True, False]


def test_a_new_order_does_not_overtake_what_waits_for_room(bench: OutboxBench) -> None:
    first = bench.submit(*[fake_order(n) for n in range(1, 11)])
    waiting = bench.free(*[fake_order(n) for n in range(1, 9)])
    bench.outbox.wake()
    bench.run()
    bench.claim(*first[:3])
    bench.pass_time(0.06)
    bench.run()
    assert bench.states(waiting).count("dispatched") == 3
    bench.claim(*first[3:5])
    assert not bench.outbox.reserve(fake_order(1, priority=-5)), "five wait, and there is room for two"


def test_a_full_window_asks_the_journal_no_more_than_every_fifty_milliseconds(bench: OutboxBench) -> None:
    bench.freeze()
    bench.submit(*[fake_order(n) for n in range(1, 12)])
    bench.run()
    for _ in range(10):
        bench.outbox.wake()
        assert bench.run() == pytest.approx(0.05)
    assert bench.calls == {"dispatch": 1}
    bench.pass_time(0.06)
    for _ in range(10):
        bench.outbox.wake()
        bench.run()
    assert bench.calls == {"dispatch": 2, "undelivered": 1}


def test_a_question_that_takes_long_is_asked_less_often(bench: OutboxBench) -> None:
    bench.freeze()
    bench.submit(*[fake_order(n) for n in range(1, 12)])
    bench.free(fake_order(20))
    bench.outbox.wake()
    bench.run()
    bench.after = lambda name: bench.pass_time(0.02 if name == "undelivered" else 0)
    bench.pass_time(0.06)
    assert bench.run() == pytest.approx(0.38, abs=0.01), "a twentieth of the time"
    bench.after = lambda _: None
    bench.pass_time(0.4)
    assert bench.run() == pytest.approx(0.05)


def test_an_outbox_without_work_asks_nothing_until_its_floor_poll(bench: OutboxBench) -> None:
    bench.freeze()
    assert bench.run() == pytest.approx(30, abs=1)
    assert bench.calls == {"dispatch": 1}
    bench.pass_time(29)
    assert bench.run() == pytest.approx(1, abs=0.5)
    assert bench.calls == {"dispatch": 1}
    bench.pass_time(2)
    bench.run()
    assert bench.calls == {"dispatch": 2}


def test_what_was_claimed_leaves_the_window_after_a_while(bench: OutboxBench) -> None:
    bench.freeze()
    refs = bench.submit(fake_order(1), fake_order(2))
    bench.run()
    bench.claim(refs[0])
    bench.pass_time(3.1)
    bench.run()
    assert bench.status == (1, 0, "up")
    bench.claim(refs[1])
    bench.pass_time(3.1)
    bench.run()
    assert bench.status == (0, 0, "up")
    bench.calls.clear()
    bench.pass_time(3.1)
    bench.run()
    assert not bench.calls["undelivered"], "there is nothing to look after"


def test_what_is_submitted_while_the_journal_is_asked_stays(bench: OutboxBench) -> None:
    [first] = bench.submit(fake_order(1))
    bench.run()
    bench.claim(first)

    def meanwhile(name: str) -> None:
        if name == "undelivered":
            bench.after = lambda _name: None
            bench.submit(fake_order(2))

    bench.after = meanwhile
    bench.pass_time(3.1)
    bench.run()
    bench.run()
    assert bench.transport.commands == [1, 2]
    assert bench.status == (1, 0, "up")


def test_an_outcome_that_came_makes_room_without_asking(bench: OutboxBench) -> None:
    refs = bench.submit(*[fake_order(n) for n in range(1, 11)])
    bench.run()
    bench.calls.clear()
    bench.outbox.settle(refs[0].run_id, refs[0].command)
    assert bench.outbox.reserve(fake_order(20))
    assert not bench.calls


def test_a_place_that_was_given_back_can_be_kept_again(bench: OutboxBench) -> None:
    orders = [fake_order(n) for n in range(1, 11)]
    assert all(bench.outbox.reserve(item) for item in orders)
    for item in orders:
        bench.outbox.unreserve(item)
    assert all(bench.outbox.reserve(item) for item in orders)


def test_a_task_cancelled_before_it_was_published_never_is(bench: OutboxBench) -> None:
    refs = bench.submit(fake_order(1), fake_order(2))
    bench.outbox.cancel(refs[0].run_id, refs[0].command)
    bench.run()
    assert bench.transport.refs == refs[1:]
    assert bench.transport.withdrawn == []


def test_the_message_of_a_cancelled_task_is_withdrawn(bench: OutboxBench) -> None:
    [ref] = bench.submit(fake_order(1))
    bench.run()
    bench.outbox.cancel(ref.run_id, ref.command)
    bench.outbox.cancel(ref.run_id, 77)  # somebody else's
    bench.run()
    assert bench.transport.withdrawn == [(ref, 1)]


def test_a_task_cancelled_while_it_is_published_is_withdrawn(bench: OutboxBench) -> None:
    [ref] = bench.submit(fake_order(1))
    bench.transport.on_publish = lambda: bench.outbox.cancel(ref.run_id, ref.command)
    bench.run()
    assert bench.transport.withdrawn == [(ref, 1)]


def test_a_task_that_ended_while_it_was_published_is_not_withdrawn(bench: OutboxBench) -> None:
    [ref] = bench.submit(fake_order(1))
    bench.transport.on_publish = lambda: bench.outbox.settle(ref.run_id, ref.command)
    bench.run()
    assert bench.transport.refs == [ref]
    assert bench.transport.withdrawn == []


def test_a_retry_is_published_when_it_is_due(bench: OutboxBench) -> None:
    [ref] = bench.submit(fake_order(1))
    bench.run()
    worker = bench.desk.make_worker()
    [task] = bench.tasks.claim_dispatched(worker, [ref])
    assert bench.tasks.retry(worker, task, failure=FAILURE, delay=timedelta(milliseconds=80))
    bench.outbox.wake()
    pause = bench.run()
    assert 0.0 < pause <= 0.08
    assert bench.transport.refs == [ref]
    eventually(lambda: bench.run() >= 0 and len(bench.transport.refs) == 2, interval=0.005)
    assert bench.transport.refs[1] == TaskRef(ref.run_id, 1, 2)
    assert [task.dispatch_no for task in bench.transport.published] == [1, 1], "the next attempt counts anew"


def test_the_thread_publishes_at_once_what_it_is_given(bench: OutboxBench) -> None:
    bench.outbox.start()
    refs = bench.submit(fake_order(1))
    eventually(lambda: bench.transport.refs == refs, interval=0.001)
    assert bench.transport.threads == {"continuum-outbox-fake"}
    assert bench.outbox.stop(5)
    assert bench.transport.closed == 1


def test_nothing_the_turns_thread_calls_waits_for_a_broker_that_hangs(bench: OutboxBench) -> None:
    bench.transport.hang.clear()
    bench.outbox.start()
    [ref] = bench.submit(fake_order(1))
    assert bench.transport.hanging.wait(10)
    done = threading.Event()

    def call_everything() -> None:
        bench.submit(fake_order(2))
        bench.outbox.cancel(ref.run_id, 1)
        bench.outbox.settle(ref.run_id, 2)
        bench.outbox.wake()
        bench.outbox.status()
        done.set()

    threading.Thread(target=call_everything).start()
    assert done.wait(5), "somebody waits for the broker"
    bench.transport.hang.set()
