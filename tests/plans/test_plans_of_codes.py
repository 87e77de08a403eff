"""What other code's runs cost a claim and a look: a probe for each piece of code, not one for each run."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from continuum.journal.postgres import claims, look
from continuum.journal.postgres.codes import code_columns
from continuum.journal.postgres.database import SETTINGS
from continuum.journal.postgres.literals import text
from tests.plans.conftest import FILL, Planner
from tests.plans.test_plans import WORKER, scans
from tests.support.databases import Databases

# 10,000 runs pinned to code that a living dispatcher has, due before the 20 of our own; and 20 of code that nobody has.
FOREIGN = """
update continuum_workers set version_hashes = '{"foreign 1 order"}', workflows = '{order}'
where id = md5('worker2')::uuid;
insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, state, last_seq, wake_at)
select id, id, 'default', 'order', 1,
       case when n <= 10000 then 'foreign' when n <= 10020 then 'own' else 'orphan' end,
       'suspended', 4, now() - interval '1 hour' + n * interval '1 millisecond'
from (select n, md5('more' || n)::uuid as id from generate_series(1, 10040) n) g;
"""
CODE = code_columns([("order", 1), ("other", 1)], ["own", "own"])
CLAIM = claims.CLAIM.call(text(WORKER), CODE[0], CODE[1], "8", CODE[2])
LOOK = look.LOOK.call(text(WORKER), "100", CODE[0], CODE[1], "'{queue1}'", "'{}'", CODE[2])


@pytest.fixture(scope="module", params=["never analysed", "analysed"])
def planner(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Planner]:
    with databases.fresh() as url, closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("alter table continuum_runs set (autovacuum_enabled = off)")
            cursor.execute(FILL)
            cursor.execute("delete from continuum_inbox")
            cursor.execute(FOREIGN)
            if request.param == "analysed":
                cursor.execute("analyze")
            cursor.execute(SETTINGS)
        yield Planner(connection)


def visited(plan: dict[str, Any]) -> int:
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans(plan)
    )


def test_a_claim_does_not_look_at_runs_of_code_that_others_have(planner: Planner) -> None:
    plan = planner.plan(claims.CLAIM, CLAIM, analyze=True)
    assert plan["Actual Rows"] == 8
    # Eight of each piece of code that may be taken, each read a few times.
    assert visited(plan) <= 150


def test_a_look_does_not_look_at_runs_of_code_that_others_have(planner: Planner) -> None:
    assert visited(planner.plan(look.LOOK, LOOK, analyze=True)) <= 150


def test_every_probe_of_the_codes_is_one_of_their_index(planner: Planner) -> None:
    for statement, call in ((claims.CLAIM, CLAIM), (look.LOOK, LOOK)):
        probes = [node for node in scans(planner.plan(statement, call)) if node["Index Name"] == "continuum_runs_code"]
        assert len(probes) == 3  # where the codes begin, the next one, and what is due of one
        assert all("version_hash" in node["Index Cond"] for node in probes)
