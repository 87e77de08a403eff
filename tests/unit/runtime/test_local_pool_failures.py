"""What becomes of attempts that fail: another one, or the end."""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.registry import Registry
from continuum.errors import ActivityFailed, PermanentError, RetryAfter
from continuum.model.failures import Failure, FailureKind
from continuum.model.policies import Retry
from tests.support.eventually import eventually
from tests.support.pools import PoolBench

Make = Callable[..., PoolBench]

QUICK = Retry(max_attempts=3, base=timedelta(0), jitter=timedelta(0))
ONCE = Retry(max_attempts=1)


def raising(error: Any, retry: Retry = ONCE) -> Any:
    @activity(retry=retry)
    def body() -> None:
        raise error

    return body


def failure(bench: PoolBench) -> Failure:
    outcome = bench.outcome()
    assert outcome.payload is None
    assert outcome.failure is not None
    return outcome.failure


def test_the_last_attempt_delivers_the_failure_with_its_traceback(bench: PoolBench) -> None:
    @activity(retry=1)
    def divide(n: int) -> float:
        return n / 0

    bench.submit(divide, 1)
    failed = failure(bench)
    assert (failed.type_name, failed.message) == ("ZeroDivisionError", "division by zero")
    assert (failed.attempts, failed.kind, failed.permanent) == (1, FailureKind.RAISED, False)
    assert "return n / 0" in failed.traceback
    assert "attempt_life" not in failed.traceback, "the pool's own frames help nobody"


def test_an_attempt_that_is_not_the_last_frees_the_row_for_the_next(bench: PoolBench) -> None:
    [task] = bench.submit(raising(ValueError("no"), QUICK))
    eventually(lambda: (row := bench.row(task)) is not None and row.attempt == 2)
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert row.claimed_by is None
    assert row.last_error is not None
    assert (row.last_error.type_name, row.last_error.attempts) == ("ValueError", 1)
    assert not bench.delivered


def test_attempts_follow_each_other_until_none_is_left(bench: PoolBench) -> None:
    [task] = bench.submit(raising(ValueError("no"), QUICK))
    for attempt in (2, 3):
        eventually(lambda attempt=attempt: (row := bench.row(task)) is not None and row.attempt == attempt)
        bench.offers.claim()
    failed = failure(bench)
    assert failed.attempts == 3


def test_the_pause_before_the_next_attempt_is_the_policys(bench: PoolBench) -> None:
    retry = Retry(max_attempts=2, backoff="constant", base=timedelta(seconds=60), jitter=timedelta(0))
    before = bench.desk.now_us()
    [task] = bench.submit(raising(ValueError("no"), retry))
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert 60e6 <= row.available_at - before < 70e6
    assert bench.desk.take(bench.worker) == []


def test_retry_after_chooses_the_pause_and_counts_as_an_attempt(bench: PoolBench) -> None:
    before = bench.desk.now_us()
    [task] = bench.submit(raising(RetryAfter(90), QUICK))
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert 90e6 <= row.available_at - before < 100e6
    assert row.attempt == 2
    bench.submit(raising(RetryAfter(90)))
    assert failure(bench).type_name == "continuum.errors.RetryAfter"


def test_a_permanent_error_is_not_tried_again(bench: PoolBench) -> None:
    bench.submit(raising(PermanentError("card stolen"), QUICK))
    failed = failure(bench)
    assert (failed.message, failed.permanent, failed.attempts) == ("card stolen", True, 1)


GIVING_UP = Retry(max_attempts=3, base=timedelta(0), jitter=timedelta(0), gives_up=True)


def test_an_activity_that_gives_up_is_tried_again_only_if_it_asks(bench: PoolBench) -> None:
    [task] = bench.submit(raising(RetryAfter(90), GIVING_UP))
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert row.attempt == 2
    bench.submit(raising(ValueError("no"), GIVING_UP))
    failed = failure(bench)
    assert (failed.type_name, failed.permanent, failed.attempts) == ("ValueError", True, 1)


def test_a_timeout_of_an_activity_that_gives_up_is_final(bench: PoolBench) -> None:
    @activity(timeout=timedelta(milliseconds=50), retry=GIVING_UP)
    async def body() -> None:
        await asyncio.sleep(30)

    bench.submit(body)
    failed = failure(bench)
    assert (failed.kind, failed.permanent, failed.attempts) == (FailureKind.TIMED_OUT, True, 1)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_no_exception_ends_a_thread_or_the_loop(make_bench: Make, error: BaseException) -> None:
    bench = make_bench(concurrency=1)

    @activity(retry=1)
    async def body() -> None:
        raise error

    @activity
    def fine() -> int:
        return 1

    @activity
    async def fine_too() -> int:
        return 2

    for broken in (raising(error), body):
        bench.submit(broken)
        assert failure(bench).type_name.endswith(type(error).__name__)
    bench.submit(fine)
    bench.submit(fine_too)
    assert {outcome.payload for outcome in bench.outcomes(2)} == {"1", "2"}


