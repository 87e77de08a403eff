"""Existing Celery tasks as activities: declared without waking their app, run as Celery would run them.

How they end is in ``test_adapted_ends.py``.
"""

import asyncio
import inspect
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, Task, _state, current_app, current_task, shared_task
from pydantic import BaseModel

from continuum import Continuum, activity
from continuum.celery_executor import sources, tasks
from continuum.errors import DeclarationError
from continuum.model.policies import Retry
from tests.support.adapted import perform

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


def test_a_shared_task_runs_with_the_shops_app_on_a_thread_without_one(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "list_executors", list)  # those of other tests

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


def test_of_several_apps_a_shared_task_runs_with_the_one_whose_worker_has_the_message(app: Celery) -> None:
    @shared_task(name="t.shared_by_two", bind=True)
    def task(self: Any) -> Any:
        return self.app.main

    other = Celery("other", broker="redis://127.0.0.1:1/0", set_as_current=False)
    tasks.register(app)
    step = activity.from_celery(task)
    with Continuum("memory://two", executor="celery").init_celery(app), Continuum("memory://two") as second:
        second.init_celery(other)
        carrier = app.tasks["continuum.activity"]
        carrier.push_request(called_directly=False)
        _state._task_stack.push(carrier)
        try:
            assert perform(step) == "shop"
        finally:
            _state._task_stack.pop()
            carrier.pop_request()
    other.close()


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
