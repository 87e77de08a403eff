"""What answers a search among 120,000 runs: which index, how many rows are looked at, how long it takes.

The bounds on time are wide; what they are for is a search that reads the table where it should not.
"""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from sqlalchemy.dialects.postgresql.psycopg2 import dialect

from continuum.journal.open import open_journal
from continuum.journal.postgres.search import SEARCH_SETTINGS, search_query
from continuum.journal.protocol import Journal
from continuum.model.search import Query, parse_query
from tests.support.databases import Databases

RUNS = 120_000
START = datetime(2026, 1, 1, tzinfo=UTC)

# A run each second. 1 in 10 in namespace eu; 2 of 3 have attributes; 1 in 1,000 failed, 40 are stuck. Each thousandth
# is the parent of ten.
FILL = """
insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, state, last_seq, created_at,
                            started_at, completed_at, parent_id, parent_chain_id, parent_command, parent_close)
select id, id, case when n % 10 = 0 then 'eu' else 'default' end, 'flow' || n % 20, 1, 'hash',
       case when n % 3000 = 7 then 'stuck' when n % 1000 = 5 then 'failed' else 'completed' end, 4,
       timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
       timestamptz '2026-01-01 00:00Z' + n * interval '1 second',
       timestamptz '2026-01-01 00:00Z' + n * interval '2 seconds', parent, parent, 0, 'cancel'
from (
    select n, (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as id,
           case when n % 1000 between 1 and 10 and n > 1000 then
               (lpad(to_hex(n / 1000 * 1000), 8, '0') || '-0000-7000-8000-'
                || lpad(to_hex(n / 1000 * 1000), 12, '0'))::uuid end as parent
    from generate_series(1, {runs}) n
) g;
insert into continuum_attributes (run_id, attributes)
select id, jsonb_build_object('customer', n % 10000, 'tier', case when n % 2 = 0 then 'gold' else 'tin' end)
from (select id, row_number() over (order by id) as n from continuum_runs) r where n % 3 > 0;
"""


def made_id(number: int) -> str:
    return f"{number:08x}-0000-7000-8000-{number:012x}"


@pytest.fixture(scope="module")
def full(databases: Databases) -> Iterator[str]:
    with databases.fresh() as url:
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(FILL.replace("{runs}", str(RUNS)))
                cursor.execute("vacuum analyze")
        yield url


@pytest.fixture(scope="module")
def journal(full: str) -> Iterator[Journal]:
    opened = open_journal(full)
    yield opened
    opened.close()


def explain(url: str, query: Query) -> dict[str, Any]:
    """Return the plan of a search as it is executed, with what it really did."""
    compiled = search_query(query).compile(dialect=dialect(), compile_kwargs={"render_postcompile": True})
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(SEARCH_SETTINGS)
        cursor.execute(f"explain (analyze, timing off, format json) {compiled}", compiled.params)
        [(plan,)] = cursor.fetchall()
    found: dict[str, Any] = (json.loads(plan) if isinstance(plan, str) else plan)[0]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def visited(plan: dict[str, Any]) -> int:
    """Return how many rows of runs were looked at."""
    return int(
        sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes(plan)
            if node.get("Relation Name") == "continuum_runs"
        )
    )


DAY = {"created_at": {"gte": START + timedelta(hours=20), "lt": START + timedelta(hours=21)}}
CASES: dict[str, tuple[dict[Any, Any], str, str, int]] = {
    "newest": ({}, "-created_at", "continuum_runs_created", 200),
    "oldest": ({}, "created_at", "continuum_runs_created", 200),
    "by id": ({}, "-id", "continuum_runs_pkey", 200),
    "namespace and state": ({"namespace": "eu", "state": "completed"}, "-created_at", "continuum_runs_created", 2_000),
    "many states": ({"state": ["completed", "failed"]}, "-created_at", "continuum_runs_created", 200),
    "a workflow": ({"workflow": "flow7"}, "-created_at", "continuum_runs_created", 5_000),
    "failed within an hour": ({**DAY, "state": "failed"}, "-created_at", "continuum_runs_created", 4_000),
    "one id": ({"id": made_id(77)}, "-created_at", "continuum_runs_pkey", 10),
    "ids": ({"id": [made_id(77), made_id(78)]}, "-created_at", "continuum_runs_pkey", 10),
    "an attribute": ({"attributes.customer": 77}, "-created_at", "continuum_attributes_search", 100),
    "any of two": ({"attributes.customer": [77, 78]}, "-created_at", "continuum_attributes_search", 100),
    "an attribute and a state": (
        {"attributes.customer": 77, "state": "failed"},
        "-created_at",
        "continuum_attributes_search",
        100,
    ),
    "no such attribute": ({"attributes.customer": "77"}, "-created_at", "continuum_attributes_search", 10),
    "an attribute, by its end": ({"attributes.customer": 77}, "-completed_at", "continuum_attributes_search", 100),
    "an attribute that many have": ({"attributes.tier": "gold"}, "-created_at", "continuum_runs_created", 2_000),
}


@pytest.mark.parametrize("case", CASES)
def test_a_search_reads_what_it_finds_and_not_the_table(full: str, case: str) -> None:
    where, order, index, most = CASES[case]
    plan = explain(full, parse_query(where, order=order))["Plan"]
    used = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
    assert index in used, (used, plan)
    assert visited(plan) <= most, f"{visited(plan)} runs were looked at"


def test_the_twentieth_page_costs_what_the_first_one_does(full: str, journal: Journal) -> None:
    cursor = None
    for _ in range(20):
        page = journal.runs.search(parse_query(limit=500, cursor=cursor))
        cursor = page.cursor
    assert page.runs[-1].id == made_id(RUNS - 20 * 500 + 1)
    plan = explain(full, parse_query(limit=500, cursor=cursor))["Plan"]
    assert visited(plan) <= 1_500


UNINDEXED: dict[str, dict[Any, Any]] = {
    "rare states": {"state": "stuck"},
    "part of a name": {"workflow": {"contains": "w5"}, "state": "failed"},
    "a number of an attribute": {"attributes.customer": {"gt": 9_998}, "attributes.tier": {"ne": "gold"}},
    "no attribute": {"attributes.customer": {"exists": False}, "state": "failed"},
}


@pytest.mark.parametrize("case", UNINDEXED)
@pytest.mark.parametrize("order", ["-created_at", "-completed_at"])
def test_what_no_index_answers_is_looked_for_run_by_run(journal: Journal, case: str, order: str) -> None:
    began = time.monotonic()
    page = journal.runs.search(parse_query(UNINDEXED[case], order=order))
    assert page.runs
    assert time.monotonic() - began < 5.0


def test_the_runs_below_a_run_are_found_by_the_index_of_children(journal: Journal) -> None:
    journal.runs.descendants(made_id(50_000), limit=100)  # type: ignore[arg-type]
    began = time.monotonic()
    found = journal.runs.descendants(made_id(50_000), limit=100)  # type: ignore[arg-type]
    assert [run.id for run in found] == [made_id(50_000 + number) for number in range(1, 11)]
    assert time.monotonic() - began < 0.5
