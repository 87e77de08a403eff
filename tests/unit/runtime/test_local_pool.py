"""From a claimed task to a delivered outcome, when all goes well."""

import contextvars
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import TaskOrder
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench, order_of

Make = Callable[..., PoolBench]


def test_a_def_runs_on_a_thread_and_its_result_is_delivered(bench: PoolBench) -> None:
    @activity
    def add(a: Decimal, b: int) -> tuple[Decimal, bool]:
        return a + b, threading.current_thread().name.startswith("continuum-activities")

    [task] = bench.submit(add, (Decimal("1.5"), 2))
    outcome = bench.outcome()
    assert (outcome.run_id, outcome.command, outcome.attempt) == (task.run_id, task.command, 1)
    assert (outcome.activity, outcome.payload, outcome.failure) == (add.name, '["3.5",true]', None)


def test_an_async_def_runs_on_the_loop_and_its_result_is_delivered(bench: PoolBench) -> None:
    @activity
    async def where(n: int) -> str:
        return f"{n} {threading.current_thread().name}"

    bench.submit(where, 7)
    assert bench.outcome().payload == '"7 continuum-async-activities"'


@pytest.mark.parametrize("value", [{"error": "no"}, ValueError, None, False])
def test_whatever_a_body_returns_is_a_success(bench: PoolBench, value: Any) -> None:
    @activity
    def answer() -> Any:
        return None if value is ValueError else value

    bench.submit(answer)
    outcome = bench.outcome()
    assert outcome.failure is None
    assert outcome.payload is not None


def test_the_body_sees_its_attempt(bench: PoolBench) -> None:
    @activity
    def who() -> list[Any]:
        attempt = current_attempt()
        return [attempt.number, attempt.run_id, attempt.command, attempt.activity, attempt.idempotency_key]

    @activity
    async def who_async() -> list[Any]:
        attempt = current_attempt()
        return [attempt.number, attempt.run_id, attempt.command, attempt.activity, attempt.idempotency_key]

    for body in (who, who_async):
        [task] = bench.submit(body)
        payload = bench.outcome().payload
        assert payload == f'[1,"{task.run_id}",1,"{body.name}",null]'


