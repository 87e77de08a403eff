"""The end of a pool."""

import asyncio
import threading
import time
from collections.abc import Callable

from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.journal.requests import HintKind
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench, order_of

Make = Callable[..., PoolBench]


def test_what_has_not_begun_is_put_back_at_the_same_attempt_and_offered(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    ears = bench.journal.open_ears([HintKind.TASKS])
    gate = Gate()

    @activity
    def step(n: int) -> int:
        gate(n)
        return n

    tasks = bench.submit(step, 1, 2, 3)
    gate.expect(1)
    stopper = threading.Thread(target=bench.pool.stop, args=(5,))
    stopper.start()
    eventually(lambda: len(bench.tasks.held(bench.worker)) == 1)
    gate.open()
    stopper.join()
    assert [outcome.payload for outcome in bench.delivered] == ["1"]
    assert list(gate.entered) == [1]
    assert bench.pool.holding() == {(tasks[0].run_id, 1, 1)}
    rows = [bench.row(task) for task in tasks[1:]]
    assert [(row.attempt, row.claimed_by) for row in rows if row] == [(1, None), (1, None)]
    assert [hint.kind for hint in ears.hear()] == [HintKind.TASKS]


def test_a_stopping_pool_accepts_nothing_and_puts_late_submissions_back(bench: PoolBench) -> None:
    @activity
    def body() -> None: ...

    late = bench.claimed(body)
    wanted = order_of(1, body)
    assert bench.pool.reserve(wanted)
    bench.pool._stopping = True  # as after stop() has begun: the commit's answer arrives only now
    assert not bench.pool.reserve(wanted)
    assert bench.pool.room() == {}
    bench.pool.submit(late)
    bench.nothing_held()
    assert bench.tasks.held(bench.worker) == []
    assert bench.pool.stop(1)


def test_running_bodies_are_waited_for_and_their_results_delivered(bench: PoolBench) -> None:
    inside: list[int] = []
    go = threading.Event()

    @activity
    def body() -> int:
        inside.append(1)
        go.wait(30)
        return 1

    @activity
    async def body_async() -> int:
        inside.append(2)
        while not go.is_set():
            await asyncio.sleep(0.002)
        return 2

    bench.submit(body)
    bench.submit(body_async)
    eventually(lambda: len(inside) == 2)
    done: list[bool] = []
    stopper = threading.Thread(target=lambda: done.append(bench.pool.stop(10)))
    stopper.start()
    eventually(lambda: bench.pool._stopping)
    go.set()
    stopper.join()
    assert done == [True]
    assert {outcome.payload for outcome in bench.delivered} == {"1", "2"}


def test_what_does_not_end_in_time_is_told_so_and_stays_claimed(bench: PoolBench) -> None:
    gate = Gate()
    told: list[str] = []

    @activity
    def body() -> None:
        attempt = current_attempt()
        gate()
        told.append(f"thread {attempt.cancelled}")

    @activity
    async def body_async() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            told.append("loop")

    bench.submit(body)
    bench.submit(body_async)
    eventually(lambda: bench.pool.running == 2)
    gate.expect(1)
    began = time.monotonic()
    assert not bench.pool.stop(0.05)
    assert time.monotonic() - began < 5
    assert told == ["loop"]
    assert len(bench.tasks.held(bench.worker)) == 2, "the sweep will find them, one attempt later"
    gate.open()
    eventually(lambda: told == ["loop", "thread True"])


def test_reports_get_a_last_chance(bench: PoolBench) -> None:
    @activity
    def charge() -> int:
        return 5

    with bench.journal_away("finish_keyed"):
        [task] = bench.submit(charge, key="k")
        eventually(lambda: bench.calls["finish_keyed"] >= 3)
    assert bench.pool.stop(5)
    assert bench.letters(task.run_id) == [("activity_completed", "5")]


def test_outcomes_are_handed_in_even_after_the_stop(bench: PoolBench) -> None:
    @activity
    def answer() -> int:
        return 5

    [task] = bench.submit(answer)
    outcome = bench.outcome()
    assert bench.pool.stop(5)
    bench.pool.hand_in(outcome)
    assert bench.pool.stop(5)
    assert bench.letters(task.run_id) == [("activity_completed", "5")]


def test_a_journal_that_stays_away_does_not_hold_up_the_end(bench: PoolBench) -> None:
    @activity
    def charge() -> int:
        return 5

    with bench.journal_away("finish_keyed"):
        bench.submit(charge, key="k")
        eventually(lambda: bench.calls["finish_keyed"] >= 1)
        began = time.monotonic()
        assert not bench.pool.stop(0)
        assert time.monotonic() - began < 5


def test_a_body_that_blocks_the_loop_does_not_hold_up_the_end(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    async def body() -> None:
        gate()

    bench.submit(body)
    gate.expect(1)
    assert not bench.pool.stop(0)
    gate.open()


def test_no_thread_is_left(make_bench: Make) -> None:
    before = set(threading.enumerate())
    bench = make_bench()

    @activity
    def body() -> int:
        return 1

    @activity
    async def body_async() -> int:
        return 2

    @activity
    def keyed() -> int:
        return 3

    bench.submit(body)
    bench.submit(body_async)
    bench.submit(keyed, key="k")
    bench.outcomes(2)
    eventually(lambda: bench.mailed == 1)
    assert bench.pool.stop(5)
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("continuum-")])


def test_a_pool_that_never_had_work_stops_at_once(make_bench: Make) -> None:
    assert make_bench().pool.stop(5)
    assert make_bench(started=False).pool.stop(5)
