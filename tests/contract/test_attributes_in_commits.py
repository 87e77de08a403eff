"""Attributes that a run sets in its commit: merged key by key, with the commit or not at all."""

import pytest

from continuum.errors import JournalError
from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.runs import RunState
from tests.support.journals import Desk, commit_of, event, grant_of

BEGAN = event(EventType.RUN_BEGAN)


def test_a_commit_sets_attributes_of_a_run_that_had_none(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.write(worker, run, BEGAN, attributes='{"customer": 7, "tags": ["a", "b"], "name": "Zoë"}')
    assert desk.run(run.run_id).attributes == {"customer": 7, "tags": ["a", "b"], "name": "Zoë"}


def test_a_commit_merges_key_by_key(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, attributes='{"a": 1, "b": {"c": 1, "d": 1}, "e": [1]}')
    run = desk.write(worker, run, BEGAN, attributes='{"b": {"c": 2}, "f": true}')
    assert desk.run(run.run_id).attributes == {"a": 1, "b": {"c": 2}, "e": [1], "f": True}
    desk.write(worker, run, attributes='{"e": null}')
    assert desk.run(run.run_id).attributes == {"a": 1, "b": {"c": 2}, "e": None, "f": True}


@pytest.mark.parametrize("attributes", [None, "{}"])
def test_a_commit_that_sets_nothing_leaves_them_alone(desk: Desk, worker: WorkerId, attributes: str | None) -> None:
    run = desk.fresh(worker, attributes='{"a": 1}')
    desk.write(worker, run, BEGAN, attributes=attributes)
    assert desk.run(run.run_id).attributes == {"a": 1}


def test_types_survive(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.write(worker, run, BEGAN, attributes='{"i": 1, "s": "1", "b": true, "f": 1.5, "n": null, "big": 12345678901}')
    found = desk.run(run.run_id).attributes
    assert found == {"i": 1, "s": "1", "b": True, "f": 1.5, "n": None, "big": 12345678901}
    assert [type(found[key]) for key in ("i", "s", "b", "f")] == [int, str, bool, float]


def test_a_run_that_ends_sets_attributes_too(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker, attributes='{"a": 1}')
    desk.end(worker, run, attributes='{"result": 5}')
    assert desk.run(run.run_id).attributes == {"a": 1, "result": 5}


def test_a_batch_may_mix_runs_that_set_attributes_with_others(desk: Desk, worker: WorkerId) -> None:
    for number in range(60):
        # Some have a row of attributes already, some have not.
        desk.make_run(attributes=f'{{"old": {number}}}' if number % 2 else None)
    runs = desk.claim(worker)
    desk.regrant(worker, grant_of(runs[9]))
    commits = [
        commit_of(run, BEGAN, attributes=f'{{"new": {number}}}' if number % 3 == 0 else None, state=RunState.SUSPENDED)
        for number, run in enumerate(runs)
    ]
    assert desk.commit(worker, *commits) == {run.run_id for run in runs if run is not runs[9]}
    for number, run in enumerate(runs):
        old = {"old": number} if number % 2 else {}
        new = {"new": number} if number % 3 == 0 and number != 9 else {}
        assert desk.run(run.run_id).attributes == old | new


@pytest.mark.parametrize("poison", ["{nonsense", '{"a": "\\u0000"}', '{"a": "b\0"}'], ids=["no JSON", "NUL", "raw NUL"])
def test_attributes_that_no_column_takes_refuse_the_whole_request(desk: Desk, worker: WorkerId, poison: str) -> None:
    plain, run = desk.fresh(worker), desk.fresh(worker, attributes='{"a": 1}')
    with pytest.raises(JournalError):
        desk.commit(worker, commit_of(plain, BEGAN), commit_of(run, BEGAN, attributes=poison))
    assert [desk.types(one.run_id) for one in (plain, run)] == [["run_started"]] * 2
    assert desk.run(run.run_id).attributes == {"a": 1}
    assert desk.commit(worker, commit_of(plain, BEGAN)) == {plain.run_id}