def test_exceptions_of_any_size_and_kind_can_be_stored(bench: PoolBench) -> None:
    class Unpicklable(Exception):
        def __init__(self) -> None:
            super().__init__(lambda: None)
            self.file = sys.stdout

        def __str__(self) -> str:
            raise RuntimeError

    for error in (ValueError("x" * 70_000), Unpicklable(), ValueError("\ud800")):
        bench.submit(raising(error))
        assert len(failure(bench).encode()) < 64 * 1024


def test_the_cause_of_an_exception_is_kept(bench: PoolBench) -> None:
    @activity(retry=1)
    def body() -> None:
        try:
            {}["k"]
        except KeyError as error:
            raise ValueError("v") from error

    bench.submit(body)
    cause = failure(bench).cause
    assert cause is not None
    assert cause.type_name == "KeyError"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_result_that_cannot_be_recorded_is_a_permanent_failure_with_its_path(
    bench: PoolBench, is_async: bool
) -> None:
    def make() -> Any:
        return {"items": [1, lambda: None]}

    if is_async:

        @activity(retry=QUICK)
        async def body() -> Any:
            return make()

    else:

        @activity(retry=QUICK)  # type: ignore[no-redef]
        def body() -> Any:
            return make()

    bench.submit(body)
    failed = failure(bench)
    assert failed.permanent
    assert "result" in failed.message
    assert "items" in failed.message


def test_a_result_that_is_too_large_is_a_permanent_failure(make_bench: Make) -> None:
    bench = make_bench(max_result_bytes=100)

    @activity(retry=QUICK)
    def large(n: int) -> str:
        return "x" * n

    bench.submit(large, 98)
    assert bench.outcome().failure is None
    bench.submit(large, 99)
    failed = failure(bench)
    assert failed.permanent
    assert "101 bytes" in failed.message


def test_a_def_that_returns_a_coroutine_is_told_so_and_the_coroutine_is_closed(bench: PoolBench) -> None:
    async def later() -> None: ...

    @activity(retry=1)
    def body() -> Any:
        return later()

    bench.submit(body)
    assert failure(bench).permanent  # and no warning: warnings are errors here


def test_arguments_that_cannot_be_read_are_a_failed_attempt(bench: PoolBench) -> None:
    @activity(retry=1)
    def body(n: int) -> int:
        return n

    @activity(retry=1)
    async def body_async(n: int) -> int:
        return n

    for broken in (body, body_async):
        bench.submit(broken, (1, 2))
        assert failure(bench).type_name == "TypeError"


def test_code_this_worker_does_not_have_is_tried_later_elsewhere_and_fails_in_the_end(make_bench: Make) -> None:
    bench = make_bench(registry=Registry())

    @activity(retry=2, name="tests.not_here")
    def body() -> None: ...

    before = bench.desk.now_us()
    [task] = bench.submit(body)
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert row.attempt == 2
    assert 5e6 <= row.available_at - before < 10e6
    assert row.last_error is not None
    assert "'tests.not_here'" in row.last_error.message

    @activity(retry=1, name="tests.not_here_either")
    def other() -> None: ...

    bench.submit(other)
    assert "no worker" in failure(bench).message


def test_a_failed_attempt_is_reported_however_long_the_journal_is_away(bench: PoolBench) -> None:
    with bench.journal_away():
        [task] = bench.submit(raising(ValueError("no"), QUICK))
        eventually(lambda: bench.calls["retry"] >= 2)
        assert bench.pool.holding() == {(task.run_id, 1, 1)}
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert row.attempt == 2


def test_a_stale_retry_changes_nothing(bench: PoolBench) -> None:
    with bench.journal_away("retry"):
        [task] = bench.submit(raising(ValueError("no"), QUICK))
        eventually(lambda: bench.calls["retry"] >= 1)
        bench.tasks.put_back(bench.worker, [task])
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert row.attempt == 1


def test_the_offers_are_told_when_a_retry_falls_due(bench: PoolBench) -> None:
    told: list[float] = []
    bench.pool.on_due = told.append
    retry = Retry(max_attempts=2, backoff="constant", base=timedelta(seconds=7), jitter=timedelta(0))
    bench.submit(raising(ValueError("no"), retry))
    eventually(lambda: told == [7.0])


def test_an_error_class_of_ours_is_an_error_like_any_other(bench: PoolBench) -> None:
    bench.submit(raising(ActivityFailed("x", activity="a", attempts=1)))
    assert failure(bench).type_name == "continuum.errors.ActivityFailed"
