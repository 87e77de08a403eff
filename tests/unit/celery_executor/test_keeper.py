"""The keeper: the lease of a Celery worker, the deaths in its pool, attempts that nobody can end."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum.celery_executor import keeper as keepers
from continuum.celery_executor.keeper import Keeper, find_keeper, install
from continuum.celery_executor.notices import lost
from continuum.declare.attempts import current_attempt
from continuum.errors import JournalUnavailable
from continuum.model.failures import FailureKind
from continuum.model.ids import WorkerId
from continuum.model.policies import Retry
from continuum.model.tasks import TaskRef, TaskState
from tests.support.celery_bench import CeleryBench
from tests.support.eventually import eventually

SECOND = timedelta(seconds=1)


@pytest.fixture
def active() -> set[TaskRef]:
    """Return what the pool has begun and not ended."""
    return set()


@pytest.fixture
def running() -> set[TaskRef]:
    """Return what the pool's children say they are busy with."""
    return set()


@pytest.fixture
def keeper(celery_bench: CeleryBench, active: set[TaskRef], running: set[TaskRef]) -> Iterator[Keeper]:
    """Yield a keeper whose thread is not started: `run_once` is called by hand."""
    made = Keeper(
        settings=celery_bench.instance.settings,
        journal=lambda: celery_bench.journal,
        hostname="celery@here",
        queues=("mail",),
        active=lambda: frozenset(active),
        running=lambda: frozenset(running),
    )
    yield made
    install(celery_bench.instance.settings.name, None)
    made.stop()


def claimed(bench: CeleryBench, worker: WorkerId | None, **policy: Any) -> TaskRef:
    """Let the worker claim a new task."""
    assert worker is not None
    _, ask = bench.ask("charge", **policy)
    assert bench.journal.tasks.claim_dispatched(worker, [ask.ref])
    return ask.ref


def away(*_: Any, **__: Any) -> Any:
    raise JournalUnavailable("the database is away")


