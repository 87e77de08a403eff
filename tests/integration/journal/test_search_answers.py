"""Random searches: Postgres, the memory wing and a few lines of Python give the same answer, whatever is asked for."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuum.journal.memory.search import find_page
from continuum.journal.open import open_journal
from continuum.journal.protocol import Journal
from continuum.model.runs import Run, RunState
from continuum.model.search import parse_query
from tests.support.databases import Databases

START = datetime(2026, 1, 1, tzinfo=UTC)
# Few of each, so that values meet: equal times, equal names, paths that lead nowhere.
TEXTS = ["", "a", "A", "1", "true", "a%b", "a_b", "aXb", "é", "☃", "'", '"', "\\", "a.b", "0", "null"]
KEYS = ["a", "b", "a.b", "0", "", "'", "%"]
SCALARS: list[Any] = [None, True, False, 0, 1, -1, 1.0, 1.5, 0.1, 1e22, 10**22, 10**25, 2**53 + 1, -0.0, *TEXTS]
TIMES = [START + timedelta(seconds=second, microseconds=micro) for second in range(4) for micro in (0, 1)]


def made_id(number: int) -> str:
    return f"{number:08x}-0000-7000-8000-000000000000"


def any_value(chance: Random, depth: int = 2) -> Any:
    kind = chance.randrange(6) if depth else 0
    if kind < 4:
        return chance.choice(SCALARS)
    if kind == 4:
        return [any_value(chance, depth - 1) for _ in range(chance.randrange(3))]
    return {chance.choice(KEYS): any_value(chance, depth - 1) for _ in range(chance.randrange(3))}


def fill(url: str) -> None:
    chance = Random(4711)
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        for number in range(150):
            started = chance.choice([None, *TIMES])
            run = (
                made_id(number),
                made_id(number - number % 3),
                made_id(chance.randrange(20)) if chance.randrange(2) else None,
                chance.choice(TEXTS) or "d",
                chance.choice(TEXTS),
                chance.randrange(3),
                str(chance.choice(list(RunState))),
                chance.choice([None, *TEXTS]),
                chance.choice(TIMES),
                started,
                chance.choice([None, *TIMES]) if started else None,
                number % 3 == 0,
            )
            cursor.execute(
                "insert into continuum_runs (id, chain_id, parent_id, namespace, workflow, version, version_hash,"
                " state, last_seq, idempotency_key, created_at, started_at, completed_at, is_tip)"
                " values (%s, %s, %s, %s, %s, %s, 'hash', %s, 1, %s, %s, %s, %s, %s)",
                run,
            )
            if chance.randrange(5):
                attributes = {key: any_value(chance) for key in KEYS if chance.randrange(3)}
                cursor.execute(
                    "insert into continuum_attributes values (%s, %s)", (made_id(number), json.dumps(attributes))
                )
        connection.commit()


@pytest.fixture(scope="module")
def journal(databases: Databases) -> Iterator[Journal]:
    with databases.fresh() as url:
        fill(url)
        opened = open_journal(url)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def everybody(journal: Journal) -> list[Run]:
    return journal.runs.search(parse_query(limit=1000)).runs


# ------------------------------------------------------------------ a few lines of Python

MISSING = object()


def same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return Decimal(str(left)) == Decimal(str(right))
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


def less(left: Any, right: Any) -> bool | None:
    """Say whether it is less; None if both cannot be compared."""
    if isinstance(left, bool) or isinstance(right, bool):
        return None
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return Decimal(str(left)) < Decimal(str(right))
    if isinstance(left, datetime) and isinstance(right, datetime):
        return left < right
    return None


def holds(found: Any, op: str, wanted: Any) -> bool:
    there = found is not MISSING
    match op:
        case "exists":
            return there == wanted
        case "eq":
            return there and same(found, wanted)
        case "ne":
            return there and not same(found, wanted)
        case "in":
            return there and any(same(found, one) for one in wanted)
        case "contains":
            return there and wanted in found
        case "lt":
            return there and less(found, wanted) is True
        case "gt":
            return there and less(wanted, found) is True
        case "lte":
            return there and less(wanted, found) is False
        case "gte":
            return there and less(found, wanted) is False
    raise AssertionError(op)


def found_in(run: Run, field: Any) -> Any:
    if isinstance(field, str):
        value = getattr(run, field)
        return MISSING if value is None else value
    value = run.attributes
    for key in field[1:]:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


# ------------------------------------------------------------------ what is asked

ORDERED = ["eq", "ne", "lt", "lte", "gt", "gte"]


def operations(values: st.SearchStrategy[Any], ops: list[str], *, nullable: bool = False) -> st.SearchStrategy[Any]:
    one = st.tuples(st.sampled_from(ops), values).map(lambda pair: {pair[0]: pair[1]})
    many = st.lists(values, max_size=3).map(lambda listed: {"in": listed})
    there = st.booleans().map(lambda flag: {"exists": flag})
    return one | many | there if nullable else one | many


ids = st.integers(0, 150).map(made_id)
texts = st.sampled_from(TEXTS)
times = st.sampled_from(TIMES)
json_values = st.integers(0, 10_000).map(lambda seed: any_value(Random(seed)))
paths = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(lambda keys: ("attributes", *keys))
comparable = st.sampled_from([value for value in SCALARS if value is not None and not isinstance(value, bool)])
pairs = st.one_of(
    st.tuples(st.sampled_from(["id", "chain_id"]), operations(ids, ORDERED)),
    st.tuples(st.just("parent_id"), operations(ids, ORDERED, nullable=True)),
    st.tuples(st.just("state"), operations(st.sampled_from(list(RunState)), ["eq", "ne"])),
    st.tuples(st.just("workflow"), operations(texts, [*ORDERED, "contains"])),
    st.tuples(st.just("namespace"), operations(texts, ORDERED)),
    st.tuples(st.just("idempotency_key"), operations(texts, ORDERED, nullable=True)),
    st.tuples(st.just("version"), operations(st.integers(-1, 3), ORDERED)),
    st.tuples(st.just("is_tip"), operations(st.booleans(), ["eq", "ne"])),
    st.tuples(st.just("created_at"), operations(times, ORDERED)),
    st.tuples(st.sampled_from(["started_at", "completed_at"]), operations(times, ORDERED, nullable=True)),
    st.tuples(paths, operations(json_values, ["eq", "ne"], nullable=True)),
    st.tuples(paths, operations(comparable, ["lt", "lte", "gt", "gte"])),
)
orders = st.sampled_from(
    [f"{sign}{name}" for sign in ("", "-") for name in ("id", "created_at", "started_at", "completed_at")]
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.lists(pairs, max_size=3), order=orders, limit=st.sampled_from([3, 40, 1000]))
def test_every_journal_answers_alike(
    journal: Journal, everybody: list[Run], where: list[tuple[Any, dict[str, Any]]], order: str, limit: int
) -> None:
    expected = [
        run.id
        for run in everybody
        if all(holds(found_in(run, field), op, wanted) for field, ops in where for op, wanted in ops.items())
    ]
    pages: dict[str, list[str]] = {"postgres": [], "memory": []}
    for wing, found in pages.items():
        cursor = None
        while True:
            query = parse_query(where, order=order, limit=limit, cursor=cursor)
            if wing == "postgres":
                page = journal.runs.search(query)
                runs, cursor = page.runs, page.cursor
            else:
                runs, cursor = find_page(everybody, query)
            found += [run.id for run in runs]
            if cursor is None:
                break
    assert pages["postgres"] == pages["memory"]
    assert sorted(pages["postgres"]) == sorted(expected)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20))
def test_no_text_is_anything_but_a_text(journal: Journal, everybody: list[Run], text: str) -> None:
    for where in (
        {"workflow": text},
        {"workflow": {"contains": text}},
        {("attributes", text): text},
        {("attributes", text): {"ne": text}},
        {("attributes", "a", text): {"gt": text}},
        {"namespace": [text, "a"]},
    ):
        query = parse_query(where, limit=1000)
        assert journal.runs.search(query).runs == find_page(everybody, query)[0]


def test_everybody_is_there(everybody: list[Run]) -> None:
    assert len(everybody) == 150
