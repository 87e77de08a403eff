"""The broker forgets, goes away, is cut off, or accepts and never answers: work is late, never lost, never doubled."""

import time

import pytest

from tests.celery.proxy import Proxy
from tests.celery.stage import Stage
from tests.support.eventually import eventually

EARLY = 10.0  # after which a dispatched task is published again if the broker says that nothing waits


@pytest.mark.timeout(90)
def test_a_flushed_queue_is_filled_again(stage: Stage) -> None:
    stage.dispatcher()
    handle = stage.continuum.start("shop.fan", "f", 50)
    eventually(lambda: stage.broker.queue_length(stage.queue) == 50)
    stage.broker.flush()
    assert stage.broker.queue_length(stage.queue) == 0
    begun = time.monotonic()
    stage.worker()
    assert handle.result(timeout=60) == [f"f:{number}" for number in range(50)]
    assert time.monotonic() - begun < EARLY * 2
    assert len(stage.ledger("begin")) == 50
    stage.audit()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_flush_under_a_worker_that_is_busy(stage: Stage) -> None:
    worker = stage.worker(concurrency=1, SHOP_PREFETCH="1")
    stage.dispatcher()
    held = stage.continuum.start("shop.call", "hold", ["h", "gate"])
    stage.begun(1)
    handle = stage.continuum.start("shop.fan", "f", 20)
    eventually(lambda: stage.broker.queue_length(stage.queue) >= 18)
    stage.broker.flush()
    stage.open("gate")
    assert held.result(timeout=20) == "h"
    assert handle.result(timeout=60) == [f"f:{number}" for number in range(20)]
    assert {line["attempt"] for line in stage.ledger("begin")} == {1}
    assert worker.alive
    stage.audit()


@pytest.mark.timeout(90)
def test_a_dispatcher_that_is_refused_for_a_while(stage: Stage, proxy: Proxy) -> None:
    stage.worker()
    dispatcher = stage.dispatcher(SHOP_BROKER=proxy.url)
    assert stage.continuum.start("shop.chain", "warm", 2).result(timeout=20)
    proxy.refuse()
    handles = [stage.continuum.start("shop.chain", f"c{n}", 3) for n in range(5)]
    eventually(lambda: stage.states().total() == 5)
    proxy.accept()
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == [f"c{number}:{step}" for step in range(3)]
    assert dispatcher.alive
    stage.audit()


@pytest.mark.timeout(90)
def test_a_broker_that_is_away_for_a_while(stage: Stage) -> None:
    worker = stage.worker()
    dispatcher = stage.dispatcher()
    before = stage.continuum.start("shop.chain", "before", 5)
    assert before.result(timeout=20) == [f"before:{number}" for number in range(5)]
    with stage.broker.outage():
        handles = [stage.continuum.start("shop.chain", f"c{n}", 3) for n in range(5)]
        local = stage.continuum.start("shop.call", "local", ["l"])
        # Whatever does not need the broker goes on.
        assert local.result(timeout=20) == "l"
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == [f"c{number}:{step}" for step in range(3)]
    assert worker.alive and dispatcher.alive
    stage.audit()


@pytest.mark.timeout(90)
def test_a_dispatcher_and_a_worker_start_while_the_broker_is_down(stage: Stage) -> None:
    with stage.broker.outage():
        dispatcher = stage.dispatcher()
        worker = stage.worker(wait=False)
        handle = stage.continuum.start("shop.chain", "c", 3)
        eventually(lambda: stage.states().total() == 1)
        worker.expect("(?i)cannot connect|connection refused", 20)
    assert handle.result(timeout=60) == [f"c:{step}" for step in range(3)]
    assert dispatcher.alive and worker.alive
    stage.audit()


@pytest.mark.timeout(90)
def test_a_connection_that_is_cut_in_the_middle_of_a_publish(stage: Stage, proxy: Proxy) -> None:
    stage.worker()
    stage.dispatcher(SHOP_BROKER=proxy.url)
    assert stage.continuum.start("shop.chain", "warm", 2).result(timeout=20)
    proxy.cut_at(b"continuum.activity")
    handle = stage.continuum.start("shop.fan", "f", 20)
    assert handle.result(timeout=60) == [f"f:{number}" for number in range(20)]
    assert proxy.seen[b"continuum.activity"] == 1
    stage.audit()


@pytest.mark.timeout(90)
def test_a_publish_whose_confirmation_is_lost(stage: Stage, proxy: Proxy) -> None:
    stage.worker()
    stage.dispatcher(SHOP_BROKER=proxy.url)
    assert stage.continuum.start("shop.chain", "warm", 2).result(timeout=20)
    proxy.lose_answer_to(b"continuum.activity")
    handle = stage.continuum.start("shop.fan", "f", 20)
    eventually(lambda: proxy.muted, 20)
    proxy.cut()
    proxy.accept()
    assert handle.result(timeout=60) == [f"f:{number}" for number in range(20)]
    assert len(stage.ledger("begin")) == 22
    stage.audit()


@pytest.mark.timeout(120)
def test_a_broker_that_accepts_and_never_answers(stage: Stage, proxy: Proxy) -> None:
    stage.worker()
    dispatcher = stage.dispatcher(SHOP_BROKER=proxy.url)
    assert stage.continuum.start("shop.chain", "warm", 2).result(timeout=20)
    proxy.freeze()
    handles = [stage.continuum.start("shop.chain", f"c{n}", 3) for n in range(5)]
    # Turns, timers and local work do not wait for the broker.
    for number in range(20):
        assert stage.continuum.start("shop.call", "local", [f"l{number}"]).result(timeout=10) == f"l{number}"
    stage_of = stage.states()
    assert stage_of.total() == 5, stage_of
    proxy.thaw()
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == [f"c{number}:{step}" for step in range(3)]
    assert dispatcher.terminate(20) == 0, dispatcher.output
    stage.audit()


@pytest.mark.timeout(90)
def test_a_dispatcher_drains_while_its_broker_does_not_answer(stage: Stage, proxy: Proxy) -> None:
    dispatcher = stage.dispatcher(SHOP_BROKER=proxy.url)
    proxy.freeze()
    handle = stage.continuum.start("shop.chain", "c", 3)
    eventually(lambda: stage.states().total() == 1)
    assert dispatcher.terminate(25) in (0, 1), dispatcher.output
    stage.worker()
    stage.dispatcher()
    assert handle.result(timeout=60) == [f"c:{step}" for step in range(3)]
    stage.audit()


@pytest.mark.timeout(90)
def test_a_workers_connection_is_torn_while_it_works(stage: Stage, proxy: Proxy) -> None:
    worker = stage.worker(SHOP_BROKER=proxy.url)
    stage.dispatcher()
    handles = [stage.continuum.start("shop.call", "hold", [f"h{n}", "gate"]) for n in range(2)]
    chains = [stage.continuum.start("shop.chain", f"c{n}", 3) for n in range(3)]
    stage.begun(2, activity="shop.hold")
    proxy.cut()
    stage.open("gate")
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60) == f"h{number}"
    for number, handle in enumerate(chains):
        assert handle.result(timeout=60) == [f"c{number}:{step}" for step in range(3)]
    # Their claims stood all the while: nothing was done twice.
    assert {line["attempt"] for line in stage.ledger("begin")} == {1}
    assert worker.alive
    stage.audit()
