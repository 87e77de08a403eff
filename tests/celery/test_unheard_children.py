"""Children of the pool whose beginning their Celery worker has not heard of, because it was busy losing its broker."""

import os
import signal

import pytest

from tests.celery.stage import Stage
from tests.support.eventually import eventually


@pytest.mark.timeout(90)
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_child_that_begins_while_the_broker_is_lost_is_left_alone(stage: Stage) -> None:
    stage.broker.require_own()
    worker = stage.worker(concurrency=1)
    stage.dispatcher()
    (child,) = worker.children()
    # It does not read its pipe yet: the pool has given it the message, and heard nothing.
    os.kill(child, signal.SIGSTOP)
    handle = stage.continuum.start("shop.call", "hold", ["h", "gate"])
    worker.expect(r"Task shop\.hold\[.*received")
    stage.broker.kill()
    worker.expect("(?i)connection to broker lost|cannot connect to")
    os.kill(child, signal.SIGCONT)
    (begun,) = stage.begun(1)
    stage.broker.start()
    # Longer than the keeper looks on when it finds what nobody seems to run.
    eventually(lambda: _age(stage, begun) > 20, 40)
    assert stage.rows("select attempt, state::text from continuum_tasks") == [(1, "leased")]
    stage.open("gate")
    assert handle.result(timeout=20) == "h"
    assert [line["attempt"] for line in stage.ledger("begin")] == [1]
    stage.audit()


def _age(stage: Stage, begun: dict[str, float]) -> float:
    ((now,),) = stage.rows("select extract(epoch from clock_timestamp())::float")
    return float(now) - begun["at"]
