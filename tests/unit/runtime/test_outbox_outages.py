"""A broker that is away, slow, forgetful or picky; a journal that is away; a lease that is lost; a drain."""

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from continuum.model.tasks import TaskRef
from tests.support.eventually import eventually
from tests.support.outboxes import OutboxBench, fake_order


@pytest.fixture
def bench() -> Iterator[OutboxBench]:
    made = OutboxBench()
    made.freeze()
    yield made
    made.close()


# ---------------------------------------------------------------- the broker


def test_what_was_surely_sent_is_not_sent_again(bench: OutboxBench) -> None:
    refs = bench.submit(*[fake_order(n) for n in range(1, 6)])
    bench.transport.fail_at = 2
    bench.run()
    assert bench.transport.refs == refs[:2]
    assert bench.status == (5, 3, "down")
    bench.pass_time(1)
    bench.run()
    assert bench.transport.refs == refs
    assert bench.status == (5, 0, "up")


def test_a_broker_that_is_down_is_tried_after_growing_pauses(bench: OutboxBench) -> None:
    bench.transport.down = True
    bench.submit(fake_order(1))
    pauses = []
    for _ in range(12):
        bench.run()
        pauses.append(bench.outbox._belief.retry_at - bench.now())
        tries = bench.transport.tries
        bench.outbox.wake()
        bench.run()
        assert bench.transport.tries == tries, "not before its time"
        bench.pass_time(pauses[-1] + 0.001)
    assert 0.25 <= pauses[0] <= 0.5
    assert all(15 <= pause <= 30 for pause in pauses[-3:])
    assert pauses[4] > 4 * pauses[0] / 2


def test_a_broker_that_is_down_is_tried_with_one_message(bench: OutboxBench) -> None:
    bench.transport.down = True
    bench.submit(*[fake_order(n) for n in range(1, 6)])
    bench.run()
    bench.transport.down = False
    bench.pass_time(1)
    bench.run()
    assert bench.transport.batches == [1, 4]


