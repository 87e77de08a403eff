"""What the main process does for messages: the lease on the way in, and what died on the way out."""

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.exceptions import Retry, TaskRevokedError
from celery.worker import state
from celery.worker.request import create_request_cls

from continuum.celery_executor import requests
from continuum.celery_executor.keeper import install
from continuum.celery_executor.messages import TASK_NAME, WORKER_KEY, celery_id, to_args
from continuum.celery_executor.requests import ActivityRequest, list_active
from continuum.celery_executor.tasks import register
from continuum.model.failures import FailureKind
from continuum.model.ids import RunId
from continuum.model.tasks import TaskRef

REF = TaskRef(RunId("0198a000-0000-7000-8000-000000000001"), 4, 2)
SHOP = "shop-of-requests"


class FakeKeeper:
    """Notes what it is told."""

    here = True

    def __init__(self) -> None:
        self.worker: str | None = "worker-1"
        self.deaths: list[tuple[TaskRef, FailureKind, str | None]] = []
        self.put_offs: list[TaskRef] = []

    def died(self, ref: TaskRef, failure: Any, *, worker: str | None = None) -> None:
        self.deaths.append((ref, failure.kind, worker))

    def put_off(self, ref: TaskRef) -> None:
        self.put_offs.append(ref)


@pytest.fixture
def keeper() -> Iterator[FakeKeeper]:
    made = FakeKeeper()
    install(SHOP, made)  # type: ignore[arg-type]
    yield made
    install(SHOP, None)


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Return a maker of requests, of the class that Celery derives from ours, with the pool's calls in `.calls`."""
    app = Celery("requests", broker="memory://", set_as_current=False)
    app.finalize()
    register(app)
    task = app.tasks[TASK_NAME]
    calls: list[dict[str, Any]] = []
    pool = SimpleNamespace(apply_async=lambda _trace, **kwargs: calls.append(kwargs), terminate_job=Mock())
    derived = create_request_cls(ActivityRequest, task, pool, "celery@here", None, app=app)
    numbers = iter(range(1, 100))

    def make_one(args: list[Any] | None = None, **headers: Any) -> Any:
        ident = celery_id(REF, next(numbers))
        wanted = to_args(SHOP, REF, "mail.send") if args is None else args
        message = SimpleNamespace(
            headers={"id": ident, "task": TASK_NAME, "shadow": "mail.send", **headers},
            body=None,
            payload=(wanted, {}, {}),
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={},
            properties={},
        )
        made = derived(message, on_ack=Mock(), on_reject=Mock(), app=app, hostname="celery@here", task=task)
        made.pool, made.calls = pool, calls
        return made

    yield make_one
    state.reset_state()
    with requests._lock:
        requests._begun.clear()


def raised(error: BaseException) -> ExceptionInfo:
    try:
        raise error  # noqa: TRY301 - for its traceback
    except BaseException:
        return ExceptionInfo()


def test_the_pool_is_given_the_id_of_the_present_lease(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    request = make()
    request.execute_using_pool(request.pool)
    keeper.worker = "worker-2"
    again = make()
    again.execute_using_pool(again.pool)
    assert [call["args"][2][WORKER_KEY] for call in request.calls] == ["worker-1", "worker-2"]


def test_without_a_lease_there_is_no_id_whatever_the_message_says(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    keeper.worker = None
    request = make(**{WORKER_KEY: "forged"})
    request.execute_using_pool(request.pool)
    assert request.calls[0]["args"][2][WORKER_KEY] is None


def test_a_message_that_is_none_of_ours_goes_its_way(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    request = make(args=["?"])
    request.execute_using_pool(request.pool)
    request.on_accepted(1, 0.0)
    request.on_failure(raised(WorkerLostError("gone")))
    assert keeper.deaths == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WorkerLostError("signal 9"), FailureKind.WORKER_DIED),
        (Terminated(-15), FailureKind.WORKER_DIED),
        (SystemExit(1), FailureKind.WORKER_DIED),
        (TimeLimitExceeded(3), FailureKind.TIMED_OUT),
    ],
)
def test_a_death_is_told_with_the_id_it_had(
    make: Callable[..., Any], keeper: FakeKeeper, error: BaseException, kind: FailureKind
) -> None:
    request = make()
    request.execute_using_pool(request.pool)
    request.on_accepted(1, 0.0)
    keeper.worker = "worker-2"
    request.on_failure(raised(error))
    assert keeper.deaths == [(REF, kind, "worker-1")]
    assert list_active(SHOP) == frozenset()


def test_a_hard_limit_is_told_and_a_soft_one_is_not(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    request = make()
    request.execute_using_pool(request.pool)
    request.on_accepted(1, 0.0)
    request.on_timeout(True, 1)
    assert keeper.deaths == []
    request.on_timeout(False, 2)
    assert [kind for _, kind, _ in keeper.deaths] == [FailureKind.TIMED_OUT]


@pytest.mark.parametrize("error", [ValueError("no"), Retry("later", exc=ValueError("no"), when=1)])
def test_what_the_body_raised_was_told_by_its_process(
    make: Callable[..., Any], keeper: FakeKeeper, error: Exception
) -> None:
    request = make()
    request.execute_using_pool(request.pool)
    request.on_accepted(1, 0.0)
    request.on_success((True, raised(error), 0.1))
    assert keeper.deaths == []


def test_an_attempt_is_active_from_its_acceptance_to_its_end(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    request = make()
    request.execute_using_pool(request.pool)
    assert list_active(SHOP) == frozenset()
    request.on_accepted(1, 0.0)
    assert list_active(SHOP) == {REF}
    assert list_active("another") == frozenset()
    request.on_success((False, "done", 0.1))
    request.calls.clear()  # as the pool forgets the job
    del request
    gc.collect()
    assert list_active(SHOP) == frozenset()


def test_what_is_gone_with_its_process_is_not_active_though_no_hook_was_called(
    make: Callable[..., Any], keeper: FakeKeeper
) -> None:
    request = make()
    request.execute_using_pool(request.pool)
    child = subprocess.Popen([sys.executable, "-c", ""])
    request.on_accepted(child.pid, 0.0)
    child.wait()
    assert list_active(SHOP) == frozenset()


def test_a_message_that_somebody_revoked_is_put_off(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    request = make()
    state.revoked.add(request.id)
    with pytest.raises(TaskRevokedError):
        request.execute_using_pool(request.pool)
    assert keeper.put_offs == [REF]


def test_a_message_that_has_expired_is_left_to_its_deadline(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    request = make(expires="2020-01-01T00:00:00+00:00")
    with pytest.raises(TaskRevokedError):
        request.execute_using_pool(request.pool)
    assert keeper.put_offs == []


def test_a_keeper_that_fails_does_not_stop_the_pool(make: Callable[..., Any], keeper: FakeKeeper) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    keeper.died = broken  # type: ignore[method-assign]
    request = make()
    request.execute_using_pool(request.pool)
    request.on_failure(raised(WorkerLostError("gone")))


def test_who_is_terminated_was_summoned(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[int | None] = []
    monkeypatch.setattr(requests, "summon", named.append)
    request = make()
    request.on_accepted(4711, 0.0)
    request.terminate(request.pool, "TERM")
    assert named == [4711]
