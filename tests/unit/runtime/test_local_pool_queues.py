"""Who goes first, and how many of a queue at once."""

import asyncio
from collections.abc import Callable

from continuum.declare.activities import activity
from continuum.model.ids import RunId, WorkerId
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import ClaimedTask
from continuum.runtime.backlog import Backlog, LimitedBacklog, QueueLimits
from continuum.runtime.job import Job
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench, order_of

Make = Callable[..., PoolBench]


def job(number: int, *, priority: int = 0, queue: str = "default") -> Job:
    policy = ActivityPolicy(priority=priority, queue=queue)
    return Job(ClaimedTask(RunId("r"), number, 1, "a", "[]", policy), WorkerId("w"), None)


def numbers(backlog: Backlog | LimitedBacklog) -> list[int]:
    found = []
    while True:
        try:
            found.append(backlog.pop().task.command)
        except IndexError:
            return found


# ------------------------------------------------------------------ the order alone


def test_higher_priority_first_then_first_come() -> None:
    backlog = Backlog()
    backlog.push([job(1), job(2, priority=-10), job(3, priority=50), job(4), job(5, priority=50), job(6, priority=1)])
    assert backlog.startable() == backlog.depth() == 6
    assert numbers(backlog) == [3, 5, 6, 1, 4, 2]


def test_what_would_be_last_is_trimmed_first() -> None:
    backlog = Backlog()
    backlog.push([job(1), job(2, priority=-10), job(3, priority=50), job(4)])
    assert {item.task.command for item in backlog.trim(2)} == {2, 4}
    assert backlog.trim(2) == []
    assert {item.task.command for item in backlog.trim(0)} == {1, 3}


def test_a_limited_queue_gives_no_more_than_its_limit_and_starves_no_other() -> None:
    backlog = LimitedBacklog(QueueLimits({"slow": 1, "fast": 2}))
    slow = [job(n, queue="slow", priority=9) for n in (1, 2)]
    fast = [job(n, queue="fast") for n in (3, 4, 5)]
    backlog.push([*slow, *fast])
    assert backlog.startable() == 3
    assert numbers(backlog) == [1, 3, 4]
    assert backlog.startable() == 0
    assert backlog.done(fast[0])
    assert numbers(backlog) == [5]
    assert backlog.done(slow[0])
    assert numbers(backlog) == [2]
    assert (backlog.depth(), backlog.depth("slow")) == (0, 0)


def test_queues_share_their_limit_between_threads_and_loop() -> None:
    limits = QueueLimits({"slow": 1})
    for_threads, for_loop = LimitedBacklog(limits), LimitedBacklog(limits)
    for_threads.push([job(1, queue="slow")])
    for_loop.push([job(2, queue="slow")])
    first = for_threads.pop()
    assert numbers(for_loop) == []
    for_threads.done(first)
    assert numbers(for_loop) == [2]


def test_a_task_of_a_queue_that_is_not_configured_runs_alone() -> None:
    backlog = LimitedBacklog(QueueLimits({"fast": 2}))
    backlog.push([job(1, queue="odd"), job(2, queue="odd")])
    assert numbers(backlog) == [1]


# ------------------------------------------------------------------ in the pool


def test_of_the_waiting_tasks_the_most_urgent_begins(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity
    def step(n: int) -> int:
        gate(n)
        return n

    orders = []
    for number, priority in enumerate((0, -10, 50, 0), 1):
        varied = step.options(priority=priority)
        orders.append(order_of(number, varied, number))
    bench.submit(step, 99)
    gate.expect(1)
    run = bench.run_with(*orders)
    bench.pool.submit([task for task in bench.tasks.held(bench.worker) if task.run_id == run.run_id])
    gate.open()
    bench.outcomes(5)
    assert list(gate.entered) == [99, 3, 1, 4, 2]


def test_a_limited_queue_runs_one_at_a_time_while_others_go_on(make_bench: Make) -> None:
    bench = make_bench(concurrency=4, queues={"slow": 1, "fast": 3})
    slow_gates = {n: Gate() for n in (1, 2)}
    fast_gate = Gate()

    @activity(queue="slow")
    def slow(n: int) -> int:
        slow_gates[n]()
        return n

    @activity(queue="fast")
    def fast(n: int) -> int:
        fast_gate(n)
        return n

    bench.submit(slow, 1, 2)
    bench.submit(fast, 3, 4, 5)
    fast_gate.expect(3)
    slow_gates[1].expect(1)
    assert not slow_gates[2].entered
    assert (bench.pool.running, bench.pool.queued) == (4, 1)
    slow_gates[1].open()
    slow_gates[2].expect(1)
    slow_gates[2].open()
    fast_gate.open()
    assert len(bench.outcomes(5)) == 5


def test_a_limited_queue_counts_threads_and_async_bodies_together(make_bench: Make) -> None:
    bench = make_bench(queues={"slow": 1})
    gate = Gate()
    began: list[int] = []

    @activity(queue="slow")
    def in_thread(n: int) -> int:
        gate(n)
        return n

    @activity(queue="slow")
    async def on_loop(n: int) -> int:
        began.append(n)
        await asyncio.sleep(0)
        return n

    bench.submit(in_thread, 1)
    gate.expect(1)
    bench.submit(on_loop, 2)
    bench.submit(in_thread, 3)
    assert bench.pool.queued == 2
    assert not began
    gate.open()
    assert {outcome.payload for outcome in bench.outcomes(3)} == {"1", "2", "3"}
    eventually(lambda: bench.pool.running == 0)
    assert bench.pool._limits is not None
    assert bench.pool._limits.running == {"slow": 0}


def test_places_of_a_limited_queue_are_kept_by_its_own_limit(make_bench: Make) -> None:
    bench = make_bench(concurrency=8, queues={"slow": 1, "fast": 3})

    @activity
    def body() -> None: ...

    slow, fast = (order_of(1, body.options(queue=queue)) for queue in ("slow", "fast"))
    assert [bench.pool.reserve(slow) for _ in range(2)] == [True, False]
    assert [bench.pool.reserve(fast) for _ in range(4)] == [True, True, True, False]
    bench.pool.unreserve(slow)
    assert bench.pool.reserve(slow)


def test_a_given_up_thread_gives_its_place_in_the_queue_back(make_bench: Make) -> None:
    from datetime import timedelta

    bench = make_bench(concurrency=2, queues={"slow": 1})
    gate = Gate()

    @activity(queue="slow", retry=1, timeout=timedelta(milliseconds=30))
    def stuck(n: int) -> int:
        gate(n)
        return n

    @activity(queue="slow")
    def fine() -> str:
        return "fine"

    bench.submit(stuck, 1)
    gate.expect(1)
    bench.submit(fine)
    assert {outcome.payload for outcome in bench.outcomes(2)} == {None, '"fine"'}
    gate.open()
    eventually(lambda: bench.pool.strays == 0)
    assert bench.pool._limits is not None
    assert bench.pool._limits.running == {"slow": 0}


def test_work_that_turns_out_slow_is_put_back_for_others(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    gate = Gate()

    @activity
    def block(n: int) -> int:
        gate(n)
        return n

    tasks = bench.submit(block, *range(12))
    gate.expect(2)
    eventually(lambda: bench.pool.queued == 0, timeout=5)
    eventually(lambda: len(bench.tasks.held(bench.worker)) == 2)
    assert {(row.attempt, row.claimed_by) for row in map(bench.row, tasks[2:]) if row} == {(1, None)}
    gate.open()
    assert sorted(int(outcome.payload or "") for outcome in bench.outcomes(2)) == [0, 1]
