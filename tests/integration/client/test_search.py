"""Searching through the client: fields, workflows, namespaces; what is wrong is refused and nothing is asked."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from continuum import Continuum
from continuum.errors import CodecError, ConfigError, RunNotFound, SearchError
from continuum.model.runs import RunState
from tests.integration.client import flows

NOBODY = "0190a6f0-0000-7000-8000-000000000001"


def found(continuum: Continuum, where: Any = None, **options: Any) -> list[str]:
    return [run.id for run in continuum.search(where, **options).runs]


def test_runs_are_found_by_state_workflow_and_namespace(continuum: Continuum) -> None:
    ended = continuum.start(flows.forever)
    ended.terminate()
    there = continuum.start(flows.forever, namespace="eu")
    other = continuum.start(flows.total, 1)
    assert found(continuum, {"state": "terminated"}) == [ended.id]
    assert found(continuum, {"state": [RunState.PENDING, "terminated"]}) == [other.id, there.id, ended.id]
    assert found(continuum, namespace="eu") == [there.id]
    assert found(continuum, {"workflow": "client.sum"}) == [other.id]
    assert found(continuum, {"workflow": {"contains": "client."}}, order="created_at", limit=1) == [ended.id]
    assert found(continuum, {"workflow": "client.sum"}, namespace="eu") == []
    assert found(continuum, {"workflow": "no such workflow"}) == []


def test_a_workflow_stands_for_its_name(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    other = continuum.start(flows.total, 1)
    assert found(continuum, {"workflow": flows.forever}) == [handle.id]
    assert found(continuum, {"workflow": [flows.forever, "client.sum"]}) == [other.id, handle.id]
    assert found(continuum, {"workflow": {"ne": flows.forever}}) == [other.id]
    assert found(continuum, [("workflow", flows.forever)]) == [handle.id]


def test_attributes_and_times_together_in_an_order(continuum: Continuum) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    ids = [continuum.start(flows.forever, attributes={"customer": 4, "n": n}).id for n in range(3)]
    continuum.start(flows.forever, attributes={"customer": "4"})
    where = {"attributes.customer": 4, "created_at": {"gte": began}, "state": ["pending", "running"]}
    page = continuum.search(where, order="created_at", limit=2)
    assert [run.id for run in page.runs] == ids[:2]
    rest = continuum.search(where, order="created_at", limit=2, cursor=page.cursor)
    assert [run.attributes["n"] for run in rest.runs] == [2]
    assert rest.cursor is None


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"where": {"colour": "red"}}, "colour"),
        ({"where": {"state": "waiting"}}, "pending"),
        ({"where": {"workflow": 5}}, "workflow"),
        ({"where": {"workflow": "a\0b"}}, "workflow"),
        ({"where": {"workflow": {"like": flows.forever}}}, "like"),
        ({"where": {"created_at": datetime(2026, 1, 1)}}, "time zone"),  # noqa: DTZ001 - that is the point
        ({"where": {"id": "1"}}, "UUID"),
        ({"where": 5}, "where="),
        ({"where": "state"}, "where="),
        ({"where": [5]}, "where="),
        ({"order": "state"}, "order="),
        ({"limit": 0}, "limit="),
        ({"limit": 1001}, "limit="),
        ({"cursor": "forged"}, "cursor="),
        ({"cursor": 5}, "cursor="),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_asked(
    continuum: Continuum, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], word: str
) -> None:
    def asked(query: object) -> None:
        raise AssertionError(query)

    monkeypatch.setattr(continuum.journal.runs, "search", asked)
    with pytest.raises(SearchError, match=word):
        continuum.search(**wrong)


def test_a_namespace_is_a_text(continuum: Continuum) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        continuum.search(namespace="")


def test_a_cursor_of_another_order_is_refused(continuum: Continuum) -> None:
    for _ in range(2):
        continuum.start(flows.forever)
    cursor = continuum.search(limit=1).cursor
    with pytest.raises(SearchError, match="order"):
        continuum.search(order="-id", limit=1, cursor=cursor)


def test_attributes_are_set_from_outside_and_found(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever, attributes={"a": 1}, namespace="eu")
    handle.set_attributes({"b": [1, {"c": None}]})
    continuum.set_attributes(handle.id, {"a": 2}, namespace="eu")
    assert continuum.get(handle.id).attributes == {"a": 2, "b": [1, {"c": None}]}
    assert found(continuum, {"attributes.a": 2}) == [handle.id]
    assert len(handle.history()) == 1
    handle.terminate()
    handle.set_attributes({"reviewed": True})
    assert found(continuum, {"attributes.reviewed": True, "state": "terminated"}) == [handle.id]


def test_bad_attributes_and_unknown_runs_write_nothing(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever, attributes={"a": 1}, namespace="eu")
    for wrong in (None, [1], "a", {1: 2}, {"a": object()}, {"a": float("nan")}, {"a": "\0"}, {"a": "x" * 70_000}):
        with pytest.raises(CodecError, match="attributes"):
            handle.set_attributes(wrong)  # type: ignore[arg-type]
    for target, namespace in ((handle.id, "us"), (NOBODY, None), ("order-1", None)):
        with pytest.raises(RunNotFound):
            continuum.set_attributes(target, {"a": 2}, namespace=namespace)
    assert continuum.get(handle.id).attributes == {"a": 1}


def test_the_twins_search_and_set_attributes(continuum: Continuum) -> None:
    async def main() -> None:
        handle = await continuum.aio.start(flows.forever)
        await handle.set_attributes({"a": 1})
        await continuum.aio.set_attributes(handle.id, {"b": 2})
        page = await continuum.aio.search({"attributes.a": 1, "attributes.b": 2})
        assert [run.id for run in page.runs] == [handle.id]
        assert await handle.progress() == await continuum.aio.progress(handle.id) == {}
        assert (await handle.tree()).run.id == (await continuum.aio.tree(handle.id)).run.id == handle.id

    asyncio.run(main())
