"""Searching for runs: by their fields, by their attributes as JSON has them, in an order, page by page."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from continuum.model.events import EventType
from continuum.model.ids import RunId, WorkerId
from continuum.model.search import Query, parse_query
from tests.support.families import bear, child_of, continue_as_new
from tests.support.journals import Desk, event

HOSTILE = ["'", '"', "\\", "%", "_", "a.b", "", "0", "$1", "{}", "'; drop table continuum_runs; --", "ünïcode ☃", ":p"]


def search(desk: Desk, where: Any = None, **options: Any) -> list[RunId]:
    return [run.id for run in desk.journal.runs.search(parse_query(where, **options)).runs]


def walk(desk: Desk, where: Any = None, **options: Any) -> list[RunId]:
    """Read all pages."""
    found: list[RunId] = []
    cursor = None
    while True:
        page = desk.journal.runs.search(parse_query(where, cursor=cursor, **options))
        assert len(page.runs) <= options.get("limit", 50)
        found += [run.id for run in page.runs]
        cursor = page.cursor
        if cursor is None:
            return found


def with_attributes(desk: Desk, *values: Any) -> dict[RunId, Any]:
    """Start a run for each of these attributes."""
    return {desk.make_run(attributes=msgspec.json.encode(value).decode()): value for value in values}


def found_by(desk: Desk, runs: dict[RunId, Any], where: Any) -> list[Any]:
    return [runs[run_id] for run_id in search(desk, where, order="created_at")]


# ------------------------------------------------------------------ pages


def test_runs_are_found_newest_first(desk: Desk) -> None:
    made = [desk.make_run() for _ in range(5)]
    page = desk.journal.runs.search(Query())
    assert [run.id for run in page.runs] == made[::-1]
    assert page.cursor is None
    assert page.runs[0] == desk.run(made[-1])


def test_no_runs_are_an_empty_page(desk: Desk) -> None:
    page = desk.journal.runs.search(Query())
    assert (page.runs, page.cursor) == ([], None)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("order", ["created_at", "-created_at", "id", "-id"])
def test_pages_together_are_the_whole_list(desk: Desk, limit: int, order: str) -> None:
    made = [desk.make_run() for _ in range(5)]
    assert walk(desk, limit=limit, order=order) == (made[::-1] if order.startswith("-") else made)


def test_a_page_has_at_most_its_limit(desk: Desk) -> None:
    for _ in range(3):
        desk.make_run()
    page = desk.journal.runs.search(parse_query(limit=2))
    assert len(page.runs) == 2
    assert page.cursor is not None


@pytest.mark.parametrize("order", ["created_at", "-created_at", "id", "-id"])
def test_a_run_started_between_two_pages_neither_repeats_nor_hides_one(desk: Desk, order: str) -> None:
    made = [desk.make_run() for _ in range(4)]
    first = desk.journal.runs.search(parse_query(limit=2, order=order))
    late = desk.make_run()
    second = desk.journal.runs.search(parse_query(limit=5, order=order, cursor=first.cursor))
    expected = made[::-1] if order.startswith("-") else [*made, late]
    assert [run.id for run in first.runs + second.runs] == expected
    assert second.cursor is None


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("order", ["started_at", "-started_at", "completed_at", "-completed_at"])
def test_runs_without_the_time_come_last_in_both_directions_and_none_is_lost_at_the_border(
    desk: Desk, worker: WorkerId, order: str, limit: int
) -> None:
    done = [desk.end(worker, desk.parked(worker)).run_id for _ in range(3)]
    never = [desk.make_run() for _ in range(3)]
    found = walk(desk, order=order, limit=limit)
    turned = order.startswith("-")
    assert found == ([*done[::-1], *never[::-1]] if turned else [*done, *never])


def test_the_conditions_hold_on_every_page(desk: Desk) -> None:
    eu = [desk.make_run(namespace="eu") if index % 2 else desk.make_run() for index in range(6)][1::2]
    assert walk(desk, {"namespace": "eu"}, limit=1) == eu[::-1]
    assert walk(desk, limit=1, namespace="eu") == eu[::-1]


# ------------------------------------------------------------------ fields


def test_runs_are_found_by_state_workflow_and_namespace(desk: Desk, worker: WorkerId) -> None:
    done = desk.end(worker, desk.fresh(worker)).run_id
    waiting = desk.parked(worker).run_id
    european = desk.make_run(namespace="eu")
    other = desk.make_run(workflow="other")
    assert search(desk, namespace="eu") == [european]
    assert search(desk, {"namespace": "eu"}, namespace="default") == []
    assert search(desk, {"namespace": {"ne": "eu"}}) == [other, waiting, done]
    assert search(desk, {"workflow": "other"}) == [other]
    assert search(desk, {"state": ["completed", "suspended"]}) == [waiting, done]
    assert search(desk, {"state": "pending", "workflow": "order"}) == [european]
    assert search(desk, {"state": {"ne": "pending"}}) == [waiting, done]
    assert search(desk, {"state": []}) == []
    assert search(desk, {"workflow": {"contains": "the"}}) == [other]


def test_terminated_is_a_state_of_its_own_and_not_failed_or_cancelled(desk: Desk) -> None:
    run_id = desk.make_run()
    desk.journal.runs.terminate(run_id, namespace=None, reason="")
    assert search(desk, {"state": "terminated"}) == [run_id]
    assert search(desk, {"state": ["failed", "cancelled"]}) == []


def test_runs_are_found_by_id_version_and_key(desk: Desk) -> None:
    first = desk.make_run(idempotency_key="a")
    second = desk.make_run(version=2)
    third = desk.make_run(version=3, idempotency_key="b")
    assert search(desk, {"id": first}) == search(desk, {"chain_id": first}) == [first]
    assert search(desk, {"id": {"gt": first}}) == [third, second]
    assert search(desk, {"id": [first, third]}) == [third, first]
    assert search(desk, {"version": {"gte": 2, "lt": 3}}) == [second]
    assert search(desk, {"version": 2**63 - 1}) == []
    assert search(desk, {"idempotency_key": "a"}) == [first]
    assert search(desk, {"idempotency_key": {"ne": "a"}}) == [third]
    assert search(desk, {"idempotency_key": None}) == [second]
    assert search(desk, {"idempotency_key": {"ne": None}}) == [third, first]
    assert search(desk, {"idempotency_key": {"exists": True}}) == [third, first]


def test_runs_are_found_by_their_times(desk: Desk, worker: WorkerId) -> None:
    done = desk.end(worker, desk.parked(worker)).run_id
    fresh = desk.make_run()
    at = desk.run(fresh).created_at
    assert search(desk, {"created_at": {"gte": at}}) == [fresh]
    assert search(desk, {"created_at": {"lt": at}}) == [done]
    assert search(desk, {"created_at": at}) == [fresh]
    assert search(desk, {"created_at": {"gt": at - timedelta(microseconds=1), "lte": at}}) == [fresh]
    assert search(desk, {"completed_at": None}) == [fresh]
    assert search(desk, {"completed_at": {"exists": True}}) == [done]
    assert search(desk, {"started_at": {"gte": desk.run(done).created_at}}) == [done]


def test_runs_are_found_by_parent_and_by_their_place_in_a_chain(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    ordered = child_of(desk, run)
    run = bear(desk, worker, run, ordered)
    successor = continue_as_new(desk, worker, run)
    assert search(desk, {"parent_id": run.run_id}) == [ordered.id]
    assert search(desk, {"parent_id": None}, order="created_at") == [run.run_id, successor]
    assert search(desk, {"is_tip": False}) == [run.run_id]
    assert search(desk, {"chain_id": run.chain_id, "is_tip": True}) == [successor]
    assert search(desk, {"state": "continued"}) == [run.run_id]


def test_texts_are_compared_by_code_points(desk: Desk) -> None:
    names = ["Z", "a", "b", "É", "é", "☃"]
    runs = {desk.make_run(workflow=name): name for name in names}
    found = [runs[run_id] for run_id in search(desk, {"workflow": {"gt": "a"}}, order="created_at")]
    assert found == ["b", "É", "é", "☃"]


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_hostile_texts_are_texts(desk: Desk, text: str) -> None:
    odd = desk.make_run(workflow=f"x{text}y", namespace=text, idempotency_key=text)
    desk.make_run(workflow="xzy", namespace="z")
    assert search(desk, {"workflow": f"x{text}y"}) == [odd]
    assert search(desk, {"workflow": {"contains": text}}) == [odd]
    assert search(desk, {"workflow": {"in": [text, f"x{text}y"]}}) == [odd]
    assert search(desk, {"idempotency_key": text}) == [odd]
    assert search(desk, namespace=text) == [odd]
    assert search(desk, {"namespace": {"gte": text, "lte": text}}) == [odd]


# ------------------------------------------------------------------ attributes


def test_attributes_are_found_by_what_they_are_and_not_by_how_they_look(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {"a": 1.5}, {"b": 1}, {})
    assert found_by(desk, runs, {"attributes.a": 1}) == [{"a": 1}]
    assert found_by(desk, runs, {"attributes.a": 1.0}) == [{"a": 1}]
    assert found_by(desk, runs, {"attributes.a": "1"}) == [{"a": "1"}]
    assert found_by(desk, runs, {"attributes.a": True}) == [{"a": True}]
    assert found_by(desk, runs, {"attributes.a": None}) == [{"a": None}]
    assert found_by(desk, runs, {"attributes.a": [1, "1", None]}) == [{"a": 1}, {"a": "1"}, {"a": None}]
    assert found_by(desk, runs, {"attributes.a": []}) == []


def test_not_equal_needs_the_path_to_exist(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": 1}, {"a": "1"}, {"a": None}, {"b": 1}, {})
    bare = desk.make_run()
    assert found_by(desk, runs, {"attributes.a": {"ne": 1}}) == [{"a": "1"}, {"a": None}]
    assert found_by(desk, runs, {"attributes.a": {"ne": None}}) == [{"a": 1}, {"a": "1"}]
    assert search(desk, {"attributes.a": {"exists": False}, "id": {"gte": bare}}) == [bare]


def test_an_attribute_exists_also_as_null(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": None}, {"a": {"b": 1}}, {"b": 1})
    assert found_by(desk, runs, {"attributes.a": {"exists": True}}) == [{"a": None}, {"a": {"b": 1}}]
    assert found_by(desk, runs, {"attributes.a": {"exists": False}}) == [{"b": 1}]
    assert found_by(desk, runs, {"attributes.a.b": {"exists": True}}) == [{"a": {"b": 1}}]


def test_a_path_leads_through_objects_only(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": {"b": {"c": 1}}}, {"a": [{"b": 1}]}, {"a": [5, 6]}, {"a": "b"}, {"a": {"0": 5}})
    assert found_by(desk, runs, {"attributes.a.b.c": 1}) == [{"a": {"b": {"c": 1}}}]
    assert found_by(desk, runs, {"attributes.a.b.c": {"ne": 2}}) == [{"a": {"b": {"c": 1}}}]
    assert found_by(desk, runs, {"attributes.a.0": 5}) == [{"a": {"0": 5}}]
    assert found_by(desk, runs, {"attributes.a.0": {"ne": 6}}) == [{"a": {"0": 5}}]
    assert found_by(desk, runs, {"attributes.a.0": {"exists": True}}) == [{"a": {"0": 5}}]


def test_an_object_or_array_is_equal_as_a_whole(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": [1, 2]}, {"a": [2, 1]}, {"a": [1]}, {"a": {"x": 1}}, {"a": {"x": 1, "y": 2}})
    assert found_by(desk, runs, {"attributes.a": {"eq": [1, 2]}}) == [{"a": [1, 2]}]
    assert found_by(desk, runs, {"attributes.a": {"eq": {"x": 1.0}}}) == [{"a": {"x": 1}}]
    assert found_by(desk, runs, {"attributes.a": {"eq": []}}) == []
    assert found_by(desk, runs, {"attributes.a": [[1], {"x": 1}]}) == [{"a": [1]}, {"a": {"x": 1}}]
    assert len(found_by(desk, runs, {"attributes.a": {"ne": [1, 2]}})) == 4


def test_an_array_is_not_one_of_its_values(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": ["x"]}, {"a": "x"})
    assert found_by(desk, runs, {"attributes.a": "x"}) == [{"a": "x"}]


def test_less_and_greater_compare_numbers_with_numbers_and_texts_with_texts(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": 5}, {"a": 5.5}, {"a": -1}, {"a": 10**30}, {"a": "5"}, {"a": None}, {"a": [9]})
    assert found_by(desk, runs, {"attributes.a": {"gt": 5}}) == [{"a": 5.5}, {"a": 10**30}]
    assert found_by(desk, runs, {"attributes.a": {"gte": 5, "lt": 5.5}}) == [{"a": 5}]
    assert found_by(desk, runs, {"attributes.a": {"lte": -0.5}}) == [{"a": -1}]
    assert found_by(desk, runs, {"attributes.a": {"lt": "6"}}) == [{"a": "5"}]
    assert found_by(desk, runs, {"attributes.a": {"gte": ""}}) == [{"a": "5"}]


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_keys_and_values_are_keys_and_values(desk: Desk, key: str) -> None:
    odd, plain = with_attributes(desk, {key: {key: key}}, {"z": {"z": "z"}})
    path = ("attributes", key, key)
    assert search(desk, {path: key}) == [odd]
    assert search(desk, {path: {"ne": "other"}}) == [odd]
    assert search(desk, {path: {"gte": key, "lte": key}}) == [odd]
    assert search(desk, {path: {"exists": True}}) == [odd]
    assert search(desk, {path: {"exists": False}}) == [plain]
    assert search(desk, {("attributes", key): {"eq": {key: key}}}) == [odd]


def test_conditions_are_all_to_hold(desk: Desk) -> None:
    runs = with_attributes(desk, {"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2})
    assert found_by(desk, runs, {"attributes.a": 1, "attributes.b": 2}) == [{"a": 1, "b": 2}]
    twice = [("attributes.a", {"ne": 1}), ("attributes.a", {"ne": 3})]
    assert found_by(desk, runs, twice) == [{"a": 2, "b": 2}]


def test_what_a_run_sets_itself_is_found_at_once(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, attributes='{"a":1,"b":1}')
    desk.write(worker, run, event(EventType.ATTRIBUTES_SET, command=0, payload='{"b":2}'), attributes='{"b":2}')
    assert search(desk, {"attributes.a": 1, "attributes.b": 2}) == [run.run_id]
    assert search(desk, {"attributes.b": 1}) == []


def test_searching_writes_nothing(desk: Desk) -> None:
    run_id = desk.make_run(attributes='{"a":1}')
    before = desk.run(run_id)
    questions: Iterable[Callable[[], object]] = (
        lambda: search(desk, {"attributes.a": 1}),
        lambda: search(desk, order="started_at"),
        lambda: search(desk, {"state": "pending"}, limit=1),
    )
    for ask in questions:
        ask()
    assert desk.run(run_id) == before
