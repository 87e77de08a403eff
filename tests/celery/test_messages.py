"""Messages that come more than once, too late, to the wrong worker, or from nobody."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from continuum import Continuum
from tests.celery.brokers import Broker
from tests.celery.mail import forge, put, take
from tests.celery.stage import Stage
from tests.celery.work import BOOKINGS
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.processes import Processes


def test_a_message_that_is_delivered_three_times_is_executed_once(stage: Stage) -> None:
    stage.dispatcher()
    held = stage.continuum.start("shop.call", "hold", ["h", "gate"])
    message = take(stage)
    put(stage, message, times=3)
    worker = stage.worker(concurrency=3)
    stage.begun(1)
    # The others are answered while the first still runs; and one comes when all is over.
    worker.expect(r"(?s)(succeeded in .*){2}", 20)
    assert len(stage.ledger("begin")) == 1
    stage.open("gate")
    assert held.result(timeout=20) == "h"
    put(stage, message)
    worker.expect(r"(?s)(succeeded in .*){4}", 20)
    assert len(stage.ledger("begin")) == 1
    assert "Traceback" not in worker.log
    stage.audit()


def test_a_message_of_an_earlier_attempt_does_nothing(stage: Stage) -> None:
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "hold", ["h", "gate"])
    first = take(stage)
    put(stage, first)
    worker = stage.worker()
    (line,) = stage.begun(1)
    worker.kill_child(line["pid"])
    stage.begun(2)
    put(stage, first)
    worker.expect("succeeded in", 20)
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 2]
    stage.open("gate")
    assert handle.result(timeout=20) == "h"
    stage.audit()


def test_a_message_of_an_earlier_dispatch_is_as_good_as_the_later_one_but_not_both(stage: Stage) -> None:
    stage.dispatcher(SHOP_DEADLINE="1")
    handle = stage.continuum.start("shop.call", "step", ["s"])
    first, second = take(stage), take(stage)
    assert first.headers["id"] != second.headers["id"]
    assert first.headers["root_id"] == second.headers["root_id"] == handle.id
    put(stage, second)
    put(stage, first)
    worker = stage.worker(concurrency=1)
    assert handle.result(timeout=20) == "s"
    worker.expect(r"(?s)(succeeded in .*){2}", 20)
    assert len(stage.ledger("begin")) == 1
    stage.audit()


def test_messages_of_nobody_are_answered_and_forgotten(stage: Stage) -> None:
    worker = stage.worker(concurrency=1)
    stage.dispatcher()
    unknown = f"{uuid.uuid4()}.0"
    forge(stage, ["shop", unknown, 1, "shop.step"])
    forge(stage, ["nobody", unknown, 1, "shop.step"])
    forge(stage, ["shop", "not a task", 1, "shop.step"])
    forge(stage, ["shop", unknown, "one", "shop.step"])
    forge(stage, ["shop", f"{'0' * 40}.99999999999999999999", 2**70, "shop.step"])
    forge(stage, [])
    forge(stage, ["shop", unknown, 1, "shop.step", "of a later release"], kwargs={"later": True})
    assert stage.continuum.start("shop.call", "step", ["s"]).result(timeout=20) == "s"
    eventually(lambda: stage.broker.queue_length(stage.queue) == 0)
    assert worker.alive and "Traceback" not in worker.log, worker.log
    assert len(stage.ledger("begin")) == 1
    stage.audit()


@pytest.mark.timeout(90)
def test_a_worker_without_the_code_leaves_the_work_to_one_that_has_it(stage: Stage) -> None:
    without = stage.worker(SHOP_WITHOUT_CODE="1")
    stage.dispatcher()
    handle = stage.continuum.start("shop.fan", "f", 2)
    without.expect("unknown-activity", 20)
    # Whoever asks the broker first gets the next message, and again after some seconds if that was the wrong one.
    knowing = [stage.worker(concurrency=1).pid for _ in range(2)]
    assert handle.result(timeout=60) == [f"f:{number}" for number in range(2)]
    assert all(line["parent"] in knowing and line["attempt"] == 1 for line in stage.ledger("begin"))
    assert without.alive
    stage.audit()


@pytest.fixture
def other_stage(stage: Stage, databases: Databases, tmp_path: Path, processes: Processes) -> Iterator[Stage]:
    """Yield a second shop on the same broker and the same queues, with a database of its own."""
    directory = tmp_path / "other"
    directory.mkdir()
    with databases.fresh() as url:
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute(BOOKINGS)
        connection.close()
        with Continuum(url, modules=["tests.celery.work"], name="other") as continuum:
            made = Stage(stage.broker, url=url, directory=directory, processes=processes, continuum=continuum)
            try:
                yield made
            finally:
                made.close()
                for process in processes.started:
                    process.close()


@pytest.mark.timeout(90)
def test_two_apps_share_a_broker_and_even_a_queue(stage: Stage, other_stage: Stage, broker: Broker) -> None:
    stage.dispatcher(SHOP_DEADLINE="1")
    other_stage.dispatcher(SHOP_DEADLINE="1", SHOP_NAME="other")
    mine = stage.worker()
    theirs = other_stage.continuum.start("shop.call", "step", ["theirs"])
    mine.expect("unknown-instance", 20)
    ours = stage.continuum.start("shop.call", "step", ["ours"])
    assert ours.result(timeout=20) == "ours"
    # With queues of their own they would not meet; here it takes until their worker is the one that gets it.
    mine.term()
    mine.wait()
    worker = other_stage.worker(SHOP_NAME="other")
    begun = time.monotonic()
    assert theirs.result(timeout=30) == "theirs"
    assert time.monotonic() - begun < 15
    assert [line["parent"] for line in other_stage.ledger("begin")] == [worker.pid]
    assert [line["parent"] for line in stage.ledger("begin")] == [mine.pid]
    stage.audit()
    other_stage.audit()
