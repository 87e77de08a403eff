"""No attempt is held and forgotten, whatever cannot be started, looked up, told or encoded."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from continuum.declare.activities import Activity, activity
from continuum.journal.requests import Hint, HintKind
from continuum.model.failures import FailureKind
from continuum.runtime.reporter import Reporter
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench

Make = Callable[..., PoolBench]


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class _Unreadable:
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit


@activity(name="wedges.answer")
def answer() -> int:
    return 1


@activity(name="wedges.answer_async")
async def answer_async() -> int:
    return 1


@activity(name="wedges.keyed", idempotency_key=lambda: "k", retry=1)
def keyed() -> int:
    return 1


@activity(name="wedges.keyed_async", idempotency_key=lambda: "k", retry=1)
async def keyed_async() -> int:
    return 1


@activity(name="wedges.unspeakable", retry=1)
def unspeakable() -> None:
    raise _Unspeakable


@activity(name="wedges.unspeakable_async", retry=1)
async def unspeakable_async() -> None:
    raise _Unspeakable


@activity(name="wedges.unreadable", retry=1)
def unreadable() -> Any:
    return _Unreadable()


@activity(name="wedges.unreadable_async", retry=1)
async def unreadable_async() -> Any:
    return _Unreadable()


class _Starts:
    """Threads that cannot be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing = ""
        self.failures = 0
        start = threading.Thread.start

        def sometimes(thread: threading.Thread) -> None:
            if self.failing and thread.name.startswith(self.failing):
                self.failures += 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", sometimes)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> _Starts:
    """Return what decides which threads fail to start."""
    return _Starts(monkeypatch)


# ------------------------------------------------------------------ threads that cannot be started


@pytest.mark.parametrize("body", [answer, answer_async])
def test_what_no_thread_could_be_started_for_is_put_back_and_done_later(
    starts: _Starts, bench: PoolBench, body: Activity[..., Any]
) -> None:
    ears = bench.journal.open_ears([HintKind.TASKS])
    starts.failing = "continuum-a"
    bench.submit(body)
    assert starts.failures == 1
    eventually(lambda: bench.tasks.held(bench.worker) == [])
    assert ears.hear() == [Hint(HintKind.TASKS)]
    starts.failing = ""

    def done() -> bool:
        bench.offers.claim()
        return bool(bench.delivered)

    eventually(done)
    assert bench.pool._threads.capacity == bench.pool.concurrency


def test_the_threads_there_are_go_on_when_no_more_can_be_started(starts: _Starts, make_bench: Make) -> None:
    bench = make_bench(concurrency=3)
    gate = Gate()

    @activity
    def block() -> None:
        gate()

    bench.submit(block)
    gate.expect(1)
    starts.failing = "continuum-activities"
    bench.pool._threads.average = 1.0
    bench.submit(answer)
    assert starts.failures == 1
    assert bench.pool.room() == {None: 0}
    gate.open()
    assert len(bench.outcomes(2)) == 2


def test_reports_wait_for_a_thread_that_could_not_be_started(starts: _Starts) -> None:
    reporter = Reporter(threads=1)
    told: list[int] = []
    starts.failing = "continuum-reports"
    for n in range(6):
        reporter.put(lambda n=n: told.append(n))  # type: ignore[misc]
    assert starts.failures == 6
    starts.failing = ""
    reporter.nudge()
    eventually(lambda: reporter.pending == 0)
    assert told == [*range(6)]
    assert reporter.stop(1)


def test_the_end_of_reporting_tries_once_more_to_start_a_thread(starts: _Starts) -> None:
    reporter = Reporter()
    told: list[int] = []
    starts.failing = "continuum-reports"
    reporter.put(lambda: told.append(1))
    starts.failing = ""
    assert reporter.stop(5)
    assert told == [1]


# ------------------------------------------------------------------ errors in odd places


@pytest.mark.parametrize("body", [keyed, keyed_async])
def test_a_look_up_that_fails_for_good_ends_the_attempt(
    bench: PoolBench, monkeypatch: pytest.MonkeyPatch, body: Activity[..., Any]
) -> None:
    def broken(*_args: Any) -> None:
        raise ZeroDivisionError("a bug of a driver")

    monkeypatch.setattr(bench.tasks, "find_result", broken)
    [task] = bench.submit(body, key="k")
    bench.nothing_held()
    [(kind, payload)] = bench.letters(task.run_id)
    assert kind == "activity_failed"
    assert "a bug of a driver" in (payload or "")
    assert bench.pool.running == 0


def test_a_look_up_that_hangs_is_ended_by_the_timeout(make_bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench(concurrency=1)
    gate = Gate()
    ran: list[int] = []

    @activity(idempotency_key=lambda: "k", retry=1, timeout=timedelta(milliseconds=30))
    def late() -> None:
        ran.append(1)

    monkeypatch.setattr(bench.tasks, "find_result", lambda *_args: gate())
    [task] = bench.submit(late, key="k")
    gate.expect(1)
    bench.nothing_held()
    [(kind, payload)] = bench.letters(task.run_id)
    assert (kind, FailureKind.TIMED_OUT in (payload or "")) == ("activity_failed", True)
    assert bench.pool.strays == 1
    gate.open()
    eventually(lambda: bench.pool.strays == 0)
    assert not ran


@pytest.mark.parametrize("body", [unspeakable, unspeakable_async, unreadable, unreadable_async])
def test_what_can_be_neither_told_nor_encoded_ends_the_attempt(bench: PoolBench, body: Activity[..., Any]) -> None:
    bench.submit(body)
    assert bench.outcome().failure is not None
    for fine in (answer, answer_async):  # thread and loop live on
        bench.submit(fine)
        assert bench.outcome().payload == "1"
    eventually(lambda: bench.pool.running == 0)


@pytest.mark.parametrize("how", ["exits", "stops the loop"])
def test_a_stray_task_of_a_body_cannot_end_the_loop(bench: PoolBench, how: str) -> None:
    began: list[Any] = []

    async def leave() -> None:
        if how == "exits":
            raise SystemExit
        asyncio.get_running_loop().stop()

    @activity
    async def sow() -> None:
        began.append(asyncio.create_task(leave()))

    @activity
    async def follow() -> int:
        await asyncio.wait(began)
        return 1

    bench.submit(sow)
    bench.outcome()
    bench.submit(follow)
    assert bench.outcome().payload == "1"
    for task in began:
        task.cancelled() or task.exception()


def test_a_report_that_exits_and_cannot_be_given_up_costs_no_thread() -> None:
    reporter = Reporter(threads=1)
    tries: list[int] = []

    def exits() -> None:
        tries.append(1)
        raise SystemExit

    reporter.put(exits, give_up=exits)
    eventually(lambda: reporter.pending == 0, timeout=10)
    assert len(tries) == 6
    told = threading.Event()
    reporter.put(told.set)  # type: ignore[arg-type]
    assert told.wait(5)
    assert reporter.stop(1)
