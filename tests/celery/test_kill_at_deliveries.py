"""A Celery worker is killed, or told to end, at each probe of a delivery or of the keeper: no harm is done."""

import signal

import pytest

from tests.celery.stage import Stage
from tests.support.eventually import eventually

pytestmark = [pytest.mark.timeout(100), pytest.mark.parametrize("broker", ["redis"], indirect=True)]

RUNS = 3
IN_THE_CHILD = ["delivery.claimed", "delivery.returned", "delivery.reported", "attempt.transaction", "attempt.retried"]


def struck(stage: Stage, probe: str) -> bool:
    return (stage.directory / f"struck-{probe}").exists()


@pytest.mark.parametrize("whom", ["child", "group"])
@pytest.mark.parametrize("probe", IN_THE_CHILD)
def test_a_kill_in_a_delivery(stage: Stage, probe: str, whom: str) -> None:
    worker = stage.worker(SHOP_STRIKE=f"{probe}:SIGKILL:{whom}")
    stage.dispatcher()
    handles = [stage.continuum.start("shop.mixed", f"m{number}") for number in range(RUNS)]
    eventually(lambda: struck(stage, probe), 30)
    if whom == "group":
        assert worker.wait() == -signal.SIGKILL
        stage.worker()
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == [f"m{number}:{part}" for part in range(1, 8)]
    # What an activity wrote in its transaction is there exactly once.
    assert stage.rows("select item from bookings order by 1") == [(f"m{number}:6",) for number in range(RUNS)]
    if probe == "delivery.reported":
        # It was done, and said; that its process died does not matter any more.
        assert {line["attempt"] for line in stage.ledger("begin") if line["activity"] != "shop.fail"} == {1}
    stage.audit()


@pytest.mark.parametrize("number", ["SIGUSR1", "SIGTERM"])
@pytest.mark.parametrize("probe", ["delivery.returned", "delivery.reported"])
def test_a_limit_or_an_end_that_comes_within_our_own_report_does_not_harm_it(
    stage: Stage, probe: str, number: str
) -> None:
    worker = stage.worker(concurrency=1, SHOP_STRIKE=f"{probe}:{number}:child")
    stage.dispatcher()
    handle = stage.continuum.start("shop.chain", "c", 4)
    assert handle.result(timeout=30) == [f"c:{step}" for step in range(4)]
    assert struck(stage, probe)
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 1, 1, 1]
    # A soft limit is over with the body; who is told to end does so, once all is said.
    pids = {line["pid"] for line in stage.ledger("begin")}
    assert len(pids) == (1 if number == "SIGUSR1" else 2)
    assert worker.alive
    stage.audit()


@pytest.mark.parametrize("number", ["SIGUSR1", "SIGTERM"])
def test_a_limit_or_an_end_that_comes_within_our_claim_reaches_the_body(stage: Stage, number: str) -> None:
    worker = stage.worker(concurrency=1, SHOP_STRIKE=f"delivery.claimed:{number}:child")
    stage.dispatcher()
    handle = stage.continuum.start("shop.chain", "c", 4)
    assert handle.result(timeout=30) == [f"c:{step}" for step in range(4)]
    assert struck(stage, "delivery.claimed")
    assert len(stage.ledger("end")) == 4
    assert worker.alive
    stage.audit()


def test_a_child_that_dies_after_it_has_put_its_work_back(stage: Stage) -> None:
    worker = stage.worker(concurrency=1, SHOP_STRIKE="delivery.freed:SIGKILL:child")
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "hold", ["h", "gate"])
    stage.begun(1)
    worker.quit()
    worker.wait(20)
    assert struck(stage, "delivery.freed")
    stage.open("gate")
    stage.worker()
    assert handle.result(timeout=30) == "h"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 1]
    stage.audit()


def test_a_keeper_that_dies_before_it_has_told_of_a_dead_child(stage: Stage) -> None:
    worker = stage.worker(SHOP_STRIKE="keeper.mourning:SIGKILL:group")
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "die", ["d"])
    assert worker.wait() == -signal.SIGKILL
    stage.worker()
    assert handle.result(timeout=30) == "d"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 2]
    stage.audit()


def test_a_worker_that_dies_as_soon_as_it_has_a_lease(stage: Stage) -> None:
    worker = stage.worker(wait=False, SHOP_STRIKE="keeper.registered:SIGKILL:group")
    stage.dispatcher()
    handle = stage.continuum.start("shop.chain", "c", 2)
    assert worker.wait() == -signal.SIGKILL
    stage.worker()
    assert handle.result(timeout=30) == ["c:0", "c:1"]
    assert {line["attempt"] for line in stage.ledger("begin")} == {1}
    stage.audit()


def test_a_worker_that_dies_before_it_has_given_its_lease_up(stage: Stage) -> None:
    worker = stage.worker(concurrency=1, SHOP_STRIKE="keeper.leaving:SIGKILL:group")
    stage.dispatcher()
    handles = [stage.continuum.start("shop.call", "hold", [f"h{n}", "gate"]) for n in range(3)]
    stage.begun(1)
    worker.term()
    stage.open("gate")
    assert worker.wait() == -signal.SIGKILL
    stage.worker()
    for number, handle in enumerate(handles):
        assert handle.result(timeout=30) == f"h{number}"
    assert {line["attempt"] for line in stage.ledger("begin")} == {1}
    stage.audit()
