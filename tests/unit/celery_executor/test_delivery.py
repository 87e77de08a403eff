"""A message is delivered: claimed, run, reported; and ends with a word whatever it was."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from continuum.celery_executor.messages import Ask
from continuum.declare.attempts import current_attempt
from continuum.errors import ExecutorError, JournalUnavailable, PermanentError, RetryAfter
from continuum.model.failures import FailureKind
from continuum.model.ids import WorkerId, new_run_id, new_worker_id
from continuum.model.policies import Retry
from continuum.model.tasks import TaskRef, TaskState
from tests.support.celery_bench import CeleryBench

ONCE = Retry(max_attempts=1)
SIGNALLED = -(256 - 15)


def away(*_: Any, **__: Any) -> Any:
    raise JournalUnavailable("the database is away")


def failing(times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    left = [times]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            away()
        return real(*args, **kwargs)

    return call


# ------------------------------------------------------------------ the way of a success


def test_a_result_is_posted_to_the_run(celery_bench: CeleryBench) -> None:
    def charge(amount: int) -> str:
        return f"paid {amount}"

    assert celery_bench.run(charge, arguments="[7]").word == "done"
    assert celery_bench.letters() == [("activity_completed", 0, '"paid 7"')]
    assert celery_bench.rows() == []


def test_a_coroutine_function_is_run_on_a_loop_of_its_own(celery_bench: CeleryBench) -> None:
    async def charge() -> int:
        await asyncio.sleep(0)
        return current_attempt().number

    assert celery_bench.run(charge).word == "done"
    assert celery_bench.letters() == [("activity_completed", 0, "1")]


def test_a_body_knows_its_attempt(celery_bench: CeleryBench) -> None:
    seen: list[Any] = []

    def charge() -> None:
        attempt = current_attempt()
        seen.append((attempt.number, attempt.activity, attempt.last_heartbeat, attempt.cancelled))

    celery_bench.run(charge)
    assert seen == [(1, "charge", None, False)]


def test_a_body_of_one_delivery_sees_nothing_of_the_next(celery_bench: CeleryBench) -> None:
    from contextvars import ContextVar

    colour: ContextVar[str] = ContextVar("colour", default="none")

    def paint() -> str:
        before = colour.get()
        colour.set("red")
        return before

    celery_bench.declare(paint)
    for _ in range(2):
        _, ask = celery_bench.ask("paint")
        assert celery_bench.deliver(ask).word == "done"
    assert [payload for _, _, payload in celery_bench.letters()] == ['"none"', '"none"']


def test_a_result_under_a_key_is_kept_and_found(celery_bench: CeleryBench) -> None:
    ran: list[int] = []

    def charge() -> int:
        ran.append(1)
        return len(ran)

    celery_bench.declare(charge)
    for _ in range(2):
        _, ask = celery_bench.ask("charge", key="order-1")
        assert celery_bench.deliver(ask).word == "done"
    assert ran == [1]
    assert [payload for _, _, payload in celery_bench.letters()] == ["1", "1"]


def test_a_transactional_activity_ends_with_its_transaction(celery_bench: CeleryBench) -> None:
    def charge(*, connection: Any = None) -> str:
        return f"{connection}"

    assert celery_bench.run(charge, transactional=True).word == "done"
    assert celery_bench.letters() == [("activity_completed", 0, '"None"')]


# ------------------------------------------------------------------ failures


def test_an_attempt_that_raised_is_made_again(celery_bench: CeleryBench) -> None:
    error = ValueError("no funds")

    def charge() -> None:
        raise error

    verdict = celery_bench.run(charge)
    assert (verdict.word, verdict.error) == ("retry", error)
    assert 1.0 <= verdict.pause <= 1.25
    [row] = celery_bench.rows()
    assert (row.state, row.attempt) == (TaskState.AVAILABLE, 2)
    assert row.last_error is not None
    assert row.last_error.message == "no funds"
    assert "continuum/" not in row.last_error.traceback, "our own frames help nobody"


def test_the_last_attempt_fails_the_activity(celery_bench: CeleryBench) -> None:
    def charge() -> None:
        raise ValueError("no funds")

    verdict = celery_bench.run(charge, retry=ONCE)
    assert verdict.word == "failed"
    assert isinstance(verdict.error, ValueError)
    assert celery_bench.failure().type_name == "ValueError"


def test_a_permanent_error_fails_at_once(celery_bench: CeleryBench) -> None:
    def charge() -> None:
        raise PermanentError("never")

    assert celery_bench.run(charge).word == "failed"


def test_a_body_chooses_the_pause(celery_bench: CeleryBench) -> None:
    def charge() -> None:
        raise RetryAfter(90)

    assert celery_bench.run(charge).pause == 90


def test_what_cannot_be_encoded_fails_for_good(celery_bench: CeleryBench) -> None:
    def charge() -> object:
        return object()

    assert celery_bench.run(charge).word == "failed"
    assert celery_bench.failure().type_name.endswith("CodecError")


@pytest.mark.parametrize("code", [0, 1, "bye", None])
def test_sys_exit_in_a_body_is_a_failure_like_any_other(celery_bench: CeleryBench, code: Any) -> None:
    def charge() -> None:
        sys.exit(code)

    verdict = celery_bench.run(charge, retry=ONCE)
    assert verdict.word == "failed"
    assert isinstance(verdict.error, ExecutorError), "a SystemExit would end the pool's child"
    assert celery_bench.failure().type_name == "SystemExit"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("large"), asyncio.CancelledError()])
def test_what_would_take_celery_down_is_wrapped(celery_bench: CeleryBench, error: BaseException) -> None:
    def charge() -> None:
        raise error

    verdict = celery_bench.run(charge, retry=ONCE)
    assert verdict.word == "failed"
    assert isinstance(verdict.error, ExecutorError)
    assert type(error).__name__ in str(verdict.error)


def test_celerys_own_predicates_are_not_shown_to_celery(celery_bench: CeleryBench) -> None:
    from celery.exceptions import Reject

    def charge() -> None:
        raise Reject("no", requeue=True)

    assert isinstance(celery_bench.run(charge, retry=ONCE).error, ExecutorError)


def test_a_soft_limit_that_escapes_the_body_is_a_timeout(celery_bench: CeleryBench) -> None:
    from celery.exceptions import SoftTimeLimitExceeded

    def charge() -> None:
        raise SoftTimeLimitExceeded

    verdict = celery_bench.run(charge)
    assert verdict.word == "retry"
    [row] = celery_bench.rows()
    assert row.last_error is not None
    assert row.last_error.kind is FailureKind.TIMED_OUT


# ------------------------------------------------------------------ ended from outside


def test_a_worker_that_is_told_to_end_puts_its_attempt_back(celery_bench: CeleryBench) -> None:
    def charge() -> None:
        raise SystemExit(SIGNALLED)

    with pytest.raises(SystemExit):
        celery_bench.run(charge)
    [row] = celery_bench.rows()
    assert (row.state, row.attempt) == (TaskState.AVAILABLE, 1)


def test_a_worker_that_is_ended_by_the_hard_limit_reports_a_timeout(celery_bench: CeleryBench) -> None:
    def charge() -> None:
        raise SystemExit(SIGNALLED)

    celery_bench.declare(charge)
    _, ask = celery_bench.ask("charge")
    with pytest.raises(SystemExit):
        celery_bench.deliver(ask, timelimit=[0.000001, None])
    [row] = celery_bench.rows()
    assert row.attempt == 2
    assert row.last_error is not None
    assert row.last_error.kind is FailureKind.TIMED_OUT


def test_a_transaction_of_a_worker_that_is_told_to_end_is_put_back(celery_bench: CeleryBench) -> None:
    def charge(*, connection: Any = None) -> None:
        raise SystemExit(SIGNALLED)

    with pytest.raises(SystemExit):
        celery_bench.run(charge, transactional=True)
    assert [row.attempt for row in celery_bench.rows()] == [1]


# ------------------------------------------------------------------ messages without a claim


def test_a_message_that_comes_twice_is_stale(celery_bench: CeleryBench) -> None:
    ran: list[int] = []

    def charge() -> None:
        ran.append(1)

    celery_bench.declare(charge)
    _, ask = celery_bench.ask("charge")
    assert [celery_bench.deliver(ask).word for _ in range(2)] == ["done", "stale"]
    assert ran == [1]


def test_a_message_about_an_unknown_task_is_stale(celery_bench: CeleryBench) -> None:
    celery_bench.declare(lambda: None)
    ask = Ask(celery_bench.instance.settings.name, TaskRef(new_run_id(1), 1, 1), "<lambda>")
    assert celery_bench.deliver(ask).word == "stale"


@pytest.mark.parametrize("worker", ["", 7, None])
def test_without_a_lease_nothing_is_claimed(celery_bench: CeleryBench, worker: Any) -> None:
    celery_bench.declare(lambda: None)
    run, ask = celery_bench.ask("<lambda>")
    assert celery_bench.deliver(ask, worker=worker, continuum_worker=worker).word == "no-lease"
    assert celery_bench.row(run).state == TaskState.DISPATCHED


def test_a_worker_that_was_declared_dead_claims_nothing(celery_bench: CeleryBench) -> None:
    celery_bench.declare(lambda: None)
    run, ask = celery_bench.ask("<lambda>")
    assert celery_bench.deliver(ask, worker=WorkerId(new_worker_id())).word == "stale"
    assert celery_bench.row(run).state == TaskState.DISPATCHED


def test_code_that_is_missing_here_is_left_to_others(celery_bench: CeleryBench) -> None:
    run, ask = celery_bench.ask("elsewhere")
    assert celery_bench.deliver(ask).word == "unknown-activity"
    row = celery_bench.row(run)
    assert (row.state, row.attempt) == (TaskState.AVAILABLE, 1)
    assert row.available_at > celery_bench.desk.now_us()


def test_a_database_that_is_away_at_the_claim_leaves_the_row(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_bench.declare(lambda: None)
    run, ask = celery_bench.ask("<lambda>")
    monkeypatch.setattr(celery_bench.journal.tasks, "claim_dispatched", away)
    assert celery_bench.deliver(ask).word == "journal-away"
    assert celery_bench.row(run).state == TaskState.DISPATCHED


def test_a_claim_whose_answer_was_lost_is_put_back_uncounted(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_bench.declare(lambda: None)
    run, ask = celery_bench.ask("<lambda>")
    tasks = celery_bench.journal.tasks
    claim, put_back, refused = tasks.claim_dispatched, tasks.put_back, []

    def lost(*arguments: Any) -> Any:
        assert claim(*arguments)
        away()

    def away_at_first(*arguments: Any) -> int:
        if len(refused) < 2:
            refused.append(arguments)
            away()
        return put_back(*arguments)

    monkeypatch.setattr(tasks, "claim_dispatched", lost)
    monkeypatch.setattr(tasks, "put_back", away_at_first)
    assert celery_bench.deliver(ask).word == "journal-away"
    row = celery_bench.row(run)
    assert (row.state, row.attempt) == (TaskState.AVAILABLE, 1)


def test_a_bug_of_the_driver_at_the_claim_is_not_celerys_business(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise TypeError("driver")

    celery_bench.declare(lambda: None)
    _, ask = celery_bench.ask("<lambda>")
    monkeypatch.setattr(celery_bench.journal.tasks, "claim_dispatched", broken)
    assert celery_bench.deliver(ask).word == "journal-away"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_a_body_forks_does_not_report_its_attempt(celery_bench: CeleryBench) -> None:
    process = os.getpid()

    def charge() -> int:
        forked = os.fork()
        if forked == 0:
            sys.exit(3)  # and not os._exit(), as it should
        return os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])

    try:
        assert celery_bench.run(charge).word == "done"
    finally:
        if os.getpid() != process:
            os._exit(9)
    assert celery_bench.letters() == [("activity_completed", 0, "1")]


# ------------------------------------------------------------------ the journal is away later


@pytest.mark.parametrize("method", ["finish_many", "retry"])
def test_an_outcome_is_reported_again_until_the_journal_has_heard(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def charge() -> None:
        if method == "retry":
            raise ValueError("no funds")

    tasks = celery_bench.journal.tasks
    monkeypatch.setattr(tasks, method, failing(3, getattr(tasks, method)))
    assert celery_bench.run(charge).word == {"finish_many": "done", "retry": "retry"}[method]


def test_a_report_is_given_up_when_no_lease_can_live_that_long(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_bench.journal.tasks, "finish_many", away)

    def charge() -> int:
        return 1

    assert celery_bench.run(charge).word == "journal-away"
    [row] = celery_bench.rows()
    assert row.state == TaskState.LEASED, "the keeper misses it, or the reaper sweeps it"


def test_a_key_that_could_not_be_looked_up_is_looked_up_again(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def charge() -> None:
        ran.append(1)

    celery_bench.declare(charge)
    _, ask = celery_bench.ask("charge", key="order-1")
    tasks = celery_bench.journal.tasks
    monkeypatch.setattr(tasks, "find_result", failing(2, tasks.find_result))
    assert celery_bench.deliver(ask).word == "done"
    assert ran == [1]


def test_what_could_not_begin_is_put_back_uncounted(celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def charge() -> None: ...

    celery_bench.declare(charge)
    _, ask = celery_bench.ask("charge", key="order-1")
    # Every pooled connection is in use, by bodies that keep theirs for longer than a lease.
    monkeypatch.setattr(celery_bench.journal.tasks, "find_result", away)
    assert celery_bench.deliver(ask).word == "put-back"
    assert [(row.state, row.attempt) for row in celery_bench.rows()] == [(TaskState.AVAILABLE, 1)]


def test_what_could_neither_begin_nor_be_put_back_is_left_to_be_missed(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def charge() -> None: ...

    celery_bench.declare(charge)
    _, ask = celery_bench.ask("charge", key="order-1")
    for method in ("find_result", "put_back"):
        monkeypatch.setattr(celery_bench.journal.tasks, method, away)
    assert celery_bench.deliver(ask).word == "journal-away"
    assert [row.state for row in celery_bench.rows()] == [TaskState.LEASED]


def test_a_transaction_whose_body_has_run_is_not_put_back(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def charge(connection: Any) -> None: ...

    celery_bench.declare(charge, transactional=True)
    _, ask = celery_bench.ask("charge")
    tasks = celery_bench.journal.tasks
    real = tasks.transaction

    @contextmanager
    def lost(worker: WorkerId) -> Iterator[Any]:
        with real(worker) as transaction:
            yield transaction
            away()

    monkeypatch.setattr(tasks, "transaction", lost)
    assert celery_bench.deliver(ask).word == "journal-away"
    assert [row.state for row in celery_bench.rows()] == [TaskState.LEASED]


def test_a_result_that_the_journal_refuses_fails_the_activity(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from continuum.errors import CodecError

    real = celery_bench.journal.tasks.finish_many

    def picky(worker: WorkerId, outcomes: Any) -> Any:
        if any(outcome.payload for outcome in outcomes):
            raise CodecError("a zero byte", path="result")
        return real(worker, outcomes)

    monkeypatch.setattr(celery_bench.journal.tasks, "finish_many", picky)

    def charge() -> str:
        return "x"

    verdict = celery_bench.run(charge)
    assert verdict.word == "failed"
    assert celery_bench.failure().permanent


# ------------------------------------------------------------------ nobody waits


def test_an_outcome_that_comes_after_the_next_attempt_began_is_late(celery_bench: CeleryBench) -> None:
    def charge() -> int:
        [task] = celery_bench.journal.tasks.held(celery_bench.worker)
        ref = TaskRef(task.run_id, task.command, task.attempt)
        from tests.support.journals import FAILURE

        assert celery_bench.journal.tasks.abandon(celery_bench.worker, ref, failure=FAILURE)
        again = TaskRef(ref.run_id, ref.command, 2)
        assert celery_bench.journal.tasks.claim_dispatched(celery_bench.worker, [again])
        return 1

    assert celery_bench.run(charge).word == "late"
    assert celery_bench.letters() == []


def test_heartbeats_are_written_at_once_and_then_once_a_second(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str | None] = []
    tasks = celery_bench.journal.tasks
    real = tasks.progress

    def progress(*args: Any, details: str | None) -> bool:
        written.append(details)
        return real(*args, details=details)

    monkeypatch.setattr(tasks, "progress", progress)

    def charge() -> None:
        for number in range(50):
            current_attempt().heartbeat(number)
        raise ValueError("no funds")

    assert celery_bench.run(charge).word == "retry"
    assert written == ["0", "49"], "the last one goes with the retry"
    [row] = celery_bench.rows()
    assert row.heartbeat == "49"


def test_a_body_whose_claim_is_gone_is_told_at_its_heartbeat(celery_bench: CeleryBench) -> None:
    seen: list[bool] = []

    def charge() -> None:
        [task] = celery_bench.journal.tasks.held(celery_bench.worker)
        celery_bench.journal.tasks.put_back(celery_bench.worker, [task])
        current_attempt().heartbeat()
        seen.append(current_attempt().cancelled)

    celery_bench.run(charge)
    assert seen == [True]
