"""A dispatcher is frozen past its lease, its runs are taken over, and then it wakes up: a zombie with full pockets."""

from pathlib import Path

import pytest

from continuum import Continuum
from tests.support.audit import audit, fetch
from tests.support.crash_runs import dispatcher
from tests.support.eventually import eventually
from tests.support.processes import Processes


def frozen(pid: int) -> bool:
    with Path(f"/proc/{pid}/stat").open() as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "freeze_at",
    [
        "claim.answered:1",
        "commit.sending:6",
        "commit.sent:6",
        "commit.answered:6",
        "commit.settled:6",
        "attempt.returned:4",
    ],
)
def test_every_late_write_of_a_thawed_dispatcher_is_refused(
    continuum: Continuum, database_url: str, processes: Processes, freeze_at: str
) -> None:
    handles = [continuum.start("crash.steps", f"run{n}", 12) for n in range(4)]
    zombie = dispatcher(processes, database_url, CONTINUUM_FREEZE_AT=freeze_at)
    eventually(lambda: frozen(zombie.pid), 30)

    heir = dispatcher(processes, database_url)
    for handle in handles:
        assert handle.result(timeout=40) == 12
    audit(database_url)
    before = fetch(database_url, "select run_id, seq, type, command, at_us from continuum_events order by 1, 2")

    zombie.thaw()
    zombie.expect("the lease was lost", timeout=20)
    later = [continuum.start("crash.steps", f"later{n}", 3) for n in range(4)]
    assert heir.terminate(timeout=20) == 0, heir.output
    for handle in later:
        # The zombie took a new id and works again, on its own now.
        assert handle.result(timeout=40) == 3
    assert zombie.terminate(timeout=20) == 0, zombie.output

    audit(database_url)
    ids = tuple(handle.id for handle in handles)
    after = fetch(
        database_url,
        "select run_id, seq, type, command, at_us from continuum_events where run_id::text in %s order by 1, 2",
        ids,
    )
    assert after == before
