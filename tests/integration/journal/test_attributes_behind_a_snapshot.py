"""A run's first attributes are written after the snapshot of the commit that continues it was taken, and before that
commit has locked anything: the successor has them, or they are written once more."""

import json
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from continuum.journal.open import open_journal
from continuum.journal.postgres import lines
from continuum.model.ids import RunId, WorkerId
from tests.support.eventually import eventually
from tests.support.families import continue_as_new
from tests.support.journals import Desk

GATE = 4711
WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


@pytest.fixture
def worker(desk: Desk) -> WorkerId:
    return desk.make_worker()


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the text for families wait at a lock between its snapshot and all it does."""
    [family] = [statement for statement in lines._STATEMENTS if statement.name == "commit_family"]
    begin = "with\n    input as materialized (\n"
    assert family.sql.startswith(begin)
    wait = f"with gate as materialized (select pg_advisory_xact_lock({GATE}) as passed),\n    input as materialized (\n"
    sql = family.sql.replace(begin, wait, 1).replace(
        "with ordinality as i(run_id, state, adopted, place)\n",
        "with ordinality as i(run_id, state, adopted, place) where exists (select passed from gate)\n",
        1,
    )
    slow = family._replace(sql=sql)
    monkeypatch.setattr(lines, "_STATEMENTS", tuple(slow if s is family else s for s in lines._STATEMENTS))


@pytest.mark.parametrize("own", [None, '{"own": 1}'])
@pytest.mark.usefixtures("gated")
def test_attributes_that_a_commit_cannot_see_yet_go_to_the_successor(
    desk: Desk, worker: WorkerId, connect: Callable[..., Any], database_url: str, own: str | None
) -> None:
    run = desk.parked(worker)
    watch = connect(autocommit=True).cursor()
    watch.execute("select pg_advisory_lock(%s)", (GATE,))
    successors: list[RunId] = []
    commit = threading.Thread(target=lambda: successors.append(continue_as_new(desk, worker, run, attributes=own)))
    commit.start()

    def waits() -> bool:
        watch.execute(WAITING)
        return bool(watch.fetchone()[0])

    eventually(waits)
    with closing(open_journal(database_url)) as other:
        other.runs.set_attributes(run.run_id, '{"told": 7}')
    watch.execute("select pg_advisory_unlock(%s)", (GATE,))
    commit.join()
    [successor] = successors
    assert desk.run(successor).attributes == {"told": 7, **json.loads(own or "{}")}
