"""Everything at once: bodies that return, raise, hang, beat and are cancelled, while claims are compared."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.model.policies import Retry
from tests.support.eventually import eventually
from tests.support.pools import PoolBench, order_of

Make = Callable[..., PoolBench]

RETRY = Retry(max_attempts=3, base=timedelta(0), jitter=timedelta(milliseconds=2))
LIMIT = timedelta(milliseconds=20)
never = threading.Event()
begun: Counter[tuple[str, int, int]] = Counter()


def _begin() -> Any:
    attempt = current_attempt()
    begun[attempt.run_id, attempt.command, attempt.number] += 1
    return attempt


@activity(name="tests.storm.thread", retry=RETRY, timeout=LIMIT)
def in_thread(what: int) -> int:
    attempt = _begin()
    if what == 0:
        raise ValueError
    if what == 1:
        never.wait(0.05)  # beyond the limit
    if what == 2:
        attempt.heartbeat({"n": attempt.number})
        never.wait(0.002)
    if what == 3:
        never.wait(0.0199)  # right at the limit
    return what


@activity(name="tests.storm.loop", retry=RETRY, timeout=LIMIT)
async def on_loop(what: int) -> int:
    attempt = _begin()
    if what == 0:
        raise ValueError
    if what == 1:
        await asyncio.sleep(0.05)
    if what == 2:
        attempt.heartbeat({"n": attempt.number})
        await asyncio.sleep(0.002)
    if what == 3:
        await asyncio.sleep(0.0199)
    return what


@pytest.mark.parametrize("queues", [None, {"default": 3, "other": 2}], ids=["any queue", "limited queues"])
def test_every_attempt_begins_once_and_every_task_comes_to_an_end(make_bench: Make, queues: Any) -> None:
    begun.clear()
    bench = make_bench(concurrency=4, queues=queues, patience=0.2)
    chance = random.Random(20_26)
    bench.offers.start()
    tasks = []
    for _ in range(25):
        orders = []
        for command in range(1, 17):
            body = chance.choice([in_thread, on_loop])
            varied = body.options(queue=chance.choice(["default", "other"]), priority=chance.choice([0, 0, 0, 5, -5]))
            key = f"key {chance.randrange(40)}" if chance.random() < 0.2 else None
            orders.append(order_of(command, varied, chance.randrange(8), key=key))
        run = bench.run_with(*orders)
        mine = [task for task in bench.tasks.held(bench.worker) if task.run_id == run.run_id and task.attempt == 1]
        tasks.extend(mine)
        bench.pool.submit(mine)
        for task in chance.sample(mine, 2):
            bench.pool.cancel(task.run_id, task.command)
    seen: Counter[tuple[str, int, int]] = Counter()

    def settled() -> bool:
        while bench.delivered:
            outcome = bench.delivered.popleft()
            seen[outcome.run_id, outcome.command, outcome.attempt] += 1
            bench.tasks.finish(bench.worker, outcome)  # as the run's owner would, by its commit
            bench.settle(outcome)
        bench.offers.reconcile_soon()
        return not any(bench.row(task) for task in tasks)

    eventually(settled, timeout=60)
    bench.offers.stop()
    eventually(lambda: not bench.pool.holding() and bench.pool.running == bench.pool.strays == 0)
    assert len(tasks) == 25 * 16
    # A cancelled task keeps its row here (nobody commits the cancellation), so it is found and begun once more.
    twice = {key for key, count in begun.items() if count > 1}
    assert all(begun[key] <= 2 for key in twice)
    assert len(twice) <= 50
    assert set(seen.values()) == {1}
    if bench.pool._limits is not None:
        assert bench.pool._limits.running == {"default": 0, "other": 0}
    time_left = time.monotonic()
    assert bench.pool.stop(5)
    assert time.monotonic() - time_left < 5
