"""Runs whose activities go through a transport: a real dispatcher and journal, a broker and workers of the test's."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from continuum import Retry, activity, workflow
from continuum.errors import ConfigError
from continuum.journal.protocol import Journal
from continuum.model.events import EventType
from continuum.model.runs import RunState
from continuum.runtime.instance import Dispatcher
from tests.integration.runtime import flows
from tests.support.eventually import eventually
from tests.support.external import External
from tests.support.transports import FakeTransport, FakeWorkers

WAIT = 30
CELERY: dict[str, Any] = {"executor": "celery"}
PATIENT = Retry(max_attempts=3, base=timedelta(milliseconds=100), jitter=timedelta(0))


@activity(name="external.echo", retry=PATIENT)
def echo(value: int) -> int:
    return value


@activity(name="external.flaky", retry=PATIENT)
def flaky(value: int) -> int:
    return value


@workflow(name="external.retried")
async def retried(value: int) -> int:
    return await flaky(value)


@workflow(name="external.mixed")
async def mixed(value: int) -> list[int]:
    """One here, one there, one on a queue of its own."""
    return [
        await echo.options(executor="local")(value),
        await echo.options(executor="celery")(value + 1),
        await echo.options(executor="celery", queue="special")(value + 2),
    ]


@workflow(name="external.urgent")
async def urgent(value: int, priority: int) -> int:
    return await echo.options(priority=priority)(value)


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport("celery")


@pytest.fixture
def continuum(journal: Journal, transport: FakeTransport) -> Iterator[External]:
    with External(
        journal=journal,
        poll_interval=timedelta(milliseconds=50),
        lease_ttl=timedelta(seconds=5),
        heartbeat_interval=timedelta(seconds=1),
        reap_interval=timedelta(milliseconds=200),
        stuck_backoff=timedelta(milliseconds=200),
        dispatch_deadline=timedelta(seconds=30),
        concurrency=4,
    ) as instance:
        instance.transports = {"celery": transport}
        transport.hang.set()
        yield instance
        transport.hang.set()


@pytest.fixture
def workers(journal: Journal, transport: FakeTransport) -> Iterator[FakeWorkers]:
    with FakeWorkers(journal, transport) as made:
        yield made


def executors(dispatcher: Dispatcher) -> Any:
    return dispatcher.status()["executors"]


def test_a_run_goes_step_by_step_through_the_executor(
    continuum: External, transport: FakeTransport, workers: FakeWorkers
) -> None:
    with continuum.running(**CELERY):
        assert continuum.start(flows.sequence, 10).result(timeout=WAIT) == 10
    assert len(transport.published) == len(workers.ran) == 10
    assert {task.policy.queue for task in transport.published} == {"celery-queue"}
    assert transport.instances == {"default"}
    assert transport.placed["flows.double"] == 1


def test_each_call_goes_where_it_says(continuum: External, transport: FakeTransport, workers: FakeWorkers) -> None:
    with continuum.running() as dispatcher:
        assert executors(dispatcher) == {}, "nobody has named another one yet"
        assert continuum.start(mixed, 1).result(timeout=WAIT) == [1, 2, 3]
        assert executors(dispatcher).keys() == {"celery"}
    assert [task.policy.queue for task in transport.published] == ["celery-queue", "special"]
    assert transport.closed == 1
    assert len(workers.ran) == 2


def test_a_dispatcher_without_activities_publishes_all_the_same(
    continuum: External, transport: FakeTransport, workers: FakeWorkers
) -> None:
    with continuum.running(activities=False, **CELERY):
        assert continuum.start(flows.fan_out, 5).result(timeout=WAIT) == 20
    assert len(workers.ran) == len(transport.published) == 5


def test_an_executor_without_a_transport_runs_in_the_dispatcher(continuum: External) -> None:
    continuum.transports = {"celery": None}
    with continuum.running(**CELERY) as dispatcher:
        assert continuum.start(flows.sequence, 3).result(timeout=WAIT) == 3
        assert continuum.start(mixed, 1).result(timeout=WAIT) == [1, 2, 3]
        assert executors(dispatcher) == {}


def test_a_dispatcher_refuses_to_start_with_an_executor_it_cannot_reach(
    continuum: External, transport: FakeTransport
) -> None:
    transport.flaw = "accept_content must contain json"
    with pytest.raises(ConfigError, match="accept_content"), continuum.running(**CELERY):
        pass
    dispatcher = Dispatcher(continuum.dispatcher(**CELERY)._settings, continuum.journal, continuum.registry)
    with pytest.raises(ConfigError, match="executor='celery'.*transports"):
        dispatcher.start()


def test_a_run_that_names_an_executor_nobody_serves_is_stuck_until_somebody_does(
    continuum: External, transport: FakeTransport, workers: FakeWorkers
) -> None:
    transport.flaw = "no app is configured"
    with continuum.running():
        handle = continuum.start(mixed, 1)
        stuck = eventually(lambda: (run := handle.refresh()).state == RunState.STUCK and run, WAIT)
        assert "no app is configured" in (stuck.stuck_reason or "")
        transport.flaw = None
        assert handle.result(timeout=WAIT) == [1, 2, 3]
    assert len(workers.ran) == 2


@pytest.mark.parametrize("seed", [1, 2])
def test_messages_that_come_twice_and_in_any_order_run_each_attempt_once(
    continuum: External, journal: Journal, transport: FakeTransport, seed: int
) -> None:
    with FakeWorkers(journal, transport, threads=4, seed=seed, twice=True) as workers, continuum.running(**CELERY):
        handles = [continuum.start(flows.fan_out, 10) for _ in range(6)]
        assert [handle.result(timeout=WAIT) for handle in handles] == [90] * 6
        eventually(lambda: workers.stale >= 60)
    assert set(workers.ran.values()) == {1}
    assert len(workers.ran) == 60


def test_a_window_holds_back_what_does_not_fit_and_all_of_it_is_run(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    with continuum.running(dispatch_window=5, **CELERY) as dispatcher:
        handles = [continuum.start(flows.fan_out, 10) for _ in range(3)]
        eventually(lambda: len(transport.published) == 5)
        eventually(lambda: all(len(journal.tasks.of_run(handle.id)) == 10 for handle in handles))
        for _ in range(3):
            assert executors(dispatcher)["celery"]["outstanding"] == 5
            time.sleep(0.05)
        assert len(transport.published) == 5
        with FakeWorkers(journal, transport):
            assert [handle.result(timeout=WAIT) for handle in handles] == [90] * 3
        eventually(lambda: executors(dispatcher)["celery"]["outstanding"] == 0)
    assert len(transport.published) == 30


def test_what_waits_for_room_goes_by_priority(continuum: External, journal: Journal, transport: FakeTransport) -> None:
    with continuum.running(dispatch_window=1, **CELERY):
        handles = [continuum.start(urgent, 0, 0)]
        eventually(lambda: len(transport.published) == 1)
        handles += [continuum.start(urgent, priority, priority) for priority in (-5, 10, 3)]
        eventually(lambda: all(journal.tasks.of_run(handle.id) for handle in handles))
        with FakeWorkers(journal, transport, threads=1):
            for handle in handles:
                handle.result(timeout=WAIT)
    assert [task.policy.priority for task in transport.published] == [0, 10, 3, -5]


def test_a_retry_is_published_when_it_is_due(
    continuum: External, journal: Journal, transport: FakeTransport, request: pytest.FixtureRequest
) -> None:
    times: list[float] = []
    transport.on_publish = lambda: times.append(time.monotonic())
    with FakeWorkers(journal, transport) as workers, continuum.running(**CELERY):
        workers.failures = {"external.flaky": 2}
        assert continuum.start(retried, 4).result(timeout=WAIT) == 4
    assert [task.ref.attempt for task in transport.published] == [1, 2, 3]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    if "deaf" not in request.node.name:
        # Due after 100 and 200 ms. Usually 5 ms late; the machine may be busy.
        assert 0.1 <= pauses[0] < 0.1 + 0.3
        assert 0.2 <= pauses[1] < 0.2 + 0.3


# ---------------------------------------------------------------- what goes wrong


def test_a_broker_that_is_down_delays_its_own_activities_and_nothing_else(
    continuum: External, transport: FakeTransport, workers: FakeWorkers
) -> None:
    transport.down = True
    with continuum.running() as dispatcher:
        waiting = [continuum.start(mixed, number) for number in range(5)]
        eventually(lambda: executors(dispatcher).get("celery", {}).get("broker") == "down", WAIT)
        assert continuum.start(flows.sequence, 20).result(timeout=WAIT) == 20
        waiting += [continuum.start(mixed, number) for number in range(5, 10)]
        eventually(lambda: all(len(handle.history()) >= 5 for handle in waiting), WAIT)
        transport.down = False
        assert [handle.result(timeout=WAIT) for handle in waiting] == [[n, n + 1, n + 2] for n in range(10)]
        assert executors(dispatcher)["celery"]["broker"] == "up"
    assert set(workers.ran.values()) == {1}


def test_a_broker_that_hangs_holds_up_nobody_else(
    continuum: External, transport: FakeTransport, workers: FakeWorkers
) -> None:
    transport.hang.clear()
    with continuum.running():
        waiting = continuum.start(mixed, 1)
        assert transport.hanging.wait(10)
        assert continuum.start(flows.sequence, 20).result(timeout=WAIT) == 20
        assert waiting.refresh().state == RunState.RUNNING
        transport.hang.set()
        assert waiting.result(timeout=WAIT) == [1, 2, 3]
    assert len(workers.ran) == 2


def test_messages_that_are_lost_are_sent_again_at_their_deadline(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    transport.lose = True
    transport.depths = {"celery-queue": None}  # a broker that cannot say how many wait
    with continuum.running(dispatch_deadline=timedelta(milliseconds=300), **CELERY):
        handle = continuum.start(flows.fan_out, 5)
        eventually(lambda: len(transport.published) >= 5)
        transport.lose = False
        with FakeWorkers(journal, transport) as workers:
            assert handle.result(timeout=WAIT) == 20
    assert set(workers.ran.values()) == {1}
    assert max(task.dispatch_no for task in transport.published) >= 2


def test_a_dispatcher_that_lost_its_lease_publishes_under_its_new_id(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    transport.down = True
    with continuum.running(**CELERY) as dispatcher:
        handle = continuum.start(flows.fan_out, 5)
        eventually(lambda: executors(dispatcher)["celery"]["to_publish"] == 5)
        first = dispatcher.worker
        # Somebody decides that this worker is dead, and sweeps what it held.
        assert journal.workers.beat(first, timedelta(seconds=-1))
        journal.workers.reap()
        dispatcher._heartbeat.wake()
        eventually(lambda: dispatcher.worker != first, WAIT)
        transport.down = False
        with FakeWorkers(journal, transport) as workers:
            assert handle.result(timeout=WAIT) == 20
    assert set(workers.ran.values()) == {1}


def test_a_cancelled_run_withdraws_its_messages(continuum: External, transport: FakeTransport) -> None:
    with continuum.running(**CELERY):
        handle = continuum.start(flows.fan_out, 3)
        eventually(lambda: len(transport.published) == 3)
        handle.cancel()
        eventually(lambda: handle.refresh().state == RunState.CANCELLED, WAIT)
        eventually(lambda: len(transport.withdrawn) == 3, WAIT)
    assert {ref for ref, _ in transport.withdrawn} == set(transport.refs)


def test_a_run_whose_tasks_are_out_may_leave_memory_and_ends_when_they_are_back(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    with continuum.running(cached_runs=2, active_runs=2, **CELERY) as dispatcher:
        handles = [continuum.start(flows.fan_out, 2) for _ in range(12)]
        eventually(lambda: len(transport.published) == 24, WAIT)
        assert dispatcher.status()["runs_in_memory"] <= 2
        with FakeWorkers(journal, transport):
            assert [handle.result(timeout=WAIT) for handle in handles] == [2] * 12


# ---------------------------------------------------------------- drains


def test_a_drained_dispatcher_hands_over_and_nothing_is_published_twice(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    with continuum.running(**CELERY):
        handle = continuum.start(flows.fan_out, 8)
        eventually(lambda: len(transport.published) == 8)
    rows = journal.tasks.of_run(handle.id)
    assert [(row.state, row.claimed_by) for row in rows] == [("dispatched", None)] * 8
    with continuum.running(**CELERY), FakeWorkers(journal, transport) as workers:
        assert handle.result(timeout=WAIT) == 56
    assert len(transport.published) == 8
    assert set(workers.ran.values()) == {1}


def test_a_drain_in_an_outage_frees_what_was_not_published(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    transport.down = True
    with continuum.running(**CELERY) as dispatcher:
        handle = continuum.start(flows.fan_out, 8)
        eventually(lambda: executors(dispatcher)["celery"]["to_publish"] == 8)
    assert {row.state for row in journal.tasks.of_run(handle.id)} == {"available"}
    transport.down = False
    with continuum.running(**CELERY), FakeWorkers(journal, transport):
        assert handle.result(timeout=WAIT) == 56
    assert len(transport.published) == 8


def test_two_dispatchers_share_the_work_and_one_may_leave(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    with FakeWorkers(journal, transport) as workers, continuum.running(**CELERY):
        with continuum.running(**CELERY):
            handles = [continuum.start(flows.sequence, 10) for _ in range(20)]
            eventually(lambda: len(workers.ran) > 50, WAIT)
        assert [handle.result(timeout=WAIT) for handle in handles] == [10] * 20
    assert set(workers.ran.values()) == {1}
    kinds = [event.type for handle in handles for event in handle.history()]
    assert kinds.count(EventType.ACTIVITY_COMPLETED) == 200


def test_a_hanging_broker_does_not_keep_a_drain_for_ever(
    continuum: External, journal: Journal, transport: FakeTransport
) -> None:
    dispatcher = continuum.dispatcher(**CELERY)
    dispatcher.start()
    handle = continuum.start(flows.fan_out, 2)
    transport.hang.clear()
    eventually(lambda: transport.hanging.is_set() or len(transport.published) == 2)
    began = time.monotonic()
    dispatcher.drain(0.5)
    assert time.monotonic() - began < 10
    transport.hang.set()
    with continuum.running(**CELERY), FakeWorkers(journal, transport):
        assert handle.result(timeout=WAIT) == 2
    eventually(lambda: not any(thread.name.startswith("continuum-outbox") for thread in threading.enumerate()))
