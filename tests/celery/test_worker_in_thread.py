"""The worker's side in one process with the dispatcher: `celery.contrib.testing`, a broker in memory, real Postgres."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker

from continuum import Continuum, activity, workflow
from continuum.celery_executor.keeper import find_keeper
from continuum.declare.attempts import current_attempt
from tests.support.eventually import eventually

pytestmark = pytest.mark.filterwarnings("ignore::celery.exceptions.CPendingDeprecationWarning")

_gates: dict[str, threading.Event] = {}
_tries: list[int] = []


@activity(name="thread.add", retry=2)
def add(one: int, two: int) -> int:
    return one + two


@activity(name="thread.add_later")
async def add_later(one: int, two: int) -> int:
    return one + two


@activity(name="thread.flaky", retry=3)
def flaky() -> int:
    number = current_attempt().number
    _tries.append(number)
    if number < 2:
        raise LookupError("not yet")
    return number


@activity(name="thread.broken", retry=1)
def broken() -> None:
    raise LookupError("never")


@activity(name="thread.stubborn", retry=2, timeout=timedelta(seconds=1))
def stubborn() -> int:
    """Nothing ends its first attempt but its own insight."""
    attempt = current_attempt()
    while attempt.number == 1 and not attempt.cancelled:
        _gates["stubborn"].wait(0.02)
    return attempt.number


@workflow(name="thread.sum")
async def total(count: int) -> int:
    found = 0
    for number in range(count):
        found = await add(found, number)
    return await add_later(found, 1000)


@workflow(name="thread.call")
async def call(name: str) -> Any:
    return await {"flaky": flaky, "broken": broken, "stubborn": stubborn}[name]()


@contextmanager
def shop(database_url: str, *, pool: str) -> Iterator[Continuum]:
    """Run a dispatcher and a Celery worker in this process."""
    app = Celery(f"in_thread_{pool}", broker="memory://")
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_annotations={"*": {"acks_late": True, "rate_limit": "1/h"}},
        task_default_rate_limit="1/h",
        broker_transport_options={"polling_interval": 0.01},
        worker_hijack_root_logger=False,
    )
    instance = Continuum(
        database_url,
        name=f"in-thread-{pool}",
        executor="celery",
        poll_interval=timedelta(milliseconds=200),
        heartbeat_interval=timedelta(milliseconds=500),
        lease_ttl=timedelta(seconds=3),
    )
    instance.init_celery(app)
    with (
        instance,
        start_worker(
            app, pool=pool, concurrency=2, perform_ping_check=False, queues=[instance.settings.queue], loglevel="info"
        ),
        instance.running(),
    ):
        yield instance


@pytest.fixture(params=["solo", "threads"])
def instance(request: pytest.FixtureRequest, database_url: str) -> Iterator[Continuum]:
    _tries.clear()
    _gates["stubborn"] = threading.Event()
    with shop(database_url, pool=request.param) as running:
        yield running
    assert find_keeper(running.settings.name) is None


def test_activities_run_in_the_celery_worker_and_its_lease_ends_with_it(instance: Continuum) -> None:
    assert instance.start("thread.sum", 5).result(timeout=30) == 1010
    keeper = find_keeper(instance.settings.name)
    assert keeper is not None
    assert keeper.worker is not None
    registered = {row.id: row for row in instance.journal.workers.list_workers()}
    assert keeper.worker in registered
    assert "@" in registered[keeper.worker].hostname


def test_a_failed_attempt_is_a_retry_to_celery_and_an_attempt_to_the_journal(
    instance: Continuum, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    retried: list[Any] = []
    failed: list[Any] = []

    def on_retry(reason: Any = None, **_: Any) -> None:
        retried.append(reason)

    def on_failure(exception: Any = None, **_: Any) -> None:
        failed.append(exception)

    signals.task_retry.connect(on_retry)
    signals.task_failure.connect(on_failure)
    try:
        assert instance.start("thread.call", "flaky").result(timeout=30) == 2
        assert _tries == [1, 2]
        eventually(lambda: len(retried) == 1, 10)
        assert "LookupError('not yet')" in str(retried[0])
        assert failed == []
        with pytest.raises(Exception, match="never"):
            instance.start("thread.call", "broken").result(timeout=30)
        eventually(lambda: len(failed) == 1, 10)
        assert isinstance(failed[0], LookupError), "error trackers see the very exception"
    finally:
        signals.task_retry.disconnect(on_retry)
        signals.task_failure.disconnect(on_failure)


def test_an_attempt_that_the_pool_cannot_end_is_made_again(instance: Continuum) -> None:
    assert instance.start("thread.call", "stubborn").result(timeout=30) == 2
