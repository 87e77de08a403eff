"""How much may wait in a pool, and what waits for too long."""

import asyncio
import threading
from collections.abc import Callable

from continuum.declare.activities import activity
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench, order_of

Make = Callable[..., PoolBench]


@activity(name="places.short")
def short() -> int:
    return 1


@activity(name="places.short_async")
async def short_async() -> int:
    return 1


def test_async_places_are_kept_although_threads_are_busy_and_more_waits_for_them(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    bench.submit(block, (), ())
    gate.expect(1)
    assert not bench.pool.reserve(order_of(1, short))
    assert bench.pool.reserve(order_of(1, short_async))
    bench.submit(short_async)
    assert bench.outcome().payload == "1"
    gate.open()


def test_places_of_threads_are_kept_although_the_loop_is_full(make_bench: Make) -> None:
    bench = make_bench(concurrency=2, async_concurrency=1)
    release = threading.Event()

    @activity
    async def wait() -> None:
        while not release.is_set():
            await asyncio.sleep(0.002)

    bench.submit(wait, (), ())
    eventually(lambda: bench.pool.running == 1)
    assert not bench.pool.reserve(order_of(1, short_async))
    assert bench.pool.reserve(order_of(1, short))
    release.set()


def test_no_place_is_kept_behind_work_that_has_been_running_for_long(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    gate = Gate()

    @activity
    def block(n: int) -> None:
        gate(n)

    bench.submit(short, *[()] * 50)
    bench.outcomes(50)
    bench.submit(block, 1, 2)
    gate.expect(2)
    wanted = order_of(1, short)
    bench.pool._threads.average = 1e-6  # what ended lately was short

    def refused() -> bool:
        if bench.pool.reserve(wanted):
            bench.pool.unreserve(wanted)
            return False
        return True

    eventually(refused)
    assert bench.pool.room() == {None: 0}
    assert bench.pool.reserve(order_of(1, short_async))
    gate.open()
    eventually(lambda: bench.pool.reserve(wanted))


def test_threads_that_are_not_busy_with_long_work_keep_places_for_what_they_get_through(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    bench.submit(short, *[()] * 50)
    bench.outcomes(50)
    bench.submit(block)
    gate.expect(1)

    def is_long() -> bool:
        bench.pool._threads.average = 0.001
        return bench.pool.room() == {None: 250}

    eventually(is_long)
    gate.open()


def test_a_limited_queue_keeps_no_place_behind_its_own_long_work_and_others_do(make_bench: Make) -> None:
    bench = make_bench(concurrency=4, queues={"slow": 1, "fast": 2})
    gate = Gate()

    @activity(queue="slow")
    def block() -> None:
        gate()

    slow, slow_async = (order_of(1, body.options(queue="slow")) for body in (short, short_async))
    tasks = bench.submit(block, (), ())
    gate.expect(1)

    def refused() -> bool:
        taken = [wanted for wanted in (slow, slow_async) if bench.pool.reserve(wanted)]
        for wanted in taken:
            bench.pool.unreserve(wanted)
        return not taken

    eventually(refused)
    assert bench.pool.reserve(order_of(1, short.options(queue="fast")))
    eventually(lambda: bench.tasks.held(bench.worker) == tasks[:1])  # the other one was put back
    gate.open()


def test_urgent_work_is_put_back_too_if_it_would_wait_for_long(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    first = bench.submit(block)
    gate.expect(1)
    bench.submit(block.options(priority=9))
    eventually(lambda: bench.tasks.held(bench.worker) == first)
    gate.open()