def later(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let time pass for the keeper."""
    real = keepers.time.monotonic
    monkeypatch.setattr(keepers.time, "monotonic", lambda: real() + seconds)


# ------------------------------------------------------------------ the lease


def test_a_keeper_registers_its_process(celery_bench: CeleryBench, keeper: Keeper) -> None:
    assert keeper.worker is None
    keeper.run_once()
    [row] = [row for row in celery_bench.journal.workers.list_workers() if row.id == keeper.worker]
    assert (row.hostname, row.pid, row.alive) == ("celery@here", os.getpid(), True)


def test_the_lease_is_not_trusted_as_long_as_the_database_does(
    celery_bench: CeleryBench, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.run_once()
    worker = keeper.worker
    monkeypatch.setattr(celery_bench.journal.workers, "beat", away)
    later(keeper, monkeypatch, 0.95)  # of one second
    assert keeper.worker is None
    with pytest.raises(JournalUnavailable):
        keeper.run_once()
    monkeypatch.undo()
    keeper._beat_at = 0.0
    keeper.run_once()
    assert keeper.worker == worker, "its row is still there, and with it all its claims"


def test_a_worker_whose_row_is_gone_takes_a_new_id(celery_bench: CeleryBench, keeper: Keeper) -> None:
    keeper.run_once()
    first = keeper.worker
    assert first is not None
    celery_bench.journal.workers.deregister(first)
    keeper._beat_at = 0.0
    keeper.run_once()
    assert keeper.worker not in {None, first}


def test_a_beat_that_fails_is_tried_again_soon(
    celery_bench: CeleryBench, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_bench.journal.workers, "register", away)
    keeper.start()
    assert not keeper.registered.wait(0.3)
    monkeypatch.undo()
    assert keeper.registered.wait(20)


def test_the_end_gives_the_lease_up(celery_bench: CeleryBench, keeper: Keeper) -> None:
    keeper.start()
    assert keeper.registered.wait(20)
    worker = keeper.worker
    assert keeper.stop()
    assert keeper.worker is None
    assert worker not in {row.id for row in celery_bench.journal.workers.list_workers()}


def test_clocks_that_disagree_are_mentioned_once(
    celery_bench: CeleryBench, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 300)
    for _ in range(2):
        keeper._beat_at = 0.0
        keeper.run_once()
    assert [record.getMessage() for record in caplog.records if "clock" in record.getMessage()] != []
    assert sum("clock" in record.getMessage() for record in caplog.records) == 1


# ------------------------------------------------------------------ deaths and deferrals


def test_a_death_frees_the_next_attempt(celery_bench: CeleryBench, keeper: Keeper) -> None:
    keeper.run_once()
    ref = claimed(celery_bench, keeper.worker)
    keeper.died(ref, lost(ref, "killed"))
    keeper.run_once()
    [row] = celery_bench.rows()
    assert (row.state, row.attempt) == (TaskState.AVAILABLE, 2)
    assert row.last_error is not None
    assert row.last_error.kind is FailureKind.WORKER_DIED


def test_a_death_in_the_last_attempt_fails_the_activity(celery_bench: CeleryBench, keeper: Keeper) -> None:
    keeper.run_once()
    ref = claimed(celery_bench, keeper.worker, retry=Retry(max_attempts=1))
    keeper.died(ref, lost(ref, "killed", kind=FailureKind.TIMED_OUT))
    keeper.run_once()
    assert celery_bench.failure().kind is FailureKind.TIMED_OUT


def test_a_death_that_is_told_twice_counts_once(celery_bench: CeleryBench, keeper: Keeper) -> None:
    keeper.run_once()
    ref = claimed(celery_bench, keeper.worker)
    for _ in range(2):
        keeper.died(ref, lost(ref, "killed"))
    keeper.run_once()
    assert [row.attempt for row in celery_bench.rows()] == [2]


def test_a_death_waits_for_the_database(
    celery_bench: CeleryBench, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.run_once()
    ref = claimed(celery_bench, keeper.worker)
    monkeypatch.setattr(celery_bench.journal.tasks, "abandon", away)
    keeper.died(ref, lost(ref, "killed"))
    for _ in range(3):
        with pytest.raises(JournalUnavailable):
            keeper.run_once()
    monkeypatch.undo()
    keeper.run_once()
    assert [row.attempt for row in celery_bench.rows()] == [2]


def test_a_death_under_an_earlier_id_is_written_under_that(celery_bench: CeleryBench, keeper: Keeper) -> None:
    keeper.run_once()
    ref = claimed(celery_bench, celery_bench.worker)
    keeper.died(ref, lost(ref, "killed"), worker=celery_bench.worker)
    keeper.run_once()
    assert [row.attempt for row in celery_bench.rows()] == [2]


def test_an_attempt_that_came_back_to_the_same_worker_is_not_mourned(
    celery_bench: CeleryBench, keeper: Keeper, active: set[TaskRef]
) -> None:
    keeper.run_once()
    ref = claimed(celery_bench, keeper.worker)
    active.add(ref)  # its first process put it back, and another runs it now
    keeper.died(ref, lost(ref, "killed"))
    keeper.run_once()
    assert [(row.state, row.attempt) for row in celery_bench.rows()] == [(TaskState.LEASED, 1)]


def test_a_message_that_is_not_executed_here_is_offered_again(celery_bench: CeleryBench, keeper: Keeper) -> None:
    _, ask = celery_bench.ask("charge")
    keeper.put_off(ask.ref)
    keeper.run_once()
    assert [(row.state, row.attempt) for row in celery_bench.rows()] == [(TaskState.AVAILABLE, 1)]


def test_what_is_left_to_say_is_said_at_the_end(celery_bench: CeleryBench, keeper: Keeper) -> None:
    keeper.run_once()
    ref = claimed(celery_bench, keeper.worker)
    keeper.died(ref, lost(ref, "killed"))
    keeper.stop()
    assert [row.attempt for row in celery_bench.rows()] == [2]


# ------------------------------------------------------------------ what is held without being run


def test_a_claim_that_nobody_runs_is_given_up_after_a_while(
    celery_bench: CeleryBench, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.run_once()
    claimed(celery_bench, keeper.worker)
    keeper._reconcile_at = 0.0
    keeper.run_once()
    assert [row.attempt for row in celery_bench.rows()] == [1], "its parent may not have heard of it yet"
    later(keeper, monkeypatch, 5.5)
    keeper.run_once()
    keeper.run_once()
    assert [row.attempt for row in celery_bench.rows()] == [2]


def test_what_the_pool_runs_is_left_alone(
    celery_bench: CeleryBench, keeper: Keeper, active: set[TaskRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.run_once()
    active.add(claimed(celery_bench, keeper.worker))
    for seconds in (0.0, 20.0, 20.0):
        later(keeper, monkeypatch, seconds)
        keeper._reconcile_at = 0.0
        keeper.run_once()
    assert [row.attempt for row in celery_bench.rows()] == [1]


def test_what_a_child_says_it_runs_is_left_alone_though_the_pool_has_not_heard_of_it(
    celery_bench: CeleryBench, keeper: Keeper, running: set[TaskRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.run_once()
    running.add(claimed(celery_bench, keeper.worker))
    for seconds in (0.0, 20.0, 20.0):
        later(keeper, monkeypatch, seconds)
        keeper._reconcile_at = 0.0
        keeper.run_once()
    assert [row.attempt for row in celery_bench.rows()] == [1]


# ------------------------------------------------------------------ attempts in this process


def in_thread(bench: CeleryBench, keeper: Keeper, function: Callable[[], Any], **policy: Any) -> tuple[Any, list[str]]:
    """Deliver a message on a thread, as the threads pool does."""
    keeper.start()
    assert keeper.registered.wait(20)
    install(bench.instance.settings.name, keeper)
    bench.declare(function, **policy)
    _, ask = bench.ask(function.__name__)
    words: list[str] = []
    thread = threading.Thread(target=lambda: words.append(bench.deliver(ask, worker=keeper.worker).word))
    thread.start()
    return thread, words


@pytest.mark.parametrize("limit", ["timeout", "heartbeat_timeout"])
def test_an_attempt_that_no_pool_can_end_is_ended_on_paper(
    celery_bench: CeleryBench, keeper: Keeper, limit: str
) -> None:
    told, go = threading.Event(), threading.Event()

    def stubborn() -> int:
        attempt = current_attempt()
        while not attempt.cancelled:
            go.wait(0.01)
        told.set()
        return 1

    thread, words = in_thread(celery_bench, keeper, stubborn, **{limit: timedelta(milliseconds=50)})
    assert told.wait(20)
    thread.join(20)
    assert words == ["late"]
    eventually(lambda: [row.attempt for row in celery_bench.rows()] == [2], 20)
    [row] = celery_bench.rows()
    assert row.last_error is not None
    assert row.last_error.kind == {"timeout": "timed_out", "heartbeat_timeout": "heartbeat_timed_out"}[limit]
    assert "stubborn" in row.last_error.traceback


def test_the_last_attempt_that_passes_its_limit_fails_the_activity(celery_bench: CeleryBench, keeper: Keeper) -> None:
    def stubborn() -> None:
        while not current_attempt().cancelled:
            threading.Event().wait(0.01)

    thread, _ = in_thread(
        celery_bench, keeper, stubborn, timeout=timedelta(milliseconds=50), retry=Retry(max_attempts=1)
    )
    thread.join(20)
    eventually(lambda: celery_bench.rows() == [], 20)
    assert celery_bench.failure().kind is FailureKind.TIMED_OUT


def test_bodies_here_are_told_when_the_lease_is_lost(celery_bench: CeleryBench, keeper: Keeper) -> None:
    begun = threading.Event()

    def patient() -> None:
        begun.set()
        while not current_attempt().cancelled:
            threading.Event().wait(0.01)

    thread, _ = in_thread(celery_bench, keeper, patient)
    assert begun.wait(20)
    worker = keeper.worker
    assert worker is not None
    celery_bench.journal.workers.deregister(worker)
    thread.join(20)
    assert not thread.is_alive()


def test_a_keeper_is_found_in_its_own_process_only(celery_bench: CeleryBench, keeper: Keeper) -> None:
    install("shop", keeper)
    assert find_keeper("shop") is keeper
    keeper._pid += 1
    assert find_keeper("shop") is None
    install("shop", None)
    assert find_keeper("shop") is None
