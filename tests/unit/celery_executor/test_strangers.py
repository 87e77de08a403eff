"""Messages of an instance that this Celery worker does not have."""

import logging

import pytest
from celery import Celery

from continuum import Continuum
from continuum.celery_executor import tasks


def test_a_message_of_another_instance_is_said_once_with_what_to_do(
    app: Celery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_warned", set())
    tasks.register(app)
    run = app.tasks["continuum.activity"].run
    with Continuum("memory://strangers", name="shop") as instance, caplog.at_level(logging.WARNING, "continuum.celery"):
        instance.init_celery(app)
        for activity in ("charge", "ship"):
            call = ("nobody", "0190a6f0-0000-7000-8000-000000000001.0", 1, activity)
            assert run(*call) == "unknown-instance"
    [record] = caplog.records
    text = record.getMessage()
    assert "of the Continuum instance 'nobody' came to this Celery worker, which has " in text
    assert "'shop'" in text
    assert "neither a queue nor a database schema" in text
