"""An operator revokes Celery tasks that are activities; a run is cancelled whose activities wait or run in Celery."""

import pytest

from continuum.celery_executor.messages import celery_id
from continuum.model.ids import RunId
from continuum.model.tasks import TaskRef
from tests.celery.mail import client
from tests.celery.nodes import Worker
from tests.celery.stage import Stage
from tests.support.eventually import eventually


def revoke(stage: Stage, worker: Worker, run_id: str, **options: object) -> None:
    """Revoke the message of a run's only task."""
    ((command, attempt, dispatch_no),) = stage.rows(
        "select command, attempt, dispatch_no from continuum_tasks where run_id = %s", run_id
    )
    message = celery_id(TaskRef(RunId(run_id), command, attempt), dispatch_no)
    # A connection of its own: kombu's pools are the process's, and may hold one that an earlier test has broken.
    with client(stage) as app, app.connection_for_write() as connection:
        answers = app.control.revoke(message, reply=True, timeout=5, limit=1, connection=connection, **options)
    assert answers, f"{worker} did not answer"


@pytest.mark.timeout(90)
def test_a_revoked_message_that_waits_comes_again(stage: Stage) -> None:
    worker = stage.worker(concurrency=1)
    stage.dispatcher(SHOP_DEADLINE="3")
    running = stage.continuum.start("shop.call", "hold", ["running", "gate"])
    stage.begun(1)
    waiting = stage.continuum.start("shop.call", "step", ["waiting"])
    eventually(lambda: stage.rows("select 1 from continuum_tasks where run_id = %s", waiting.id))
    revoke(stage, worker, waiting.id)
    stage.open("gate")
    assert running.result(timeout=20) == "running"
    worker.expect("Discarding revoked task", 20)
    # Cancelling is said to Continuum; to Celery it only costs time.
    assert waiting.result(timeout=60) == "waiting"
    assert [line["attempt"] for line in stage.ledger("begin", item="waiting")] == [1]
    stage.audit()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_a_revoked_message_that_runs_is_ended_and_tried_again(stage: Stage, number: str) -> None:
    worker = stage.worker(concurrency=1)
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "hold", ["h", "gate"])
    (line,) = stage.begun(1)
    revoke(stage, worker, handle.id, terminate=True, signal=number)
    eventually(lambda: line["pid"] not in worker.children(), 10)
    stage.open("gate")
    assert handle.result(timeout=40) == "h"
    assert worker.alive
    stage.audit()


def test_a_cancelled_run_tells_the_activity_that_runs(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "until_cancelled", ["c"])
    stage.begun(1)
    handle.cancel()
    eventually(lambda: stage.ledger("cancelled"), 20)
    eventually(lambda: handle.refresh().state == "cancelled", 20)
    stage.audit()


def test_a_cancelled_run_whose_activity_waits_never_runs_it(stage: Stage) -> None:
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "step", ["never"])
    eventually(lambda: stage.broker.queue_length(stage.queue) == 1)
    handle.cancel()
    eventually(lambda: handle.refresh().state == "cancelled", 20)
    worker = stage.worker()
    after = stage.continuum.start("shop.call", "step", ["after"])
    assert after.result(timeout=20) == "after"
    assert worker.alive and [line["item"] for line in stage.ledger("begin")] == ["after"]
    stage.audit(at_least_once=False)
