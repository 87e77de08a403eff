"""Attributes set from outside: merged key by key into the tip of the chain, ended or not, and never journaled."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from continuum.errors import JournalError, RunNotFound
from continuum.model.events import EventType
from continuum.model.ids import RunId, WorkerId, new_run_id
from continuum.model.search import parse_query
from tests.support.families import continuation, continue_as_new
from tests.support.journals import Desk, commit_of, event, moved


def put(desk: Desk, run_id: RunId, namespace: str | None = None, **attributes: Any) -> None:
    desk.journal.runs.set_attributes(run_id, json.dumps(attributes), namespace=namespace)


def test_attributes_are_merged_key_by_key_at_the_top(desk: Desk) -> None:
    run_id = desk.make_run(attributes='{"a":1,"b":{"x":1},"c":null}')
    put(desk, run_id, b={"y": 2}, c=3, d=None)
    assert desk.run(run_id).attributes == {"a": 1, "b": {"y": 2}, "c": 3, "d": None}


def test_a_run_without_attributes_gets_them(desk: Desk) -> None:
    run_id = desk.make_run()
    put(desk, run_id)
    assert desk.run(run_id).attributes == {}
    put(desk, run_id, a=1)
    put(desk, run_id, b="ü'\\\"")
    assert desk.run(run_id).attributes == {"a": 1, "b": "ü'\\\""}


def test_they_are_found_and_nothing_is_journaled(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    before = desk.run(run.run_id)
    put(desk, run.run_id, customer=7)
    assert [one.id for one in desk.journal.runs.search(parse_query({"attributes.customer": 7})).runs] == [run.run_id]
    after = desk.run(run.run_id)
    assert (after.last_seq, after.lease_owner, after.lease_token, after.wake_at, after.state) == (
        before.last_seq,
        before.lease_owner,
        before.lease_token,
        before.wake_at,
        before.state,
    )
    assert desk.mail(worker).messages == []
    desk.write(worker, run, event(EventType.VALUE_RECORDED, command=0, payload="1"))  # the owner was not disturbed


def test_an_ended_run_can_still_be_marked(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.end(worker, desk.fresh(worker)).run_id
    put(desk, run_id, reviewed=True)
    assert desk.run(run_id).attributes == {"reviewed": True}


def test_a_chain_is_marked_at_its_tip_whichever_of_its_runs_is_named(desk: Desk, worker: WorkerId) -> None:
    run = desk.began(worker, desk.fresh(worker, attributes='{"a":1}', namespace="eu"))
    successor = continue_as_new(desk, worker, run)
    put(desk, run.run_id, "eu", b=2)
    put(desk, successor, "eu", c=3)
    assert desk.run(successor).attributes == {"a": 1, "b": 2, "c": 3}
    assert desk.run(run.run_id).attributes == {"a": 1}


def test_what_was_set_before_a_run_continues_goes_along(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    put(desk, run.run_id, a=1)
    assert desk.run(continue_as_new(desk, worker, run)).attributes == {"a": 1}


def test_an_unknown_run_or_another_namespace_is_not_found_and_nothing_is_written(desk: Desk) -> None:
    run_id = desk.make_run(namespace="tenant-a")
    for target, namespace in ((run_id, "tenant-b"), (new_run_id(desk.now_us()), None)):
        with pytest.raises(RunNotFound):
            put(desk, target, namespace, a=1)
    assert desk.run(run_id).attributes == {}
    put(desk, run_id, "tenant-a", a=1)
    assert desk.run(run_id).attributes == {"a": 1}


@pytest.mark.parametrize("wrong", ["[1]", "1", "null", '"a"', "", "{", '{"a":"\\u0000"}', '{"a":"\0"}', '{"a":1}{}'])
def test_what_is_no_object_is_refused_and_nothing_is_written(desk: Desk, wrong: str) -> None:
    run_id = desk.make_run(attributes='{"a":1}')
    with pytest.raises(JournalError):
        desk.journal.runs.set_attributes(run_id, wrong)
    assert desk.run(run_id).attributes == {"a": 1}


@pytest.mark.parametrize("first", [None, '{"old":0}'])
def test_of_many_merges_at_once_all_survive(desk: Desk, first: str | None) -> None:
    run_id = desk.make_run(attributes=first)
    threads = 8
    barrier = Barrier(threads)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(5):
            put(desk, run_id, **{f"{number}.{turn}": number})

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    expected = {f"{number}.{turn}": number for number in range(threads) for turn in range(5)}
    assert desk.run(run_id).attributes == {**expected, **({} if first is None else {"old": 0})}


@pytest.mark.parametrize("first", [None, '{"old":0}'])
def test_a_run_and_outsiders_that_set_attributes_at_once_do_not_undo_each_other(
    desk: Desk, worker: WorkerId, first: str | None
) -> None:
    run = desk.parked(worker, attributes=first)
    steps = 30
    barrier = Barrier(3)

    def outside(name: str) -> None:
        barrier.wait()
        for step in range(steps):
            put(desk, run.run_id, **{f"{name}{step}": step})

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(outside, name) for name in "ab"]
        barrier.wait()
        for step in range(steps):
            text = json.dumps({f"run{step}": step})
            command = event(EventType.ATTRIBUTES_SET, command=step, payload=text)
            run = _until_written(desk, worker, run, command, attributes=text)
        for other in others:
            other.result()
    found = desk.run(run.run_id).attributes
    assert {f"{name}{step}" for name in ("a", "b", "run") for step in range(steps)} <= found.keys()


@pytest.mark.parametrize("first", [None, '{"old":0}'])
def test_a_merge_beside_a_continuation_is_never_lost(desk: Desk, worker: WorkerId, first: str | None) -> None:
    run = desk.parked(worker, attributes=first)
    root = run.run_id
    links = 12
    barrier = Barrier(2)

    def outside() -> None:
        barrier.wait()
        for step in range(links * 10):
            put(desk, root, **{f"k{step}": step})

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(outside)
        barrier.wait()
        for _ in range(links):
            run = _continued(desk, worker, run)
        other.result()
    assert {f"k{step}" for step in range(links * 10)} <= desk.run(run.run_id).attributes.keys()


def _until_written(desk: Desk, worker: WorkerId, run: Any, *events: Any, **fields: Any) -> Any:
    """Commit, again and again while the row is locked elsewhere, as a dispatcher does."""
    commit = commit_of(run, *events, **fields)
    while desk.commit(worker, commit) != {run.run_id}:
        pass
    return moved(run, commit)


def _continued(desk: Desk, worker: WorkerId, run: Any) -> Any:
    successor, commit = continuation(desk, run, successor_version=(run.version, run.version_hash))
    while desk.commit(worker, commit) != {run.run_id}:
        pass
    while True:  # a claim passes over what is locked elsewhere
        for again in desk.claim(worker, workflows=((run.workflow, run.version),)):
            assert again.run_id == successor
            return again
