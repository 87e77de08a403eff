"""What a run has published: of each name the last value, read from the tip of the chain."""

import pytest

from continuum.errors import RunNotFound
from continuum.model.events import EventType
from continuum.model.ids import RunId, WorkerId, new_run_id
from tests.support.families import continue_as_new, continued
from tests.support.journals import Desk, event


def published(desk: Desk, run_id: RunId, namespace: str | None = None) -> dict[str, str | None]:
    return {name: found.payload for name, found in desk.journal.runs.published(run_id, namespace=namespace).items()}


def test_a_run_that_has_published_nothing_has_nothing(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    assert published(desk, run.run_id) == {}
    desk.write(worker, run, event(EventType.VALUE_RECORDED, command=0, name="step", payload="1"))
    assert published(desk, run.run_id) == {}


def test_the_last_value_of_each_name_counts(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    values = [("step", "1"), ("ünï'", '{"z": 1,  "a": "\\u0000"}'), ("step", "2"), ("step", "3"), ("other", "null")]
    for number, (name, payload) in enumerate(values):
        run = desk.write(worker, run, event(EventType.VALUE_PUBLISHED, command=number, name=name, payload=payload))
    assert published(desk, run.run_id) == {"step": "3", "ünï'": '{"z": 1,  "a": "\\u0000"}', "other": "null"}
    assert desk.journal.runs.published(run.run_id)["step"] == desk.journal.runs.history(run.run_id)[-2]


def test_it_stays_when_the_run_has_ended(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    run = desk.write(worker, run, event(EventType.VALUE_PUBLISHED, command=0, name="step", payload="1"))
    desk.end(worker, run)
    assert published(desk, run.run_id) == {"step": "1"}


def test_a_chain_shows_what_its_tip_has_published(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    run = desk.write(worker, run, event(EventType.VALUE_PUBLISHED, command=0, name="step", payload="1"))
    first = run.run_id
    run = continued(desk, worker, run)
    assert published(desk, first) == {}
    run = desk.write(worker, run, event(EventType.VALUE_PUBLISHED, command=0, name="step", payload="2"))
    assert published(desk, first) == published(desk, run.run_id) == {"step": "2"}
    continue_as_new(desk, worker, run)
    assert published(desk, run.run_id) == {}


def test_an_unknown_run_or_another_namespace_is_not_found(desk: Desk) -> None:
    run_id = desk.make_run(namespace="tenant-a")
    for target, namespace in ((run_id, "tenant-b"), (new_run_id(desk.now_us()), None)):
        with pytest.raises(RunNotFound):
            published(desk, target, namespace)
    assert published(desk, run_id, "tenant-a") == {}