def test_an_outage_is_reported_once_when_it_begins_and_once_when_it_ends(
    bench: OutboxBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.transport.down = True
    bench.submit(fake_order(1))
    with caplog.at_level(logging.INFO, "continuum"):
        for _ in range(5):
            bench.run()
            bench.pass_time(60)
        bench.transport.down = False
        bench.run()
        bench.submit(fake_order(2))
        bench.run()
    assert [record.getMessage().split(" (")[0].split(" after")[0] for record in caplog.records] == [
        "executor 'fake': its broker cannot be reached",
        "executor 'fake': its broker answers again",
    ]


def test_while_the_broker_is_down_new_orders_stay_free_and_nothing_is_marked(bench: OutboxBench) -> None:
    bench.transport.down = True
    bench.submit(fake_order(1))
    bench.run()
    assert not bench.outbox.reserve(fake_order(2))
    refs = bench.free(fake_order(2))
    bench.outbox.wake()
    bench.run()
    assert bench.states(refs) == ["available"]
    bench.transport.down = False
    bench.pass_time(1)
    bench.run()
    assert bench.states(refs) == ["dispatched"]
    assert bench.transport.commands == [1, 2]
    assert bench.outbox.reserve(fake_order(3))


def test_a_broker_is_tried_with_one_free_task_if_nothing_is_marked(bench: OutboxBench) -> None:
    bench.transport.down = True
    [ref] = bench.submit(fake_order(1))
    bench.run()
    bench.outbox.cancel(ref.run_id, 1)
    refs = bench.free(*[fake_order(n) for n in (2, 3, 4)])
    bench.pass_time(1)
    bench.run()
    assert sorted(bench.states(refs)) == ["available", "available", "dispatched"]
    bench.transport.down = False
    bench.pass_time(2)
    bench.run()
    assert bench.states(refs) == ["dispatched"] * 3
    assert bench.status == (3, 0, "up")


def test_what_was_freed_during_an_outage_is_not_published_twice_after_it(bench: OutboxBench) -> None:
    bench.transport.down = True
    refs = bench.submit(fake_order(1), fake_order(2))
    bench.run()
    # Its deadline passes: the reaper offers it again, and another dispatcher publishes it.
    bench.tasks.defer(refs[:1], delay=timedelta(0))
    other = bench.desk.make_worker()
    bench.tasks.dispatch(other, executor="fake", rooms={}, room=5, limit=5, deadline=timedelta(seconds=60))
    bench.transport.down = False
    bench.pass_time(5)
    bench.run()
    assert bench.transport.refs == refs[1:]


def test_one_task_that_cannot_be_published_does_not_hold_up_the_others(bench: OutboxBench) -> None:
    bench.transport.poison = {"bad"}
    bench.transport.fail_at = None
    refs = bench.submit(fake_order(1), fake_order(2, activity="bad"), fake_order(3))
    for _ in range(6):
        bench.run()
        bench.pass_time(31)
    assert set(bench.transport.refs) == {refs[0], refs[2]}
    row = bench.row(refs[1])
    assert row.state == "available"
    assert row.available_at > bench.desk.now_us() + 20_000_000


def test_the_one_that_cannot_be_published_is_found_with_a_single_search(bench: OutboxBench) -> None:
    bench.transport.poison = {"bad"}
    refs = bench.submit(*[fake_order(n) for n in range(1, 9)], fake_order(9, activity="bad"), fake_order(10))
    for _ in range(4):
        bench.run()
        bench.pass_time(31)
    assert set(bench.transport.refs) == {*refs[:8], refs[9]}
    assert bench.row(refs[8]).state == "available"


def test_a_lost_message_is_published_again_before_its_deadline(bench: OutboxBench) -> None:
    bench.transport.lose = True
    [ref] = bench.submit(fake_order(1))
    bench.run()
    bench.pass_time(9)
    bench.run()
    assert not bench.transport.asked, "a little patience"
    bench.pass_time(4)
    bench.run()
    assert bench.transport.refs == [ref, ref]
    assert [task.dispatch_no for task in bench.transport.published] == [1, 2]
    bench.pass_time(13)
    bench.run()
    assert len(bench.transport.refs) == 2, "patience doubles with each dispatch"
    bench.pass_time(10)
    bench.run()
    assert [task.dispatch_no for task in bench.transport.published] == [1, 2, 3]


@pytest.mark.parametrize("depth", [1, 5000, None])
def test_a_message_in_a_long_queue_is_waited_for(bench: OutboxBench, depth: int | None) -> None:
    bench.transport.depths = {"q": depth}
    [ref] = bench.submit(fake_order(1))
    bench.run()
    for _ in range(5):
        bench.pass_time(4)
        bench.run()
    assert bench.transport.refs == [ref]
    assert 1 <= bench.transport.asked["q"] <= 3


# ---------------------------------------------------------------- the journal


def test_what_was_marked_without_an_answer_is_offered_again_and_published(bench: OutboxBench) -> None:
    [ref] = bench.free(fake_order(1))
    bench.mute = {"dispatch"}
    with pytest.raises(Exception, match="answer was lost"):
        bench.run()
    bench.mute = set()
    assert bench.states([ref]) == ["dispatched"]
    for _ in range(4):
        bench.pass_time(3.1)
        bench.run()
    assert bench.transport.refs == [ref]


def test_what_a_commit_marked_unheard_after_a_look_is_offered_again(bench: OutboxBench) -> None:
    placed = fake_order(1)
    assert bench.outbox.reserve(placed)
    bench.run()
    bench.pass_time(4)
    bench.run()
    assert bench.calls["undelivered"] == 1, "a look while the commit is under way"
    run = bench.desk.parked(bench.lease.worker, orders=[placed], dispatched=frozenset({1}))
    bench.outbox.unreserve(placed)
    for _ in range(5):
        bench.run()
        bench.pass_time(4)
    assert bench.transport.refs == [TaskRef(run.run_id, 1, 1)]


def test_a_journal_that_is_away_does_not_keep_marked_tasks_from_being_published(bench: OutboxBench) -> None:
    bench.run()
    refs = bench.submit(fake_order(1))
    bench.away = {"dispatch", "undelivered", "defer"}
    bench.outbox.wake()
    with pytest.raises(Exception, match="away"):
        bench.run()
    assert bench.transport.refs == refs
    bench.away = set()
    [free] = bench.free(fake_order(2))
    bench.run()
    assert bench.states([free]) == ["dispatched"], "what was asked for is not forgotten"


# ---------------------------------------------------------------- the lease


def test_nothing_is_published_or_reserved_under_a_lost_lease(bench: OutboxBench) -> None:
    refs = bench.submit(fake_order(1))
    bench.lease.lose()
    bench.run()
    assert bench.transport.refs == []
    assert not bench.outbox.reserve(fake_order(2))
    assert bench.status == (0, 0, "up")
    bench.desk.bury(bench.lease.worker)
    bench.lease.dropped()
    bench.register()
    bench.outbox.wake()
    bench.run()
    assert bench.transport.refs == refs, "swept, and marked under the new id"
    assert bench.transport.published[0].dispatch_no == 2


def test_work_of_an_old_id_is_dropped_though_the_change_was_never_seen(bench: OutboxBench) -> None:
    bench.submit(fake_order(1))
    bench.lease.lose()
    bench.lease.dropped()
    bench.register()
    refs = bench.submit(fake_order(2))
    bench.run()
    assert bench.transport.refs == refs
    assert bench.status == (1, 0, "up")


# ---------------------------------------------------------------- a drain


def held_by(bench: OutboxBench, refs: list[TaskRef]) -> list[bool]:
    return [bench.row(ref).claimed_by == bench.lease.worker for ref in refs]


@pytest.mark.parametrize("started", [True, False])
def test_a_drain_publishes_what_is_marked_and_marks_nothing(bench: OutboxBench, started: bool) -> None:
    if started:
        bench.outbox.start()
        eventually(lambda: bench.calls["dispatch"] > 0)
    bench.outbox.close()
    free = bench.free(fake_order(9))
    assert not bench.outbox.reserve(fake_order(1))
    assert bench.outbox.leave(5)
    assert bench.states(free) == ["available"]
    assert bench.transport.closed == 1


def test_a_drain_leaves_what_was_published_and_frees_what_was_not(bench: OutboxBench) -> None:
    refs = bench.submit(*[fake_order(n) for n in (1, 2, 3)])
    bench.transport.fail_at = 1
    bench.transport.on_publish = lambda: setattr(bench.transport, "down", bench.transport.tries > 1)
    bench.outbox.start()
    eventually(lambda: bench.transport.refs == refs[:1])
    assert bench.outbox.leave(5)
    assert bench.states(refs) == ["dispatched", "available", "available"]
    assert held_by(bench, refs[:1]) == [True]


def test_a_drain_does_not_wait_for_a_broker_that_is_down(bench: OutboxBench) -> None:
    bench.transport.down = True
    bench.outbox.start()
    refs = bench.submit(fake_order(1))
    left = threading.Event()
    threading.Thread(target=lambda: (bench.outbox.leave(600), left.set())).start()
    assert left.wait(10)
    assert bench.states(refs) == ["available"]


def test_a_drain_frees_what_hangs_in_a_broker(bench: OutboxBench) -> None:
    bench.transport.hang.clear()
    bench.outbox.start()
    refs = bench.submit(fake_order(1))
    assert bench.transport.hanging.wait(10)
    assert bench.outbox.leave(0.05)
    assert bench.states(refs) == ["available"]
    bench.transport.hang.set()


def test_a_drain_frees_what_was_marked_without_an_answer(bench: OutboxBench) -> None:
    [ref] = bench.free(fake_order(1))
    bench.mute = {"dispatch"}
    with pytest.raises(Exception, match="answer was lost"):
        bench.run()
    assert bench.states([ref]) == ["dispatched"]
    assert bench.outbox.leave(1)
    assert bench.states([ref]) == ["available"]


@pytest.mark.parametrize("away", ["undelivered", "defer"])
def test_nothing_may_be_handed_over_if_the_unpublished_could_not_be_freed(bench: OutboxBench, away: str) -> None:
    refs = bench.submit(fake_order(1))
    bench.away = {away}
    assert not bench.outbox.leave(1)
    assert bench.states(refs) == ["dispatched"]
    assert held_by(bench, refs) == [True], "the sweep of this worker will free it"