def test_attempts_on_one_thread_share_no_context(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @activity
    def remember(name: str) -> str:
        before = user.get()
        user.set(name)
        return before

    bench.submit(remember, "ann", "bob")
    assert {outcome.payload for outcome in bench.outcomes(2)} == {'"nobody"'}


def test_one_submit_of_many_short_bodies_comes_back_whole(bench: PoolBench) -> None:
    @activity
    def square(n: int) -> int:
        return n * n

    bench.submit(square, *range(500))
    assert sorted(int(outcome.payload or "") for outcome in bench.outcomes(500)) == [n * n for n in range(500)]


def test_results_are_delivered_one_by_one_and_not_held_back(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity
    def step(n: int) -> int:
        if n == 1:
            gate()
        return n

    bench.submit(step, 0, 1)
    gate.expect(1)
    assert bench.outcome().payload == "0"
    gate.open()
    assert bench.outcome().payload == "1"


def test_blocking_bodies_run_beside_each_other_though_one_wake_up_was_sent(make_bench: Make) -> None:
    bench = make_bench(concurrency=4)
    bench.pool._threads.average = 1e-6  # as after thousands of short ones
    gate = Gate()

    @activity
    def block(n: int) -> int:
        gate(n)
        return n

    bench.submit(block, 1, 2, 3, 4, 5, 6)
    gate.expect(4)
    assert bench.pool.running == 4
    assert bench.pool.queued == 2
    gate.open()
    assert len(bench.outcomes(6)) == 6


def test_a_task_behind_a_long_one_begins_though_its_submit_found_no_idle_thread(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    gate = Gate()

    @activity
    def block(n: int) -> int:
        gate(n)
        return n

    bench.submit(block, 1)
    gate.expect(1)
    bench.pool._threads.average = 1e-6
    bench.submit(block, 2)
    gate.expect(2)
    gate.open()


def test_threads_start_when_there_is_work_and_no_more_than_allowed(make_bench: Make) -> None:
    bench = make_bench(concurrency=3)
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    def threads() -> int:
        return sum(thread.name.startswith("continuum-activities") for thread in threading.enumerate())

    before = threads()
    assert len(bench.pool._threads._threads) == 0
    bench.submit(block, *[()] * 8)
    gate.expect(3)
    assert bench.pool.running == 3
    assert threads() - before == 3
    gate.open()
    bench.outcomes(8)


def test_async_bodies_wait_side_by_side_up_to_their_own_limit(make_bench: Make) -> None:
    import asyncio

    bench = make_bench(concurrency=1, async_concurrency=5)
    inside: list[int] = []
    release = threading.Event()

    @activity
    async def wait(n: int) -> int:
        inside.append(n)
        while not release.is_set():
            await asyncio.sleep(0.002)
        return n

    bench.submit(wait, *range(8))
    eventually(lambda: len(inside) == 5)
    assert bench.pool.running == 5
    assert bench.pool.queued == 3
    release.set()
    assert len(bench.outcomes(8)) == 8


# ------------------------------------------------------------------ what is held


def test_a_task_is_held_from_its_submission_until_its_outcome_is_settled(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    [task] = bench.submit(block)
    key = (task.run_id, task.command, task.attempt)
    gate.expect(1)
    assert bench.pool.holding() == {key}
    gate.open()
    outcome = bench.outcome()
    assert bench.pool.holding() == {key}
    bench.settle(outcome)
    assert bench.pool.holding() == set()


def test_what_is_held_is_not_begun_again(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    tasks = bench.submit(block)
    gate.expect(1)
    bench.pool.adopt(tasks)
    bench.pool.submit(tasks)
    gate.open()
    bench.outcome()
    bench.pool.adopt(tasks)  # delivered, not settled yet
    assert bench.pool.queued == bench.pool.running == 0
    assert len(gate.entered) == 1


def test_an_outcome_whose_run_is_not_ours_any_more_is_posted(bench: PoolBench) -> None:
    @activity
    def answer() -> int:
        return 42

    [task] = bench.submit(answer)
    bench.pool.hand_in(bench.outcome())
    bench.nothing_held()
    assert bench.letters(task.run_id) == [("activity_completed", "42")]
    assert bench.row(task) is None
    assert bench.mailed == 1


def test_an_outcome_is_handed_in_however_long_the_journal_is_away(bench: PoolBench) -> None:
    @activity
    def answer() -> int:
        return 42

    [task] = bench.submit(answer)
    outcome = bench.outcome()
    bench.settle(outcome)  # and handing in works without the pool knowing it
    with bench.journal_away():
        bench.pool.hand_in(outcome)
        eventually(lambda: bench.calls["finish"] >= 2)
        assert len(bench.pool.holding()) == 1
    bench.nothing_held()
    assert bench.letters(task.run_id) == [("activity_completed", "42")]


def test_a_stale_outcome_is_handed_in_and_nothing_is_written(bench: PoolBench) -> None:
    @activity
    def answer() -> int:
        return 42

    [task] = bench.submit(answer)
    outcome = bench.outcome()
    bench.tasks.put_back(bench.worker, [task])
    bench.pool.hand_in(outcome)
    bench.nothing_held()
    assert bench.letters(task.run_id) == []
    assert bench.mailed == 0
    assert bench.row(task) is not None


# ------------------------------------------------------------------ reserving


def order(**options: Any) -> TaskOrder:
    policy = ActivityPolicy(**options)
    return TaskOrder(1, "places.body", "[]", policy, policy.encode())


def test_a_pool_keeps_places_only_as_far_as_it_can_use_them_soon(make_bench: Make) -> None:
    bench = make_bench(concurrency=3)
    wanted = order()
    assert [bench.pool.reserve(wanted) for _ in range(4)] == [True, True, True, False]
    bench.pool.unreserve(wanted)
    assert bench.pool.reserve(wanted)


def test_a_pool_that_has_been_fast_keeps_more_places_and_a_slow_one_fewer(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)

    @activity
    def short() -> None: ...

    bench.submit(short, *[()] * 50)
    bench.outcomes(50)
    bench.pool._threads.average = 0.001
    wanted = order()
    assert sum(bench.pool.reserve(wanted) for _ in range(1000)) == 500  # a quarter of a second's work
    bench.pool._threads.average = 1e-9
    assert sum(bench.pool.reserve(wanted) for _ in range(5000)) == 4096 - 500
    bench.pool._threads.average = 60.0
    assert not bench.pool.reserve(wanted)


def test_a_submit_uses_up_the_places_kept_for_it(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    wanted = order_of(1, block)
    assert all(bench.pool.reserve(wanted) for _ in range(2))
    bench.submit(block, (), ())
    gate.expect(2)
    assert all(bench.pool.reserve(wanted) for _ in range(2))
    assert not bench.pool.reserve(wanted)
    gate.open()


def test_places_are_kept_only_for_served_queues(make_bench: Make) -> None:
    bench = make_bench(queues={"fast": 2})
    assert bench.pool.reserve(order(queue="fast"))
    assert not bench.pool.reserve(order(queue="slow"))
