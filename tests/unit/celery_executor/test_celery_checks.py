"""What can be known to be wrong before anything is sent, and what people are told to do."""

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from continuum.celery_executor.checks import (
    check_app,
    clock_findings,
    explain_refusal,
    explain_unreachable,
    find_settings,
    pool_findings,
    uri_of,
)
from continuum.celery_executor.transport import CeleryTransport
from continuum.config import Settings
from continuum.declare.activities import Activity
from continuum.declare.registry import Registry
from continuum.errors import ConfigError
from continuum.model.policies import ActivityPolicy

Make = Callable[..., Celery]


@pytest.fixture
def make_app() -> Iterator[Make]:
    made = []

    def make(broker: str = "redis://localhost/0", **config: Any) -> Celery:
        app = Celery("checked", broker=broker, set_as_current=False)
        app.conf.update(config)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.mark.parametrize("broker", ["redis://localhost/0", "amqp://guest@localhost//", "filesystem://", "memory://"])
def test_a_usual_app_is_fine(make_app: Make, broker: str) -> None:
    check_app(make_app(broker), queue="continuum_activities")


@pytest.mark.parametrize("broker", ["nonsense://localhost", "redis://localhost:port/0", "no.such.module:Transport://x"])
def test_a_broker_that_means_nothing_is_refused(make_app: Make, broker: str) -> None:
    with pytest.raises(ConfigError, match="broker URL of the Celery app 'checked'"):
        check_app(make_app(broker), queue="continuum_activities")


def test_workers_that_would_refuse_json_are_refused(make_app: Make) -> None:
    with pytest.raises(ConfigError, match="Add 'json' to it"):
        check_app(make_app(accept_content=["pickle"]), queue="continuum_activities")


def test_a_text_instead_of_a_list_is_called_that(make_app: Make) -> None:
    with pytest.raises(ConfigError, match=r"is the text 'json': write a list"):
        check_app(make_app(accept_content="json"), queue="continuum_activities")


@pytest.mark.parametrize("accepted", [["json"], ["application/json"], ["pickle", "JSON"], None])
def test_json_may_be_accepted_by_any_name(make_app: Make, accepted: list[str] | None) -> None:
    check_app(make_app(accept_content=accepted), queue="continuum_activities")


def test_routes_that_celery_cannot_read_are_refused(make_app: Make) -> None:
    app = make_app(task_routes=([print, {"queue": "no pair"}],))
    with pytest.raises(ConfigError, match=r"task_routes .* of the Celery app 'checked' cannot be read: .*Write a dict"):
        check_app(app, queue="continuum_activities")


def test_the_extra_of_the_broker_is_named(make_app: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Celery) -> None:
        raise ImportError("No module named 'boto3'")

    monkeypatch.setattr("continuum.celery_executor.checks.connection_of", missing)
    for broker, extra in (("sqs://", "sqs"), ("rediss://h", "redis"), ("sentinel://h", "redis"), ("mongodb://h", "m")):
        with pytest.raises(ConfigError, match=rf"'boto3'\. Install it, as in pip install 'celery\[{extra}"):
            check_app(make_app(broker), queue="continuum_activities")


@pytest.mark.parametrize("queue", ["amq.mine", "a,b", " padded", "tab\there", "ä" * 128])
def test_a_queue_name_that_brokers_do_not_take_is_refused(make_app: Make, queue: str) -> None:
    with pytest.raises(ConfigError, match="queue=.* is not valid: write"):
        check_app(make_app(), queue=queue)


@pytest.mark.parametrize("queue", ["amq.mine", "a,b"])
def test_the_queue_of_a_declared_activity_is_checked_too(make_app: Make, queue: str) -> None:
    registry = Registry()
    registry.register_activity(Activity(lambda: None, name="ship", policy=ActivityPolicy(queue=queue)))
    transport = CeleryTransport(make_app(), settings=Settings(), registry=registry)
    with pytest.raises(ConfigError, match=f"queue='{queue}' is not valid"):
        transport.check()


def test_message_protocol_1_is_a_finding(make_app: Make) -> None:
    assert find_settings(make_app()) == []
    assert [finding.code for finding in find_settings(make_app(task_protocol=1))] == ["task-protocol"]


@pytest.mark.parametrize(
    ("pool", "codes"),
    [
        ("prefork", []),
        ("processes", []),
        ("celery.concurrency.prefork:TaskPool", []),
        ("threads", ["no-time-limits"]),
        ("celery.concurrency.thread:TaskPool", ["no-time-limits"]),
        ("solo", ["no-time-limits", "solo"]),
        ("gevent", ["no-soft-limits", "blocking-driver"]),
        ("eventlet", ["no-soft-limits", "blocking-driver"]),
        ("shop.pools:Own", ["unknown-pool"]),
    ],
)
def test_pools_are_told_apart(pool: str, codes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2.extensions", SimpleNamespace(get_wait_callback=lambda: None))
    assert [finding.code for finding in pool_findings(pool)] == codes


def test_a_green_psycopg2_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2.extensions", SimpleNamespace(get_wait_callback=lambda: print))
    assert [finding.code for finding in pool_findings("gevent")] == ["no-soft-limits"]


@pytest.mark.parametrize(("seconds", "word"), [(0, None), (30, None), (-30, None), (31, "ahead of"), (-31, "behind")])
def test_clocks_may_differ_by_half_a_minute(seconds: int, word: str | None) -> None:
    found = clock_findings(timedelta(seconds=seconds))
    assert [finding.code for finding in found] == ([] if word is None else ["clock-skew"])
    assert all(f"31 s {word} the database's" in finding.message for finding in found)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (amqp.PreconditionFailed("inequivalent arg 'x-max-priority'"), "task_queues"),
        (amqp.AccessRefused("access refused"), "permissions"),
        (amqp.ResourceLocked("exclusive"), "another connection"),
        (amqp.NotFound("no exchange"), "task_queues"),
        (RuntimeError("rejected"), "limit on its length"),
    ],
)
def test_a_refused_queue_is_explained(error: Exception, advice: str) -> None:
    text = explain_refusal("orders", error)
    assert advice in text
    assert "'orders'" in text
    assert "wait in Postgres" in text


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (amqp.AccessRefused("ACCESS_REFUSED - Login was refused."), "Check user, password and virtual host"),
        (amqp.NotAllowed("NOT_ALLOWED - vhost shop not found"), "Check user, password and virtual host"),
        (redis.exceptions.AuthenticationError("Authentication required."), "Check user, password and virtual host"),
        (OSError("Connection refused."), "cannot be reached, or does not answer: Connection refused. Celery"),
    ],
)
def test_a_broker_that_is_away_and_one_that_lets_nobody_in_are_told_apart(error: Exception, advice: str) -> None:
    wrapped = OperationalError("what kombu says")
    wrapped.__cause__ = error
    for each in (error, wrapped) if not isinstance(error, amqp.AMQPError) else (error,):
        text = explain_unreachable("redis://localhost/0", each)
        assert advice in text
        assert ".." not in text
        assert "wait in Postgres until" in text


def test_passwords_are_not_shown(make_app: Make) -> None:
    assert "secret" not in uri_of(make_app("amqp://user:secret@localhost//"))
    assert "secret" not in uri_of(make_app("redis://:secret@localhost/0"))
