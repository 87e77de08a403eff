"""A dispatcher is killed with SIGKILL while it makes a snapshot; another one goes on from whatever it left."""

import pytest

from continuum import Continuum
from continuum.journal.open import open_journal
from continuum.model.ids import RunId
from continuum.model.snapshots import decode_snapshot
from tests.support.audit import audit, fetch
from tests.support.crash_runs import RUNS, dispatcher
from tests.support.eventually import eventually
from tests.support.processes import Processes

STEPS = 12


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crash_at", ["snapshot.read:1", "snapshot.read:5", "snapshot.saved:1", "snapshot.saved:5"])
def test_a_kill_while_a_snapshot_is_made_leaves_a_whole_one_or_none(
    continuum: Continuum, database_url: str, processes: Processes, crash_at: str
) -> None:
    handles = [continuum.start("crash.folded", f"run{n}", STEPS) for n in range(RUNS)]
    victim = dispatcher(processes, database_url, CONTINUUM_CRASH_AT=crash_at)
    eventually(lambda: not victim.alive, 30)
    assert victim.returncode == -9, victim.output

    journal = open_journal(database_url)
    try:
        found = [(RunId(handle.id), journal.snapshots.find(RunId(handle.id))) for handle in handles]
        for run_id, snapshot in found:
            if snapshot is not None:
                assert decode_snapshot(snapshot) == journal.runs.history(run_id)[: snapshot.through_seq]
    finally:
        journal.close()

    heir = dispatcher(processes, database_url)
    assert [handle.result(timeout=40) for handle in handles] == [STEPS] * RUNS
    assert heir.terminate() == 0, heir.output
    audit(database_url)
    assert fetch(database_url, "select count(distinct (run_id, item)) from ledger") == [(STEPS * RUNS,)]
