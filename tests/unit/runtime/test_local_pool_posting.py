"""Outcomes that do not go through memory: under an idempotency key, and in a transaction of the body's own."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.errors import JournalUnavailable
from continuum.model.failures import Failure
from continuum.model.policies import Retry
from tests.support.eventually import eventually
from tests.support.pools import Gate, PoolBench

Make = Callable[..., PoolBench]

QUICK = Retry(max_attempts=3, base=timedelta(0), jitter=timedelta(0))
ran: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@activity(retry=QUICK)
def charge(n: int) -> int:
    ran.append(current_attempt().idempotency_key)
    return n


@activity(name="tests.charge_async", retry=QUICK)
async def charge_async(n: int) -> int:
    ran.append(current_attempt().idempotency_key)
    return n


@activity(retry=QUICK, transactional=True)
def book(n: int, *, connection: Any = "not given") -> int:
    ran.append((n, connection))
    if n < 0:
        raise ValueError(n)
    return n


both = pytest.mark.parametrize("body", [charge, charge_async], ids=["def", "async def"])

# ------------------------------------------------------------------ idempotency keys


@both
def test_a_result_under_a_key_is_stored_and_posted_never_delivered(bench: PoolBench, body: Any) -> None:
    [task] = bench.submit(body, 5, key="k1")
    bench.nothing_held()
    assert bench.letters(task.run_id) == [("activity_completed", "5")]
    assert bench.tasks.find_result(body.name, "k1") == "5"
    assert bench.row(task) is None
    assert ran == ["k1"]
    assert bench.mailed == 1
    assert not bench.delivered


@both
def test_a_key_that_has_a_result_is_answered_without_running_the_body(bench: PoolBench, body: Any) -> None:
    bench.submit(body, 5, key="k2")
    bench.nothing_held()
    [task] = bench.submit(body, 6, key="k2")
    bench.nothing_held()
    assert ran == ["k2"]
    assert bench.letters(task.run_id) == [("activity_completed", "5")]
    assert bench.row(task) is None


def test_of_two_that_run_at_once_under_one_key_the_first_result_counts_for_both(make_bench: Make) -> None:
    bench = make_bench(concurrency=2)
    gates = {1: Gate(), 2: Gate()}

    @activity
    def slow(n: int) -> int:
        gates[n]()
        return n

    [first] = bench.submit(slow, 1, key="k")
    [second] = bench.submit(slow, 2, key="k")
    for gate in gates.values():
        gate.expect(1)
    gates[2].open()
    eventually(lambda: bench.letters(second.run_id) == [("activity_completed", "2")])
    gates[1].open()
    bench.nothing_held()
    assert bench.letters(first.run_id) == [("activity_completed", "2")]


def test_keys_are_scoped_by_activity(bench: PoolBench) -> None:
    bench.submit(charge, 5, key="k3")
    bench.submit(charge_async, 6, key="k3")
    bench.nothing_held()
    assert len(ran) == 2


@both
def test_failed_attempts_store_nothing_under_the_key_and_the_last_one_is_posted(bench: PoolBench, body: Any) -> None:
    @activity(retry=1, name=f"tests.failing.{body.is_async}")
    def fail() -> None:
        raise ValueError("no")

    [task] = bench.submit(fail, key="k")
    bench.nothing_held()
    [(kind, payload)] = bench.letters(task.run_id)
    assert kind == "activity_failed"
    assert Failure.parse(payload or "").message == "no"
    assert bench.tasks.find_result(fail.name, "k") is None
    assert not bench.delivered


@both
def test_the_body_waits_for_the_journal_to_tell_whether_its_key_has_a_result(bench: PoolBench, body: Any) -> None:
    with bench.journal_away():
        [task] = bench.submit(body, 5, key="k4")
        eventually(lambda: bench.calls["find_result"] >= 2)
        assert ran == []
        assert bench.pool.holding() == {(task.run_id, 1, 1)}
    bench.nothing_held()
    assert bench.letters(task.run_id) == [("activity_completed", "5")]


@both
def test_a_result_under_a_key_is_stored_however_long_the_journal_is_away(bench: PoolBench, body: Any) -> None:
    with bench.journal_away("finish_keyed"):
        [task] = bench.submit(body, 5, key="k5")
        eventually(lambda: bench.calls["finish_keyed"] >= 2)
    bench.nothing_held()
    assert len(ran) == 1
    assert bench.letters(task.run_id) == [("activity_completed", "5")]


def test_a_result_is_kept_under_its_key_even_if_the_claim_is_gone(bench: PoolBench) -> None:
    gate = Gate()

    @activity
    def slow(n: int) -> int:
        gate()
        return n

    [task] = bench.submit(slow, 5, key="k6")
    gate.expect(1)
    bench.tasks.put_back(bench.worker, [task])
    gate.open()
    bench.nothing_held()
    assert bench.tasks.find_result(slow.name, "k6") == "5"
    assert bench.letters(task.run_id) == []
    assert bench.mailed == 0


def test_a_cancelled_task_that_waits_for_its_key_is_not_run(bench: PoolBench) -> None:
    with bench.journal_away():
        [task] = bench.submit(charge, 5, key="k7")
        eventually(lambda: bench.calls["find_result"] >= 1)
        bench.pool.cancel(task.run_id, task.command)
    bench.nothing_held()
    eventually(lambda: bench.pool._reporter.pending == 0)
    assert ran == []


# ------------------------------------------------------------------ transactional


def test_a_transactional_body_gets_the_connection_and_its_outcome_is_posted(bench: PoolBench) -> None:
    [task] = bench.submit(book, 3)
    bench.nothing_held()
    assert ran == [(3, None)], "the memory wing has no connection to give"
    assert bench.letters(task.run_id) == [("activity_completed", "3")]
    assert bench.row(task) is None
    assert bench.mailed == 1
    assert not bench.delivered


def test_a_transactional_body_that_raises_is_tried_again(bench: PoolBench) -> None:
    [task] = bench.submit(book, -1)
    bench.nothing_held()
    row = bench.row(task)
    assert row is not None
    assert (row.attempt, row.claimed_by) == (2, None)
    assert row.last_error is not None
    assert row.last_error.type_name == "ValueError"
    assert not row.last_error.permanent


def test_the_last_failure_of_a_transactional_body_is_posted(bench: PoolBench) -> None:
    @activity(retry=1, transactional=True)
    def fail(*, connection: Any = None) -> Any:
        raise ValueError("no")

    @activity(retry=5, transactional=True)
    def strange(*, connection: Any = None) -> Any:
        return object()

    for body, permanent in ((fail, False), (strange, True)):
        [task] = bench.submit(body)
        bench.nothing_held()
        [(kind, payload)] = bench.letters(task.run_id)
        assert kind == "activity_failed"
        assert Failure.parse(payload or "").permanent is permanent
    assert not bench.delivered


def test_a_transaction_whose_claim_is_gone_is_undone_in_silence(bench: PoolBench) -> None:
    @activity(transactional=True)
    def robbed(*, connection: Any = None) -> int:
        bench.tasks.put_back(bench.worker, bench.tasks.held(bench.worker))
        return 1

    [task] = bench.submit(robbed)
    bench.nothing_held()
    assert bench.letters(task.run_id) == []
    assert bench.row(task) is not None
    assert bench.mailed == 0


def test_a_transaction_that_cannot_begin_is_tried_again_as_the_same_attempt(bench: PoolBench) -> None:
    with bench.journal_away():
        [task] = bench.submit(book, 3)
        eventually(lambda: bench.calls["transaction"] >= 2)
        assert ran == []
    bench.nothing_held()
    assert bench.letters(task.run_id) == [("activity_completed", "3")]


def test_a_commit_without_an_answer_lets_the_body_run_again_and_counts_once(bench: PoolBench) -> None:
    """Whether it had landed is decided by the claim: if it is gone, the second run is undone."""
    from contextlib import contextmanager

    real = bench.tasks.transaction
    lost: list[bool] = []

    @contextmanager
    def losing(worker: Any) -> Any:
        with real(worker) as transaction:
            yield transaction
        if not lost:
            lost.append(True)
            raise JournalUnavailable("the answer is lost")

    bench.tasks.transaction = losing  # type: ignore[method-assign]
    [task] = bench.submit(book, 3)
    bench.nothing_held()
    assert [n for n, _ in ran] == [3, 3]
    assert bench.letters(task.run_id) == [("activity_completed", "3")]


def test_a_transactional_body_past_its_timeout_leaves_nothing(bench: PoolBench) -> None:
    gate = Gate()
    over: list[str] = []

    @activity(retry=1, transactional=True, timeout=timedelta(milliseconds=30))
    def stuck(*, connection: Any = None) -> int:
        gate()
        over.append("returned")
        return 1

    [task] = bench.submit(stuck)
    eventually(lambda: [kind for kind, _ in bench.letters(task.run_id)] == ["activity_failed"])
    gate.open()
    eventually(lambda: over == ["returned"])
    eventually(lambda: bench.pool.strays == 0)
    assert len(bench.letters(task.run_id)) == 1
