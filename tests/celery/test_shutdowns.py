"""Celery workers are told to stop, in each of Celery's ways, while activities run and wait."""

import pytest

from tests.celery.stage import Stage
from tests.support.eventually import eventually


def test_a_warm_shutdown_finishes_what_runs_and_leaves_the_rest(stage: Stage) -> None:
    worker = stage.worker(concurrency=1)
    stage.dispatcher()
    handles = [stage.continuum.start("shop.call", "hold", [f"h{n}", "gate"]) for n in range(6)]
    (running,) = stage.begun(1)
    worker.term()
    worker.expect("(?i)warm shutdown")
    assert worker.alive
    stage.open("gate")
    assert worker.wait(20) == 0
    assert stage.ledger("end", pid=running["pid"], item=running["item"]), "what ran has not finished"
    stage.worker()
    for number, handle in enumerate(handles):
        assert handle.result(timeout=30) == f"h{number}"
    # Nothing was ended, so nothing was tried again.
    assert {line["attempt"] for line in stage.ledger("begin")} == {1}
    assert len(stage.ledger("begin")) == 6
    stage.audit()


@pytest.mark.timeout(90)
def test_a_cold_shutdown_puts_back_what_runs(stage: Stage) -> None:
    # Leases of a minute: what is not put back would not be finished in time.
    worker = stage.worker(concurrency=2, SHOP_LEASE="60", SHOP_HEARTBEAT="10")
    stage.dispatcher(SHOP_LEASE="60", SHOP_HEARTBEAT="10")
    handles = [stage.continuum.start("shop.call", "hold", [f"h{n}", "gate"]) for n in range(6)]
    stage.begun(2)
    worker.quit()
    worker.wait(20)
    stage.open("gate")
    stage.worker(SHOP_LEASE="60", SHOP_HEARTBEAT="10")
    for number, handle in enumerate(handles):
        assert handle.result(timeout=40) == f"h{number}"
    # A shutdown is nobody's failure: no attempt is counted.
    assert {line["attempt"] for line in stage.ledger("begin")} == {1}
    stage.audit()


@pytest.mark.timeout(90)
def test_a_soft_shutdown_waits_a_little_and_then_puts_back(stage: Stage) -> None:
    worker = stage.worker(concurrency=2, SHOP_SOFT_SHUTDOWN="3")
    stage.dispatcher()
    quick = stage.continuum.start("shop.call", "hold", ["quick", "soon"])
    slow = stage.continuum.start("shop.call", "hold", ["slow", "late"])
    stage.begun(2)
    worker.quit()
    worker.expect("(?i)soft shutdown|initiating soft")
    stage.open("soon")
    assert quick.result(timeout=20) == "quick"
    worker.wait(30)
    stage.open("late")
    stage.worker()
    assert slow.result(timeout=40) == "slow"
    assert [line["attempt"] for line in stage.ledger("begin", item="quick")] == [1]
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_warm_shutdown_in_other_pools(stage: Stage, pool: str) -> None:
    worker = stage.worker(pool=pool)
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "hold", ["h", "gate"])
    stage.begun(1)
    worker.term()
    stage.open("gate")
    assert handle.result(timeout=20) == "h"
    assert worker.wait(20) == 0
    assert [line["attempt"] for line in stage.ledger("begin")] == [1]
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_children_that_are_replaced_after_each_task(stage: Stage) -> None:
    worker = stage.worker(extra=["--max-tasks-per-child", "1"])
    stage.dispatcher()
    handle = stage.continuum.start("shop.fan", "f", 12)
    assert handle.result(timeout=40) == [f"f:{number}" for number in range(12)]
    assert len({line["pid"] for line in stage.ledger("begin")}) == 12
    assert {line["attempt"] for line in stage.ledger("begin")} == {1}
    eventually(lambda: len(worker.children()) == 2)
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_dispatcher_that_is_drained_leaves_what_is_published_to_its_heir(stage: Stage) -> None:
    first = stage.dispatcher()
    handle = stage.continuum.start("shop.fan", "f", 20)
    eventually(lambda: stage.broker.queue_length(stage.queue) == 20)
    assert first.terminate(20) == 0, first.output
    stage.dispatcher()
    stage.worker()
    assert handle.result(timeout=20) == [f"f:{number}" for number in range(20)]
    # Nothing was published again: each activity has been delivered once.
    assert len(stage.ledger("begin")) == 20
    assert stage.broker.queue_length(stage.queue) == 0
    stage.audit()
