"""A dispatcher is killed with SIGKILL at every probe; another one finishes what it left."""

import pytest

from continuum import Continuum
from tests.support.audit import audit, fetch
from tests.support.crash_runs import RUNS, die_and_be_inherited, dispatcher
from tests.support.eventually import eventually
from tests.support.processes import Processes

# Each is passed many times: early, in the middle, and late in the runs' lives.
PROBES = {
    "claim.answered": (1, 2),
    "commit.sending": (1, 4, 12),
    "commit.sent": (1, 4, 12),
    "commit.answered": (1, 4, 12),
    "commit.settled": (1, 4, 12),
    "attempt.returned": (1, 9),
    "attempt.retried": (1, 4),
    "attempt.posted": (1, 4),
    "attempt.transaction": (1, 3),
    "task.kept": (1, 3),
    "task.transaction": (1, 3),
}


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("probe", "nth"), [(probe, nth) for probe, counts in PROBES.items() for nth in counts])
def test_a_kill_at_a_probe_loses_nothing_and_repeats_nothing(
    continuum: Continuum, database_url: str, processes: Processes, probe: str, nth: int
) -> None:
    die_and_be_inherited(continuum, database_url, processes, crash_at=f"{probe}:{nth}")
    # What an activity wrote in its transaction is there exactly once.
    assert fetch(database_url, "select item, count(*) from bookings group by 1 order by 1") == [
        (f"run{number}:b", 1) for number in range(RUNS)
    ]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("probe", ["reap.buried", "reap.swept"])
def test_a_reaper_that_is_killed_leaves_its_work_to_the_next(
    continuum: Continuum, database_url: str, processes: Processes, probe: str
) -> None:
    handles = [continuum.start("crash.long", f"run{n}", 30) for n in range(3)]
    victim = dispatcher(processes, database_url)
    eventually(lambda: len(fetch(database_url, "select 1 from ledger")) == 3, 30)
    victim.kill()
    assert fetch(database_url, "update continuum_tasks set arguments = json_build_array(arguments->0, 0.0) returning 1")

    reaper = dispatcher(processes, database_url, CONTINUUM_CRASH_AT=f"{probe}:{1 if probe == 'reap.swept' else 3}")
    eventually(lambda: not reaper.alive, 30)
    assert reaper.returncode == -9, reaper.output

    heir = dispatcher(processes, database_url)
    for number, handle in enumerate(handles):
        assert handle.result(timeout=40) == f"run{number}"
    assert heir.terminate() == 0, heir.output
    audit(database_url)


@pytest.mark.parametrize("probe", ["start.written", "terminate.locked"])
def test_a_client_that_is_killed_leaves_nothing_half_written(
    continuum: Continuum, database_url: str, processes: Processes, probe: str
) -> None:
    if probe == "start.written":
        call = "continuum.start('crash.steps', 'killed', 2, idempotency_key='once')"
    else:
        run_id = continuum.start("crash.steps", "killed", 2, idempotency_key="once").id
        call = f"continuum.terminate('{run_id}')"
    client = processes.python(
        "-c",
        f"from tests.support.crash_app import continuum; {call}",
        env={"CONTINUUM_DATABASE_URL": database_url, "CONTINUUM_CRASH_AT": f"{probe}:1"},
    )
    eventually(lambda: not client.alive, 30)
    assert client.returncode == -9, client.output

    handle, how = continuum.start_unique("crash.steps", "killed", 2, idempotency_key="once")
    assert how == "existing"
    heir = dispatcher(processes, database_url)
    assert handle.result(timeout=40) == 2
    assert heir.terminate() == 0, heir.output
    audit(database_url)
