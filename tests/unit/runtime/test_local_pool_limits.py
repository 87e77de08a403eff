"""Time limits, heartbeats, cancelling."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.errors import CodecError
from continuum.model.failures import FailureKind
from continuum.model.policies import Retry
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench

Make = Callable[..., PoolBench]

QUICK = Retry(max_attempts=3, base=timedelta(0), jitter=timedelta(0))
SHORT = timedelta(milliseconds=30)


# ------------------------------------------------------------------ timeouts


def test_a_thread_past_its_timeout_is_reported_at_once_replaced_and_ignored(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()
    seen: list[bool] = []

    @activity(timeout=SHORT, retry=1)
    def stuck() -> str:
        attempt = current_attempt()
        gate()
        seen.append(attempt.cancelled)
        return "late"

    @activity
    def fine() -> int:
        return 1

    bench.submit(stuck)
    outcome = bench.outcome()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.attempts) == (FailureKind.TIMED_OUT, 1)
    assert "0:00:00.030000" in outcome.failure.message
    assert "gate()" in outcome.failure.traceback, "where it stood"
    eventually(lambda: bench.pool.strays == 1)
    bench.submit(fine)
    assert bench.outcome().payload == "1"
    gate.open()
    eventually(lambda: bench.pool.strays == 0)
    assert seen == [True]
    assert not bench.delivered


def test_an_async_body_past_its_timeout_is_cancelled(bench: PoolBench) -> None:
    told: list[str] = []

    @activity(timeout=SHORT, retry=1)
    async def stuck() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append(f"cancelled {current_attempt().cancelled}")
            raise

    bench.submit(stuck)
    outcome = bench.outcome()
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.TIMED_OUT
    eventually(lambda: told == ["cancelled True"])
    eventually(lambda: bench.pool.strays == 0)
    assert not bench.delivered


def test_an_async_body_that_will_not_be_cancelled_takes_nobodys_place(make_bench: Make) -> None:
    bench = make_bench(async_concurrency=1)
    release = threading.Event()

    @activity(timeout=SHORT, retry=1)
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                continue

    @activity
    async def fine() -> int:
        return 1

    bench.submit(stubborn)
    assert bench.outcome().failure is not None
    bench.submit(fine)
    assert bench.outcome().payload == "1"
    assert bench.pool.strays == 1
    release.set()
    eventually(lambda: bench.pool.strays == 0)
    assert not bench.delivered


def test_a_timed_out_attempt_is_followed_by_another(bench: PoolBench) -> None:
    gate = Gate()

    @activity(timeout=SHORT, retry=QUICK)
    def stuck() -> None:
        gate()

    [task] = bench.submit(stuck)
    eventually(lambda: (row := bench.row(task)) is not None and row.attempt == 2)
    row = bench.row(task)
    assert row is not None
    assert row.last_error is not None
    assert row.last_error.kind is FailureKind.TIMED_OUT
    gate.open()


def test_silence_beyond_the_heartbeat_timeout_ends_an_attempt(bench: PoolBench) -> None:
    gate = Gate()

    @activity(heartbeat_timeout=SHORT, retry=1)
    def silent() -> None:
        gate()

    bench.submit(silent)
    outcome = bench.outcome()
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.HEARTBEAT_TIMED_OUT
    gate.open()


def test_heartbeats_keep_an_attempt_alive_beyond_the_heartbeat_timeout(bench: PoolBench) -> None:
    beats: list[int] = []
    stop = threading.Event()

    @activity(heartbeat_timeout=timedelta(milliseconds=200), retry=1)
    def lively() -> int:
        while not stop.wait(0.01):
            current_attempt().heartbeat()
            beats.append(1)
        return len(beats)

    bench.submit(lively)
    eventually(lambda: len(beats) > 60)
    stop.set()
    assert bench.outcome().failure is None


# ------------------------------------------------------------------ heartbeats


def test_details_are_written_now_and_then_and_the_last_ones_stay(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    def report() -> None:
        for n in range(1000):
            current_attempt().heartbeat({"done": n})
        gate()

    [task] = bench.submit(report)
    gate.expect(1)
    eventually(lambda: (row := bench.row(task)) is not None and row.heartbeat == '{"done":999}')
    assert bench.calls["progress"] < 100
    gate.open()


def test_the_last_details_are_there_for_the_next_attempt(make_bench: Make) -> None:
    bench = make_bench(heartbeat_interval=timedelta(hours=1))
    seen: list[Any] = []

    @activity(retry=QUICK)
    def report() -> None:
        attempt = current_attempt()
        seen.append(attempt.last_heartbeat)
        attempt.heartbeat({"page": attempt.number})
        attempt.heartbeat()
        raise ValueError

    [task] = bench.submit(report)
    eventually(lambda: (row := bench.row(task)) is not None and row.attempt == 2)
    bench.offers.claim()
    eventually(lambda: (row := bench.row(task)) is not None and row.attempt == 3)
    assert seen == [None, {"page": 1}]
    row = bench.row(task)
    assert row is not None
    assert row.heartbeat == '{"page":2}'


def test_a_heartbeat_that_cannot_be_stored_raises_in_the_body_and_is_not_written(bench: PoolBench) -> None:
    @activity(retry=1)
    def report(large: bool) -> str:
        try:
            current_attempt().heartbeat("x" * 20_000 if large else object())
        except CodecError as error:
            return error.path
        return "accepted"

    bench.submit(report, True, False)
    assert {outcome.payload for outcome in bench.outcomes(2)} == {'"heartbeat"'}
    assert bench.calls["progress"] == 0


def test_a_body_whose_claim_is_gone_learns_it_by_its_heartbeat(bench: PoolBench) -> None:
    gone = threading.Event()

    @activity
    def careful() -> str:
        attempt = current_attempt()
        while not attempt.cancelled:
            attempt.heartbeat()
            gone.wait(0.002)
        return "stopped"

    [task] = bench.submit(careful)
    eventually(lambda: bench.calls["progress"] > 0)
    bench.tasks.put_back(bench.worker, [task])
    assert bench.outcome().payload == '"stopped"'


def test_a_heartbeat_while_the_journal_is_away_is_written_afterwards(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    def report() -> None:
        current_attempt().heartbeat("here")
        gate()

    with bench.journal_away():
        [task] = bench.submit(report)
        eventually(lambda: bench.calls["progress"] >= 2)
    eventually(lambda: (row := bench.row(task)) is not None and row.heartbeat == '"here"')
    gate.open()


# ------------------------------------------------------------------ cancelling


def test_a_cancelled_task_that_waits_is_never_begun(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity
    def step(n: int) -> int:
        gate(n)
        return n

    tasks = bench.submit(step, 1, 2, 3)
    gate.expect(1)
    bench.pool.cancel(tasks[1].run_id, 2)
    assert (tasks[1].run_id, 2, 1) not in bench.pool.holding()
    gate.open()
    assert [outcome.payload for outcome in bench.outcomes(2)] == ["1", "3"]
    assert list(gate.entered) == [1, 3]


def test_a_running_thread_is_asked_and_its_outcome_thrown_away(bench: PoolBench) -> None:
    told: list[bool] = []

    @activity
    def careful() -> str:
        attempt = current_attempt()
        told.append(False)
        eventually(lambda: attempt.cancelled, interval=0.001)
        told.append(True)
        return "never delivered"

    [task] = bench.submit(careful)
    eventually(lambda: told == [False])
    bench.pool.cancel(task.run_id, task.command)
    eventually(lambda: told == [False, True])
    eventually(lambda: bench.pool.running == 0)
    assert not bench.delivered
    assert not bench.pool.holding()


@pytest.mark.parametrize("fails", [False, True])
def test_a_running_async_body_is_cancelled_and_its_outcome_thrown_away(bench: PoolBench, fails: bool) -> None:
    events: list[str] = []

    @activity(retry=1)
    async def body() -> str:
        events.append("began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            events.append("cancelled")
            if fails:
                raise
        return "never delivered"

    [task] = bench.submit(body)
    eventually(lambda: events == ["began"])
    bench.pool.cancel(task.run_id, task.command)
    eventually(lambda: events == ["began", "cancelled"])
    eventually(lambda: bench.pool.running == bench.pool.strays == 0)
    assert not bench.delivered
    assert not bench.pool.holding()


def test_cancelling_what_is_over_or_unknown_does_nothing(bench: PoolBench) -> None:
    @activity
    def answer() -> int:
        return 42

    [task] = bench.submit(answer)
    outcome = bench.outcome()
    bench.pool.cancel(task.run_id, task.command)
    bench.pool.cancel(task.run_id, 99)
    assert bench.pool.holding() == {(task.run_id, 1, 1)}, "a delivered outcome is still to be settled"
    bench.settle(outcome)


def test_a_cancelled_thread_that_hangs_is_replaced_when_its_timeout_has_passed(make_bench: Make) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()

    @activity(timeout=timedelta(milliseconds=100))
    def stuck() -> None:
        gate()

    @activity
    def fine() -> int:
        return 1

    [task] = bench.submit(stuck)
    gate.expect(1)
    bench.pool.cancel(task.run_id, task.command)
    bench.submit(fine)
    assert bench.outcome().payload == "1"
    gate.open()
