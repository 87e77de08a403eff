"""Celery workers are killed, whole and in parts, while they run activities."""

import signal
import time

import psutil
import pytest

from tests.celery.stage import Stage
from tests.support.eventually import eventually


def test_a_killed_child_is_journaled_at_once(stage: Stage) -> None:
    # Nothing but the parent's word can be in time: leases end after a minute here.
    worker = stage.worker(SHOP_LEASE="60", SHOP_HEARTBEAT="10")
    stage.dispatcher(SHOP_LEASE="60", SHOP_HEARTBEAT="10")
    handle = stage.continuum.start("shop.call", "hold_once", ["h", "gate"])
    other = stage.continuum.start("shop.call", "hold", ["o", "other"])
    (line,) = stage.begun(1, item="h")
    stage.begun(1, item="o")
    killed = time.monotonic()
    worker.kill_child(line["pid"])
    assert handle.result(timeout=15) == "h"
    assert time.monotonic() - killed < 5
    assert [line["attempt"] for line in stage.ledger("begin", item="h")] == [1, 2]
    # The other child's work is not touched.
    stage.open("other")
    assert other.result(timeout=15) == "o"
    assert [line["attempt"] for line in stage.ledger("begin", item="o")] == [1]
    stage.audit()


def test_a_body_that_kills_its_process_each_time_fails_for_good(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    poison = stage.continuum.start("shop.call", "die", ["poison", 99])
    cured = stage.continuum.start("shop.call", "die", ["cured", 2])
    with pytest.raises(Exception, match="poison|died|killed|lost"):
        poison.result(timeout=30)
    assert cured.result(timeout=30) == "cured"
    assert [line["attempt"] for line in stage.ledger("begin", item="poison")] == [1, 2, 3, 4, 5]
    assert [line["attempt"] for line in stage.ledger("begin", item="cured")] == [1, 2, 3]
    stage.audit()


def test_a_killed_worker_leaves_its_work_to_another(stage: Stage) -> None:
    victim = stage.worker(concurrency=2)
    stage.dispatcher()
    handles = [stage.continuum.start("shop.call", "hold_once", [f"h{n}", "gate"]) for n in range(6)]
    stage.begun(2)
    victim.kill_all()
    heir = stage.worker(SHOP_DEADLINE="2")
    # Two were running, the others were in its memory: gone with the early acknowledgement, or still in the broker.
    stage.open("gate")
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == f"h{number}"
    assert {line["parent"] for line in stage.ledger("end")} == {heir.pid}
    stage.audit()


def test_a_worker_whose_main_process_is_killed_is_not_believed_by_halves(stage: Stage) -> None:
    victim = stage.worker(concurrency=2)
    stage.dispatcher()
    handles = [stage.continuum.start("shop.call", "hold_once", [f"h{n}", "gate"]) for n in range(2)]
    begun = stage.begun(2)
    victim.kill_main()
    stage.worker()
    # Its children still run, without anybody who renews their lease: their attempts end, and what they say later
    # does not count.
    for number, handle in enumerate(handles):
        assert handle.result(timeout=30) == f"h{number}"
    stage.open("gate")
    eventually(lambda: not any(psutil.pid_exists(line["pid"]) for line in begun), 20)
    stage.audit()


def test_a_wedged_child_does_not_starve_the_lease(stage: Stage) -> None:
    # Longer than the lease: only the parent can renew it meanwhile.
    stage.worker(concurrency=1)
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "stubborn", ["s", 5.0])
    assert handle.result(timeout=30) == "s"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1]
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@pytest.mark.parametrize("name", ["too_long", "deaf"])
def test_an_attempt_that_takes_too_long_is_ended_and_tried_again(stage: Stage, name: str) -> None:
    stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", name, ["t", 1])
    assert handle.result(timeout=40) == "t"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 2]
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_an_attempt_that_falls_silent_is_ended_and_goes_on_from_its_last_heartbeat(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "beat", ["b", 8, 3])
    assert handle.result(timeout=40) == "b"
    first, second = stage.ledger("begin")
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert 1 <= second["earlier"] <= 3
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_body_that_crashes_the_interpreter(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    assert stage.continuum.start("shop.call", "die", ["d", 1, int(signal.SIGSEGV)]).result(timeout=30) == "d"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 2]
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_body_that_calls_sys_exit_has_failed_and_takes_nobody_along(stage: Stage, pool: str) -> None:
    worker = stage.worker(pool=pool)
    stage.dispatcher()
    assert stage.continuum.start("shop.call", "leave", ["l"]).result(timeout=30) == "l"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 2]
    assert worker.alive
    stage.audit()
