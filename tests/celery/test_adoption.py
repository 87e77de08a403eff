"""What a Celery shop has stays as it is: its tasks are activities, its beat and services start workflows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from celery import Celery

from tests.celery.stage import APP, Stage
from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]


def celery(stage: Stage, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celery", "-A", APP, "continuum", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **stage.env}, capture_output=True, text=True, timeout=60, check=False
    )


def test_an_existing_task_retries_by_the_journal_and_sees_its_celery_id(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    handle = stage.continuum.start("shop.call", "legacy", ["old"])
    assert handle.result(timeout=30) == "old"
    assert len(stage.ledger("begin")) == 2
    [end] = stage.ledger("end")
    assert end["root"] == handle.id
    assert end["celery_id"] == f"{handle.id}.0", "the same for every attempt, as a retried Celery task keeps its id"
    stage.audit()


def test_other_services_start_workflows_once_each_by_a_celery_message(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    with Celery("client", broker=stage.broker.url) as client:

        def send(**options: Any) -> None:
            kwargs = {"instance": "shop", **options}
            client.send_task(
                "continuum.start", ("shop.chain", ["s", 2]), kwargs, queue=stage.default_queue, ignore_result=True
            )

        for _ in range(3):
            send(every="day")
            send(idempotency_key="mine")
    runs = eventually(lambda: (page := stage.continuum.search().runs) and all(run.ended for run in page) and page)
    assert [str(run.state) for run in runs] == ["completed"] * 2
    stage.audit()


def test_the_sub_command_of_celery_checks_and_lists(stage: Stage) -> None:
    stage.worker()
    stage.dispatcher()
    checked = celery(stage, "check", "--json")
    assert checked.stdout, checked.stderr
    document = json.loads(checked.stdout)
    assert (checked.returncode, document["ok"]) == (0, True), checked.stdout + checked.stderr
    assert {line["grade"] for line in document["checks"]} == {"ok"}, document
    started = celery(stage, "start", "shop.chain", "--input", '["c", 2]', "--wait", "--json")
    assert json.loads(started.stdout)["result"] == ["c:0", "c:1"]
    listed = json.loads(celery(stage, "runs", "--json").stdout)
    assert [run["workflow"] for run in listed["runs"]] == ["shop.chain"]
