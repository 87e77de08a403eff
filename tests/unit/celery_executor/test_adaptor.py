"""Existing Celery tasks as activities: declared without waking their app, run as Celery would run them."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from celery import Celery, Task, _state, current_app, current_task, shared_task, signals
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, SoftTimeLimitExceeded
from pydantic import BaseModel

from continuum import activity
from continuum.declare.activities import Activity
from continuum.declare.attempts import Attempt
from continuum.errors import DeclarationError, PermanentError, RetryAfter
from continuum.model.ids import RunId
from continuum.model.policies import Retry

NOBODY = "redis://127.0.0.1:1/0"  # whatever would be published fails


@pytest.fixture
def app() -> Iterator[Celery]:
    before = _state._tls.current_app, _state.default_app, set(_state._on_app_finalizers)
    _state._tls.current_app = _state.default_app = None
    made = Celery("shop", broker=NOBODY, set_as_current=False)
    yield made
    made.close()
    _state._tls.current_app, _state.default_app, finalizers = before
    _state._on_app_finalizers.intersection_update(finalizers)  # tasks of one test are none of the next one's


def perform(step: Activity[..., Any], *args: Any, number: int = 1, **kwargs: Any) -> Any:
    attempt = Attempt(number=number, run_id=RunId("run-1"), command=7, activity=step.name)
    with attempt.bound():
        return step.function(*args, **kwargs)


# ------------------------------------------------------------------ declaring


def test_the_activity_has_the_name_signature_and_limits_of_the_task(app: Celery) -> None:
    @app.task(name="mail.send", bind=True, max_retries=5, time_limit=30)
    def send(self: Any, to: str, *, subject: str = "hi") -> str:
        return f"{to}: {subject}"

    step = activity.from_celery(send)
    assert step.name == "mail.send"
    assert step.policy.retry == Retry(max_attempts=6, gives_up=True)
    assert step.gives_up
    assert step.policy.timeout == timedelta(seconds=30)
    assert step.policy.queue is None
    assert step.location.startswith(__file__)
    assert step.decode_arguments('{"args":["a"],"kwargs":{"subject":"b"}}') == (("a",), {"subject": "b"})
    assert perform(step, "a", subject="b") == "a: b"


@pytest.mark.parametrize(
    ("options", "attempts", "timeout"),
    [
        ({}, 4, timedelta(hours=24)),
        ({"max_retries": 0}, 1, timedelta(hours=24)),
        ({"max_retries": None}, 1000, timedelta(hours=24)),
        ({"max_retries": 5000, "time_limit": 10**6}, 1000, timedelta(hours=24)),
        ({"soft_time_limit": 20}, 4, timedelta(seconds=80)),
        ({"time_limit": 25, "soft_time_limit": 20}, 4, timedelta(seconds=25)),
        ({"autoretry_for": (OSError,), "retry_kwargs": {"max_retries": 9}}, 10, timedelta(hours=24)),
    ],
)
@pytest.mark.parametrize("made", [False, True], ids=["promise", "made"])
def test_retries_and_limits_become_the_policy(
    app: Celery, options: dict[str, Any], attempts: int, timeout: timedelta, made: bool
) -> None:
    @app.task(name="t.policy", **options)
    def task() -> None: ...

    if made:
        app.finalize()
    policy = activity.from_celery(task).policy
    assert (policy.retry.max_attempts, policy.timeout) == (attempts, timeout)


def test_options_of_the_base_class_count(app: Celery) -> None:
    class Patient(Task):
        abstract = True
        max_retries = 11

    @app.task(name="t.base", base=Patient)
    def task() -> None: ...

    assert activity.from_celery(task).policy.retry.max_attempts == 12
    app.Task = Patient

    @app.task(name="t.app_base")
    def other() -> None: ...

    assert activity.from_celery(other).policy.retry.max_attempts == 12


def test_declaring_neither_configures_nor_finalizes_the_app(app: Celery) -> None:
    @app.task
    def lazy(n: int) -> int:
        return n

    @shared_task
    def shared(n: int) -> int:
        return n

    steps = [activity.from_celery(lazy), activity.from_celery(shared)]
    assert not app.configured
    assert not app.finalized
    assert _state.default_app is None
    assert [step.name for step in steps] == [f"{__name__}.lazy", f"{__name__}.shared"]
    app.conf.task_serializer = "json"
    assert perform(steps[0], 3) == 3


def test_a_task_made_already_is_taken_as_well(app: Celery) -> None:
    class Send(Task):
        name = "t.class_based"

        def run(self, to: str, copies: int = 1) -> str:
            return f"{to} x{copies} ({self.request.id})"

    step = activity.from_celery(app.register_task(Send()))
    assert step.name == "t.class_based"
    assert perform(step, "a", copies=2) == "a x2 (run-1.7)"


def test_options_of_the_activity_win_and_retry_takes_over(app: Celery) -> None:
    @app.task(name="t.options")
    def task() -> None: ...

    step = activity.from_celery(task, retry=2, timeout=5, queue="slow", executor="local")
    assert step.policy.retry == Retry(max_attempts=2)
    assert not step.gives_up
    assert (step.policy.timeout, step.policy.queue, step.policy.executor) == (timedelta(seconds=5), "slow", "local")
    with pytest.raises(TypeError, match="no option 'timeuot'. Did you mean 'timeout'"):
        activity.from_celery(task, timeuot=5)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [print, 3, "mail.send", Task], ids=["function", "number", "name", "class"])
def test_what_is_no_task_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match=r"It takes what @app\.task or @shared_task made"):
        activity.from_celery(wrong)


def test_the_decorator_points_to_from_celery(app: Celery) -> None:
    @app.task(name="t.decorated")
    def task() -> None: ...

    with pytest.raises(DeclarationError, match=r"is a Celery task: write activity\.from_celery\(task\)"):
        activity(task)


def test_a_signature_is_refused_with_what_to_pass(app: Celery) -> None:
    @app.task(name="t.signature")
    def task(n: int) -> int:
        return n

    with pytest.raises(DeclarationError, match="that is a signature; pass the task"):
        activity.from_celery(task.s(1))


# ------------------------------------------------------------------ running


def test_the_task_sees_a_request_and_itself_as_the_current_task(app: Celery) -> None:
    @app.task(name="t.request", bind=True)
    def task(self: Any, n: int) -> tuple[Any, ...]:
        request = self.request
        assert current_task.request is request
        assert current_app.main == "shop"
        return request.id, request.retries, request.root_id, request.args, request.called_directly, request.headers

    found = perform(activity.from_celery(task), 5, number=3)
    assert found[:5] == ("run-1.7", 2, "run-1", (5,), False)
    assert found[5]["continuum"] == {"run_id": "run-1", "command": 7, "attempt": 3}
    assert task.request.id is None
    assert _state._tls.current_app is not app
    assert _state.get_current_task() is None


def test_a_shared_task_runs_with_the_shops_app_on_a_thread_without_one(app: Celery) -> None:
    @shared_task(name="t.shared", bind=True)
    def task(self: Any) -> Any:
        return self.app.main

    app.set_default()
    step = activity.from_celery(task)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(perform(step)))
    thread.start()
    thread.join()
    assert found == ["shop"]


def test_outside_an_attempt_just_the_function_runs(app: Celery) -> None:
    @app.task(name="t.plain", bind=True)
    def task(self: Any, n: int) -> tuple[int, bool]:
        return n + 1, self.request.called_directly

    step = activity.from_celery(task)
    assert step(1) == (2, True)
    assert step.function(n=1) == (2, True)


def test_a_custom_call_is_called(app: Celery) -> None:
    class Counting(Task):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return "called", super().__call__(*args, **kwargs)

    @app.task(name="t.call", base=Counting, bind=True)
    def task(self: Any, n: int) -> Any:
        return n, self.request.id

    assert perform(activity.from_celery(task), 1) == ("called", (1, "run-1.7"))


class Order(BaseModel):
    number: int


def test_a_pydantic_task_takes_dicts_and_returns_dicts(app: Celery) -> None:
    if "pydantic" not in inspect.signature(app._task_from_fun).parameters:
        pytest.skip("this Celery knows no pydantic=True")

    @app.task(name="t.pydantic", pydantic=True)
    def task(order: Order) -> Order:
        assert isinstance(order, Order)
        return Order(number=order.number + 1)

    for step in (activity.from_celery(task), activity.from_celery(task._get_current_object())):
        for argument in ({"number": 1}, Order(number=1)):
            payload = step._codecs.arguments.encode((argument,), {})
            args, kwargs = step.decode_arguments(payload)
            result = perform(step, *args, **kwargs)
            assert result == {"number": 2}
            assert step._codecs.result.decode(step.encode_result(result)) == {"number": 2}


def test_hints_of_other_tasks_are_kept(app: Celery) -> None:
    @app.task(name="t.hints")
    def task(at: datetime) -> datetime:
        return at

    step = activity.from_celery(task)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert step._codecs.result.decode(step.encode_result(now)) == now
    assert step._codecs.result.hint is datetime


def test_an_async_task_is_run_to_its_end(app: Celery) -> None:
    @app.task(name="t.async", bind=True)
    async def task(self: Any, n: int) -> Any:
        await asyncio.sleep(0)
        return n, self.request.id

    step = activity.from_celery(task)
    assert perform(step, 1) == (1, "run-1.7")

    async def inside_a_loop() -> Any:
        return perform(step, 2)

    assert asyncio.run(inside_a_loop())[0] == 2


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
