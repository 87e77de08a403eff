"""How adapted Celery tasks end: retries as they ask for them, other ends, hooks and signals."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Self

import pytest
from celery import Celery, Task, _state, signals
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, SoftTimeLimitExceeded

from continuum import activity
from continuum.declare.activities import Activity
from continuum.errors import PermanentError, RetryAfter
from tests.support.adapted import perform

# ------------------------------------------------------------------ retries


def test_self_retry_becomes_retry_after_with_the_same_pause(app: Celery) -> None:
    @app.task(name="t.retry", bind=True)
    def task(self: Any, **options: Any) -> None:
        raise self.retry(exc=ValueError("boom"), **options)

    step = activity.from_celery(task)
    with pytest.raises(RetryAfter, match="boom") as caught:
        perform(step, countdown=5)
    assert caught.value.delay == timedelta(seconds=5)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(RetryAfter) as caught:
        perform(step)
    assert caught.value.delay == timedelta(minutes=3)
    with pytest.raises(RetryAfter) as caught:
        perform(step, countdown=0)
    assert caught.value.delay == timedelta(0)
    for eta in (app.now() + timedelta(hours=1), (app.now() + timedelta(hours=1)).replace(tzinfo=None)):
        with pytest.raises(RetryAfter) as caught:
            perform(step, eta=eta)
        assert timedelta(minutes=59) < caught.value.delay <= timedelta(hours=1)
    with pytest.raises(RetryAfter) as caught:
        perform(step, eta=app.now() - timedelta(hours=1))
    assert caught.value.delay == timedelta(0)


def test_retries_end_as_the_task_says(app: Celery) -> None:
    @app.task(name="t.exhausted", bind=True, max_retries=2)
    def task(self: Any, *, limit: int | None = None, why: bool = True) -> None:
        raise self.retry(exc=ValueError("boom") if why else None, countdown=1, max_retries=limit)

    step = activity.from_celery(task)
    for number in (1, 2):
        with pytest.raises(RetryAfter):
            perform(step, number=number)
    with pytest.raises(ValueError, match="boom"):
        perform(step, number=3)
    with pytest.raises(MaxRetriesExceededError):
        perform(step, number=3, why=False)
    with pytest.raises(ValueError, match="boom"):
        perform(step, number=2, limit=1)
    with pytest.raises(RetryAfter):
        perform(step, number=3, limit=5)


def test_autoretry_backs_off_as_the_task_says(app: Celery) -> None:
    @app.task(name="t.auto", autoretry_for=(KeyError,), retry_backoff=2, retry_jitter=False, max_retries=3)
    def task(error: str) -> None:
        raise KeyError(error) if error == "key" else ValueError(error)

    step = activity.from_celery(task)
    pauses = []
    for number in (1, 2, 3):
        with pytest.raises(RetryAfter) as caught:
            perform(step, "key", number=number)
        pauses.append(caught.value.delay.total_seconds())
    assert pauses == [2, 4, 8]
    with pytest.raises(KeyError):
        perform(step, "key", number=4)
    with pytest.raises(ValueError, match="other"):
        perform(step, "other")


def test_jitter_stays_within_the_backoff(app: Celery) -> None:
    @app.task(name="t.jitter", autoretry_for=(KeyError,), retry_backoff=100, retry_backoff_max=150)
    def task() -> None:
        raise KeyError

    step = activity.from_celery(task)
    for number in (1, 3):
        with pytest.raises(RetryAfter) as caught:
            perform(step, number=number)
        assert timedelta(0) <= caught.value.delay <= timedelta(seconds=150)


def test_a_retry_that_is_returned_instead_of_raised_is_not_lost(app: Celery) -> None:
    @app.task(name="t.unthrown", bind=True)
    def task(self: Any) -> Any:
        return self.retry(countdown=3, throw=False)

    with pytest.raises(RetryAfter) as caught:
        perform(activity.from_celery(task))
    assert caught.value.delay == timedelta(seconds=3)


def test_a_retry_with_other_arguments_is_refused(app: Celery) -> None:
    @app.task(name="t.other_args", bind=True)
    def task(self: Any, n: int) -> None:
        raise self.retry(args=(n + 1,), countdown=1)

    with pytest.raises(PermanentError, match="asked for a retry with other arguments"):
        perform(activity.from_celery(task), 1)


def test_a_retry_that_repeats_the_arguments_is_a_retry(app: Celery) -> None:
    @app.task(name="t.same_args", bind=True)
    def task(self: Any, n: int) -> None:
        raise self.retry(args=[n], kwargs={}, countdown=1)

    with pytest.raises(RetryAfter):
        perform(activity.from_celery(task), 1000_000)


# ------------------------------------------------------------------ other ends


@pytest.mark.parametrize("error", [Reject("bad", requeue=True), Ignore()])
def test_reject_and_ignore_are_final_and_say_what_to_write(app: Celery, error: Exception) -> None:
    @app.task(name="t.reject")
    def task() -> None:
        raise error

    with pytest.raises(PermanentError, match="An activity has none: raise another exception"):
        perform(activity.from_celery(task))


def test_replace_is_refused_clearly_also_where_every_exception_is_retried(app: Celery) -> None:
    @app.task(name="t.other")
    def other() -> str:
        raise AssertionError

    def replacing(self: Any) -> Any:
        return self.replace(other.s())

    for options in ({}, {"autoretry_for": (Exception,)}):
        task = app.task(name=f"t.replace{len(options)}", bind=True, **options)(replacing)
        with pytest.raises(PermanentError, match=r"self\.replace\(\) is not possible in an activity"):
            perform(activity.from_celery(task))


def test_other_exceptions_pass_unchanged(app: Celery) -> None:
    @app.task(name="t.raises", throws=(LookupError,))
    def task(error: Exception) -> None:
        raise error

    step = activity.from_celery(task)
    for error in (ValueError("v"), LookupError("expected"), SoftTimeLimitExceeded()):
        with pytest.raises(type(error)) as caught:
            perform(step, error)
        assert caught.value is error
    assert _state.get_current_task() is None


def test_update_state_and_events_of_a_task_harm_nothing(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    @app.task(name="t.state", bind=True)
    def task(self: Any) -> str:
        self.update_state(state="PROGRESS", meta={"done": 1})
        self.send_event("task-progress", done=1)
        return "done"

    class Events:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def send(self, kind: str, **fields: Any) -> None:
            sent.append(f"{kind} {fields['uuid']}")

    monkeypatch.setattr(app.events, "default_dispatcher", lambda **_: Events())
    assert perform(activity.from_celery(task)) == "done"
    assert sent == ["task-progress run-1.7"]


# ------------------------------------------------------------------ hooks and signals


class Telling(Task):
    abstract = True
    told: list[tuple[Any, ...]]

    def before_start(self, *given: Any) -> None:
        self.told.append(("before_start", *given))

    def on_success(self, retval: Any, *given: Any) -> None:
        self.told.append(("on_success", retval, *given))
        raise RuntimeError("of no consequence")

    def on_failure(self, exc: Any, *given: Any) -> None:
        self.told.append(("on_failure", type(exc).__name__, *given[:-1], "boom" in str(given[-1])))

    def on_retry(self, exc: Any, *given: Any) -> None:
        self.told.append(("on_retry", type(exc).__name__, *given[:-1], "boom" in str(given[-1])))

    def after_return(self, status: str, retval: Any, *given: Any) -> None:
        self.told.append(("after_return", status, str(retval), *given))


@pytest.fixture
def telling(app: Celery) -> tuple[Activity[..., Any], list[tuple[Any, ...]]]:
    Telling.told = []

    @app.task(name="t.hooks", base=Telling, bind=True)
    def task(self: Any, what: str) -> str:
        if what == "retry":
            raise self.retry(exc=OSError("boom"), countdown=1)
        if what == "fail":
            raise ValueError("boom")
        if what == "reject":
            raise Reject("boom")
        return what

    return activity.from_celery(task), Telling.told


ID = "run-1.7"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (
            "fine",
            [("on_success", "fine", ID, ("fine",), {}), ("after_return", "SUCCESS", "fine", ID, ("fine",), {}, None)],
        ),
        (
            "fail",
            [
                ("on_failure", "ValueError", ID, ("fail",), {}, True),
                ("after_return", "FAILURE", "boom", ID, ("fail",), {}, None),
            ],
        ),
        ("retry", [("on_retry", "OSError", ID, ("retry",), {}, True)]),
        ("reject", []),
    ],
)
def test_hooks_are_called_as_celery_calls_them(
    telling: tuple[Activity[..., Any], list[tuple[Any, ...]]], what: str, expected: list[Any]
) -> None:
    step, told = telling
    try:
        perform(step, what)
    except Exception:
        assert what != "fine"
    assert told == [("before_start", ID, (what,), {}), *expected]


def test_signals_name_the_task_and_its_end(telling: tuple[Activity[..., Any], list[tuple[Any, ...]]]) -> None:
    step, _ = telling
    heard: list[tuple[str, str]] = []

    def listen(name: str) -> Callable[..., None]:
        return lambda sender, **fields: heard.append((name, str(fields.get("state", sender.name))))

    names = ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry")
    listeners = {name: listen(name) for name in names}
    for name, listener in listeners.items():
        getattr(signals, name).connect(listener, weak=False)
    try:
        for what in ("fine", "fail", "retry", "reject"):
            try:
                perform(step, what)
            except Exception:
                assert what != "fine"
    finally:
        for name, listener in listeners.items():
            getattr(signals, name).disconnect(listener)
    mine = "t.hooks"
    assert heard == [
        ("task_prerun", mine), ("task_success", mine), ("task_postrun", "SUCCESS"),
        ("task_prerun", mine), ("task_failure", mine), ("task_postrun", "FAILURE"),
        ("task_prerun", mine), ("task_retry", mine), ("task_postrun", "RETRY"),
        ("task_prerun", mine), ("task_postrun", "REJECTED"),
    ]  # fmt: skip
