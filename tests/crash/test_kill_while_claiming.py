"""A dispatcher is killed with SIGKILL right after it has claimed tasks that were free."""

import pytest

from continuum import Continuum
from tests.crash.test_kill_at_probes import continuum, dispatcher
from tests.support.audit import audit
from tests.support.eventually import eventually
from tests.support.processes import Processes

__all__ = ["continuum"]  # the fixture

RUNS = 6


@pytest.mark.timeout(90)
@pytest.mark.parametrize("nth", [1, 4])
def test_tasks_claimed_and_never_begun_are_run_by_another(
    continuum: Continuum,
    database_url: str,
    processes: Processes,
    nth: int,
) -> None:
    handles = [continuum.start("crash.flow", f"run{n}") for n in range(RUNS)]
    # Each run has an activity that fails once, so that a free task is claimed for its second attempt.
    victim = dispatcher(processes, database_url, CONTINUUM_CRASH_AT=f"offers.claimed:{nth}")
    for handle in handles:
        handle.signal("go", "gone")
    eventually(lambda: not victim.alive, 30)
    assert victim.returncode == -9, victim.output

    heir = dispatcher(processes, database_url)
    for number, handle in enumerate(handles):
        tag = f"run{number}"
        assert handle.result(timeout=40) == [*(f"{tag}:{n}" for n in "12345b"), "gone", f"{tag}:6"]
    assert heir.terminate() == 0, heir.output
    audit(database_url)
