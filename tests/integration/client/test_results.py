"""Waiting for results: what ends a wait, and what it says."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, ResultTimeout, RunCancelled, RunFailed, RunNotFound
from continuum.errors import ContinuumError
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20


def test_a_failed_run_raises_what_is_known_of_its_exception(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.broken, "no such order")
        with pytest.raises(RunFailed) as failed:
            handle.result(timeout=WAIT)
    error = failed.value
    assert (error.type_name, error.error_message, error.run_id) == ("ValueError", "no such order", handle.id)
    assert "flows.py" in error.remote_traceback
    # A waiter who comes later is told the same.
    with pytest.raises(RunFailed) as later:
        continuum.handle(handle.id).result(timeout=0)
    assert later.value.fields == error.fields


def test_a_cancelled_run_says_so(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    handle.cancel()
    with continuum.running(), pytest.raises(RunCancelled) as cancelled:
        handle.result(timeout=WAIT)
    assert cancelled.value.fields["state"] == "cancelled"


def test_a_terminated_run_releases_its_waiter_with_the_reason(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(handle.result, WAIT)
        eventually(lambda: continuum._access.hub.waiters == 1)
        handle.terminate("a better offer")
        with pytest.raises(RunCancelled, match="a better offer") as terminated:
            waiting.result(WAIT)
    assert terminated.value.fields["state"] == "terminated"
    assert terminated.value.fields["reason"] == "a better offer"


@pytest.mark.parametrize("timeout", [0, 0.05, timedelta(milliseconds=50)])
def test_a_wait_that_times_out_leaves_the_run_alone(continuum: Continuum, timeout: Any) -> None:
    handle = continuum.start(flows.forever)
    with pytest.raises(ResultTimeout, match="goes on") as late:
        handle.result(timeout=timeout)
    assert isinstance(late.value, TimeoutError)
    assert late.value.run_id == handle.id
    assert not handle.refresh().ended
    assert continuum._access.hub.waiters == 0


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", True])
def test_a_timeout_that_makes_no_sense_is_a_value_error(continuum: Continuum, timeout: Any) -> None:
    handle = continuum.start(flows.forever)
    with pytest.raises(ValueError, match="timeout"):
        handle.result(timeout=timeout)


def test_a_result_that_is_there_needs_no_time(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.total, 1, 2)
        handle.result(timeout=WAIT)
    assert handle.result(timeout=0) == 3
    assert continuum.handle(handle.id).result(timeout=0) == 3


def test_a_result_is_read_by_its_type_hint_also_through_a_bare_handle(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.echo, [flows.Item("a", 1)])  # type: ignore[arg-type]
        assert type(continuum.handle(handle.id).result(timeout=WAIT)[0]) is flows.Item


def test_many_waiters_are_one_thread_and_are_all_released(continuum: Continuum) -> None:
    handles = [continuum.start(flows.first_signal, "go") for _ in range(40)]
    with ThreadPoolExecutor(40) as pool, continuum.running():
        waiting = [pool.submit(handle.result, WAIT) for handle in handles]
        eventually(lambda: continuum._access.hub.waiters == 40)
        assert sum(thread.name == "continuum-results" for thread in threading.enumerate()) == 1
        for number, handle in enumerate(handles):
            handle.signal("go", number)
        assert [future.result(WAIT) for future in waiting] == list(range(40))


def test_closing_releases_waiters_with_an_error(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(handle.result, WAIT)
        eventually(lambda: continuum._access.hub.waiters == 1)
        continuum.close()
        with pytest.raises(ContinuumError, match="closed"):
            waiting.result(WAIT)
    # And the instance may be used again.
    if continuum.settings.url is not None:
        assert continuum.get(handle.id).id == handle.id


def test_the_result_of_nobody_is_an_error_at_once(continuum: Continuum) -> None:
    with pytest.raises(RunNotFound):
        continuum.handle("0190a6f0-0000-7000-8000-000000000001").result(timeout=WAIT)


def test_waiting_survives_an_outage_of_the_database(own_postgres: Any) -> None:
    with Continuum(own_postgres.url, poll_interval=timedelta(milliseconds=200)) as instance:
        instance.migrate()
        handle = instance.start(flows.total, 1, 2)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(handle.result, 60)
            eventually(lambda: instance._access.hub.waiters == 1)
            own_postgres.restart()
            with instance.running():
                assert waiting.result(60) == 3


def test_results_come_by_hint_with_few_looks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a floor poll of minutes only hints can be this quick; each wait costs a look or two."""
    with Continuum(database_url, poll_interval=timedelta(minutes=5)) as instance, instance.running():
        looks: list[int] = []
        original = instance.journal.runs.outcomes

        def counted(run_ids: Any) -> Any:
            looks.append(len(run_ids))
            return original(run_ids)

        monkeypatch.setattr(instance.journal.runs, "outcomes", counted)
        for number in range(20):
            assert instance.start(flows.total, number).result(timeout=WAIT) == number + 1
        assert len(looks) <= 2 * 20
