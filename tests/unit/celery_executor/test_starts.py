"""``continuum.start``: workflows started by beat and other services, once each."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, _state
from celery.exceptions import Retry
from hypothesis import given
from hypothesis import strategies as st

from continuum import Continuum, JournalUnavailable, workflow
from continuum.celery_executor import starts
from continuum.celery_executor.starts import slot_of
from continuum.errors import ConfigError
from continuum.journal.memory.journal import MemoryJournal

NAME = "tests-of-starts"
NOBODY = "redis://127.0.0.1:1/0"


@workflow(name="starts.report")
async def report(region: str, day: datetime | None = None) -> str:
    return region


@pytest.fixture
def app() -> Iterator[Celery]:
    finalizers = set(_state._on_app_finalizers)
    made = Celery("shop", broker=NOBODY, set_as_current=False)
    starts.register(made)
    yield made
    made.close()
    _state._on_app_finalizers.intersection_update(finalizers)


@pytest.fixture
def continuum(app: Celery) -> Iterator[Continuum]:
    MemoryJournal.forget(NAME)
    with Continuum(f"memory://{NAME}", name=NAME) as instance:
        yield instance.init_celery(app)


def send(app: Celery, *args: Any, celery_id: str = "c-1", **kwargs: Any) -> Any:
    """Run the task as a Celery worker does."""
    task = app.tasks["continuum.start"]
    task.push_request(id=celery_id, called_directly=False, args=args, kwargs=kwargs, retries=0)
    try:
        return task.run(*args, **{"instance": NAME, **kwargs})
    finally:
        task.pop_request()


def test_the_only_instance_of_the_app_need_not_be_named(
    app: Celery, continuum: Continuum, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = send(app, "starts.report", ["eu"], instance=None)
    assert continuum.get(run_id).workflow == "starts.report"
    with Continuum("memory://another", name=f"{NAME}-2") as another:
        another.init_celery(app)
        monkeypatch.setattr(starts, "find_executor", lambda _: None)  # other tests have theirs
        with pytest.raises(ConfigError, match="no Continuum instance named 'default'.*Loaded: .*pass instance="):
            send(app, "starts.report", ["eu"], instance=None)


def test_it_starts_a_run_and_returns_its_id(app: Celery, continuum: Continuum) -> None:
    run = continuum.get(send(app, "starts.report", ["eu"], {"day": "2026-01-02T00:00:00+00:00"}))
    assert (run.workflow, run.namespace) == ("starts.report", "default")
    payload = continuum.history(run.id)[0].payload or ""
    assert '"eu"' in payload
    assert "2026-01-02" in payload
    assert continuum.get(send(app, "starts.report", ["eu"], namespace="eu", celery_id="c-2")).namespace == "eu"


def test_a_redelivered_message_starts_nothing_twice(app: Celery, continuum: Continuum) -> None:
    first = send(app, "starts.report", ["eu"])
    assert send(app, "starts.report", ["eu"]) == first
    assert send(app, "starts.report", ["eu"], celery_id="c-2") != first


def test_a_key_of_the_senders_wins(app: Celery, continuum: Continuum) -> None:
    first = send(app, "starts.report", ["eu"], idempotency_key="2026-01", every="hour")
    assert send(app, "starts.report", ["eu"], idempotency_key="2026-01", celery_id="c-2") == first
    handle, origin = continuum.start_unique(report, "eu", idempotency_key="2026-01")
    assert (handle.id, origin) == (first, "existing")


def test_two_beats_start_one_run_per_slot_and_arguments(
    app: Celery, continuum: Continuum, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 1, 2, 3, 0, 1, tzinfo=UTC)
    monkeypatch.setattr(app, "now", lambda: now)
    first = send(app, "starts.report", ["eu"], every="hour")
    now -= timedelta(seconds=2)  # a worker whose clock is behind
    assert send(app, "starts.report", ["eu"], every="hour", celery_id="c-2") == first
    assert send(app, "starts.report", ["us"], every="hour", celery_id="c-3") != first
    now += timedelta(hours=1)
    assert send(app, "starts.report", ["eu"], every="hour", celery_id="c-4") != first


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (("starts.reprot",), {}, "Did you mean 'starts.report'"),
        (("starts.report", ["eu"]), {"instance": "another"}, f"no Continuum instance named 'another'.*{NAME}"),
        (("starts.report", ["eu"]), {"every": "fortnight"}, "every='fortnight' is not valid: write 'minute'"),
        (("starts.report", ["eu"]), {"namespace": ""}, "namespace"),
    ],
)
def test_what_cannot_work_fails_and_is_not_tried_again(
    app: Celery, continuum: Continuum, arguments: tuple[Any, ...], options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        send(app, *arguments, **options)


def test_arguments_that_do_not_fit_fail(app: Celery, continuum: Continuum) -> None:
    with pytest.raises(TypeError, match="region"):
        send(app, "starts.report")


def test_while_the_database_is_away_the_message_is_sent_again_with_its_key(
    app: Celery, continuum: Continuum, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise JournalUnavailable("no route")

    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(continuum.journal.runs, "start", away)
    monkeypatch.setattr(app, "now", lambda: datetime(2026, 1, 2, 3, 30, tzinfo=UTC))
    monkeypatch.setattr(
        app, "send_task", lambda name, args, kwargs, **options: sent.append({"args": args, "kwargs": kwargs, **options})
    )
    with pytest.raises(Retry):
        send(app, "starts.report", ["eu"], every="hour")
    [again] = sent
    assert tuple(again["args"]) == ("starts.report", ["eu"], None)
    assert again["kwargs"]["idempotency_key"].startswith("2026-01-02T03:00:00+00:00 3600s ")
    assert again["kwargs"]["instance"] == NAME
    assert 0 < again["countdown"] <= 1
    assert again["task_id"] == "c-1"


def test_in_eager_mode_an_absent_database_is_an_error(
    app: Celery, continuum: Continuum, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = app.tasks["continuum.start"].apply(("starts.report", ["eu"]), {"instance": NAME}).get()
    assert continuum.get(run_id).workflow == "starts.report"

    def away(*_: Any, **__: Any) -> None:
        raise JournalUnavailable("no route")

    monkeypatch.setattr(continuum.journal.runs, "start", away)
    with pytest.raises(JournalUnavailable):
        app.tasks["continuum.start"].apply(("starts.report", ["eu"]), {"instance": NAME}, throw=True)


def test_the_message_is_kept_until_the_run_is_there(app: Celery) -> None:
    task = app.tasks["continuum.start"]
    assert (task.acks_late, task.reject_on_worker_lost, task.max_retries) == (True, True, None)


# ------------------------------------------------------------------ slots


@pytest.mark.parametrize(
    ("every", "slot"),
    [
        ("minute", "2026-03-04T05:06:00+00:00 60s"),
        ("hour", "2026-03-04T05:00:00+00:00 3600s"),
        ("day", "2026-03-04T00:00:00+00:00 86400s"),
        ("week", "2026-03-02T00:00:00+00:00 604800s"),
        ("month", "2026-03"),
        ("15m", "2026-03-04T05:00:00+00:00 900s"),
        ("2h", "2026-03-04T04:00:00+00:00 7200s"),
        (30, "2026-03-04T05:06:00+00:00 30s"),
        ("30", "2026-03-04T05:06:00+00:00 30s"),
    ],
)
def test_slots_are_counted_in_utc(every: Any, slot: str) -> None:
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert slot_of(every, at) == slot
    assert slot_of(every, at.astimezone()) == slot


@given(st.integers(1, 10**7), st.integers(0, 10**15), st.integers(0, 10**7))
def test_moments_a_period_apart_are_in_different_slots(period: int, since: int, later: int) -> None:
    at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=since)
    assert slot_of(period, at) != slot_of(period, at + timedelta(seconds=period + later))
    begin = datetime.fromisoformat(slot_of(period, at).split()[0])
    assert begin <= at + timedelta(seconds=30)
    assert at < begin + timedelta(seconds=period)


@pytest.mark.parametrize("every", ["", "h", "-1h", "1.5h", "0m", 0, -5, True, float("nan"), 10**9, "٣h", [], "m5"])
def test_other_periods_are_refused(every: Any) -> None:
    with pytest.raises(ConfigError, match="is not valid: write 'minute'"):
        slot_of(every, datetime(2026, 1, 1, tzinfo=UTC))
