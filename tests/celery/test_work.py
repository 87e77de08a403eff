"""Work that meets no fault: every kind of activity, on each broker and in each pool."""

import pytest

from tests.celery.mail import forge
from tests.celery.stage import Stage


def test_a_chain_of_ten_runs_in_a_prefork_worker(stage: Stage) -> None:
    worker = stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.chain", "ten", 10)
    assert handle.result(timeout=30) == [f"ten:{number}" for number in range(10)]
    children = set(worker.children())
    assert {line["pid"] for line in stage.ledger("begin")} <= children
    assert len(stage.ledger("begin")) == len(stage.ledger("end")) == 10
    stage.audit()


def test_fifty_at_once_run_once_each(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.fan", "many", 50)
    assert handle.result(timeout=30) == [f"many:{number}" for number in range(50)]
    assert len(stage.ledger("begin")) == 50
    stage.audit()


def test_every_kind_of_activity(stage: Stage) -> None:
    worker = stage.worker()
    dispatcher = stage.dispatcher()
    handles = [stage.continuum.start("shop.mixed", f"m{number}") for number in range(5)]
    for number, handle in enumerate(handles):
        assert handle.result(timeout=30) == [f"m{number}:{part}" for part in range(1, 8)]
    # What is said to be local stays in the dispatcher, and nothing else does.
    assert {line["pid"] for line in stage.ledger(activity="shop.local")} == {dispatcher.pid}
    assert {line["parent"] for line in stage.ledger() if line["activity"] != "shop.local"} == {worker.pid}
    assert stage.rows("select item from bookings order by 1") == [(f"m{number}:6",) for number in range(5)]
    stage.audit()


def test_a_saga_is_undone_where_it_was_done(stage: Stage) -> None:
    worker = stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.undone", "u")
    assert handle.result(timeout=30) == ["u:2", "u:1"]
    undoing = stage.ledger(activity="shop.undo")
    assert [(line["item"], line["attempt"], line["what"]) for line in undoing] == [
        (item, attempt, what) for item in ("u:2", "u:1") for attempt, what in ((1, "begin"), (2, "begin"), (2, "end"))
    ]
    assert {line["parent"] for line in undoing} == {worker.pid}
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_pools_without_children(stage: Stage, pool: str) -> None:
    worker = stage.worker(pool=pool)
    stage.dispatcher()
    mixed = stage.continuum.start("shop.mixed", "m")
    fan = stage.continuum.start("shop.fan", "f", 10)
    assert mixed.result(timeout=30) == [f"m:{part}" for part in range(1, 8)]
    assert fan.result(timeout=30) == [f"f:{number}" for number in range(10)]
    assert {line["pid"] for line in stage.ledger("begin", activity="shop.step")} == {worker.pid}
    stage.audit()


def test_the_shops_own_tasks_do_not_notice(stage: Stage) -> None:
    worker = stage.worker()
    forge(stage, [1, 2], name="shop.add", queue=stage.default_queue)
    worker.expect(r"shop\.add\[.*succeeded.*: 3")


def test_an_existing_task_runs_as_an_activity(stage: Stage) -> None:
    worker = stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "legacy", ["old"])
    assert handle.result(timeout=20) == "old"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 2]
    assert [line["root"] for line in stage.ledger("end")] == [handle.id]
    assert "shop.legacy" in worker.log
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_large_result(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    assert len(stage.continuum.start("shop.call", "big", ["b", 1_000_000]).result(timeout=30)) == 1_000_000
    stage.audit()


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_an_activity_with_a_queue_of_its_own_runs_where_that_is_consumed(stage: Stage) -> None:
    urgent = stage.broker.queue("urgent")
    stage.worker()
    other = stage.worker(queues=[urgent])
    stage.dispatcher()
    assert stage.continuum.start("shop.call", "step", ["u"], urgent).result(timeout=30) == "u"
    assert [line["parent"] for line in stage.ledger("begin")] == [other.pid]
    stage.audit()
