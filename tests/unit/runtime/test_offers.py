"""Claiming what is offered, and comparing claims."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from continuum.declare.activities import activity
from continuum.model.policies import Retry
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench, order_of

Make = Callable[..., PoolBench]


@activity(name="tests.offers.answer")
def answer(n: int) -> int:
    return n


def test_free_tasks_are_claimed_and_run(bench: PoolBench) -> None:
    bench.run_with(order_of(1, answer, 5), claimed=False)
    bench.offers.run_once()
    assert bench.outcome().payload == "5"


def test_a_task_is_claimed_from_whatever_queue_a_call_named(bench: PoolBench) -> None:
    bench.run_with(order_of(1, answer.options(queue="only at this call"), 5), claimed=False)
    bench.offers.run_once()
    assert bench.outcome().payload == "5"


def test_a_pool_claims_what_it_can_begin_and_no_more_until_it_has_room(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity
    def block(n: int) -> int:
        gate(n)
        return n

    bench.run_with(*[order_of(n, block, n) for n in (1, 2, 3)], claimed=False)
    bench.offers.claim()
    gate.expect(1)
    assert len(bench.tasks.held(bench.worker)) == 1
    calls = bench.calls["claim"]
    assert not bench.offers.claim()
    assert bench.calls["claim"] == calls, "no room, no question"
    assert len(bench.tasks.held(bench.worker)) == 1
    gate.open()
    bench.outcome()
    eventually(lambda: bench.offers._claim_at == 0.0)  # the pool has asked for more
    bench.offers.run_once()
    bench.outcome()


def test_the_most_urgent_task_is_claimed_first(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity
    def block(n: int) -> int:
        gate(n)
        return n

    bench.run_with(
        order_of(1, block.options(priority=-10), 1), order_of(2, block.options(priority=50), 2), claimed=False
    )
    bench.offers.claim()
    gate.expect(1)
    assert list(gate.entered) == [2]
    gate.open()


def test_limited_queues_are_claimed_within_their_limits(make_bench: Make) -> None:
    bench = make_bench(concurrency=3, queues={"slow": 1, "fast": 2})
    gates = {n: Gate() for n in range(1, 6)}

    @activity
    def block(n: int) -> int:
        gates[n]()
        return n

    slow, fast = block.options(queue="slow"), block.options(queue="fast")
    bench.run_with(
        *[order_of(n, slow, n) for n in (1, 2)],
        *[order_of(n, fast, n) for n in (3, 4)],
        order_of(5, block.options(queue="not served"), 5),
        claimed=False,
    )
    bench.offers.claim()
    for n in (1, 3, 4):
        gates[n].expect(1)
    gates[3].open()
    bench.outcome()
    eventually(lambda: bench.pool.running == 2)
    bench.offers.claim()
    assert bench.pool.running + bench.pool.queued == 2, "there is room, but not for the slow queue"
    gates[1].open()
    bench.outcome()
    eventually(lambda: bench.pool.running == 1)
    bench.offers.claim()
    gates[2].expect(1)
    assert not gates[5].entered
    for gate in gates.values():
        gate.open()


def test_a_due_retry_is_claimed_without_a_hint(bench: PoolBench) -> None:
    failures = [1, 1]

    @activity(retry=Retry(max_attempts=3, base=timedelta(milliseconds=20), jitter=timedelta(0)))
    def flaky() -> str:
        if failures:
            failures.pop()
            raise ValueError
        return "third"

    bench.offers._poll = 3600.0
    bench.offers.start()
    bench.submit(flaky)
    assert bench.outcome().payload == '"third"'
    bench.offers.stop()


def test_the_service_sleeps_until_the_next_poll_reconcile_or_retry(bench: PoolBench) -> None:
    assert 0 < bench.offers.run_once() <= 2.0
    bench.offers.wake_in(0.5)
    assert 0 < bench.offers.run_once() <= 0.5
    calls = bench.calls["claim"]
    bench.offers.run_once()
    assert bench.calls["claim"] == calls
    bench.offers.wake()
    bench.offers.run_once()
    assert bench.calls["claim"] == calls + 1


def test_more_tasks_than_one_claim_takes_are_claimed_round_by_round(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    bench.submit(answer, *range(50))
    bench.outcomes(50)
    bench.pool._threads.average = 1e-6
    bench.run_with(*[order_of(n, answer, n) for n in range(1, 701)], claimed=False)
    bench.offers.start()
    assert len(bench.outcomes(700)) == 700
    bench.offers.stop()


def test_async_bodies_that_wait_take_no_room_from_others(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    bench.offers._poll = 3600.0
    release = threading.Event()
    inside: list[int] = []

    @activity
    async def wait(n: int) -> int:
        inside.append(n)
        while not release.is_set():
            await asyncio.sleep(0.002)
        return n

    bench.run_with(*[order_of(n, wait, n) for n in range(1, 31)], claimed=False)
    bench.offers.start()
    eventually(lambda: len(inside) == 30)
    release.set()
    assert len(bench.outcomes(30)) == 30
    bench.offers.stop()


def test_one_limited_queue_full_of_work_is_claimed_as_fast_as_it_runs(make_bench: Make) -> None:
    bench = make_bench(concurrency=4, queues={"slow": 1, "fast": 3})
    bench.offers._poll = 3600.0
    bench.run_with(*[order_of(n, answer.options(queue="slow"), n) for n in range(1, 31)], claimed=False)
    bench.offers.start()
    assert len(bench.outcomes(30)) == 30
    bench.offers.stop()


# ------------------------------------------------------------------ reconciling


def reconcile(bench: PoolBench) -> None:
    bench.offers.reconcile(time.monotonic())


def test_a_claim_nobody_holds_is_started_at_the_same_attempt_when_it_is_found_twice(bench: PoolBench) -> None:
    [task] = bench.claimed(answer, 5)
    reconcile(bench)
    assert not bench.pool.holding(), "once may be a commit whose answer is being read"
    reconcile(bench)
    outcome = bench.outcome()
    assert (outcome.run_id, outcome.attempt, outcome.payload) == (task.run_id, 1, "5")


def test_a_claim_must_be_missing_for_a_while(make_bench: Make) -> None:
    bench = make_bench(patience=3600.0)
    bench.claimed(answer, 5)
    for _ in range(3):
        reconcile(bench)
    assert not bench.pool.holding()


def test_a_task_submitted_between_two_looks_is_not_started_twice(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    tasks = bench.claimed(block)
    reconcile(bench)
    bench.pool.submit(tasks)
    reconcile(bench)
    reconcile(bench)
    gate.open()
    bench.settle(bench.outcome())
    assert len(gate.entered) == 1


def test_a_delivered_outcome_that_is_not_committed_yet_is_not_started_again(bench: PoolBench) -> None:
    bench.submit(answer, 5)
    outcome = bench.outcome()
    for _ in range(3):
        reconcile(bench)
    assert not bench.delivered
    bench.settle(outcome)


def test_a_running_task_whose_claim_is_gone_is_let_go(bench: PoolBench) -> None:
    from continuum.declare.attempts import current_attempt

    told: list[bool] = []

    @activity
    def careful() -> None:
        attempt = current_attempt()
        eventually(lambda: attempt.cancelled)
        told.append(True)

    [task] = bench.submit(careful)
    eventually(lambda: bench.pool.running == 1)
    bench.tasks.put_back(bench.worker, [task])
    reconcile(bench)
    assert bench.pool.holding()
    reconcile(bench)
    assert not bench.pool.holding()
    eventually(lambda: told == [True])
    assert not bench.delivered


def test_what_a_former_worker_id_held_is_let_go(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    bench.submit(block)
    gate.expect(1)
    bench.worker = bench.desk.make_worker()
    for _ in range(2):
        reconcile(bench)
    assert not bench.pool.holding()
    gate.open()
    eventually(lambda: bench.pool.running == 0)
    assert not bench.delivered


def test_claims_are_compared_now_and_then_and_on_demand(bench: PoolBench) -> None:
    bench.offers.run_once()
    assert bench.calls["held"] == 0
    bench.offers.reconcile_soon()
    bench.offers.run_once()
    assert bench.calls["held"] == 1
