"""A dispatcher is killed with SIGKILL at every probe; another one finishes what it left."""

from collections.abc import Iterator

import psycopg2
import pytest

from continuum import Continuum
from tests.support.audit import audit, fetch
from tests.support.crash_app import LEDGER
from tests.support.eventually import eventually
from tests.support.processes import Process, Processes

RUNS = 6
# Each probe is passed many times in a run's life: early, in the middle, and late.
PROBES = {
    "claim.answered": (1, 2),
    "commit.sending": (1, 4, 15),
    "commit.sent": (1, 4, 15),
    "commit.answered": (1, 4, 15),
    "commit.settled": (1, 4, 15),
    "activity.began": (1, 8),
    "activity.ended": (1, 8),
    "activity.retrying": (1, 3),
    "activity.retried": (1, 3),
    "activity.keyed": (1, 3),
    "handin.posted": (1, 3),
}


@pytest.fixture
def continuum(database_url: str) -> Iterator[Continuum]:
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(LEDGER)
    connection.close()
    with Continuum(database_url) as instance:
        yield instance


def dispatcher(processes: Processes, url: str, **env: str) -> Process:
    return processes.python(
        "-m",
        "continuum.cli.dispatcher",
        "-A",
        "tests.support.crash_app",
        env={"CONTINUUM_DATABASE_URL": url, **env},
    )


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("probe", "nth"), [(probe, nth) for probe, counts in PROBES.items() for nth in counts]
)
def test_a_kill_at_a_probe_loses_nothing_and_repeats_nothing(
    continuum: Continuum, database_url: str, processes: Processes, probe: str, nth: int
) -> None:
    handles = [continuum.start("crash.flow", f"run{n}") for n in range(RUNS)]
    victim = dispatcher(processes, database_url, CONTINUUM_CRASH_AT=f"{probe}:{nth}")
    for handle in handles:
        handle.signal("go", "gone")

    eventually(lambda: not victim.alive, 30)
    assert victim.returncode == -9, victim.output

    heir = dispatcher(processes, database_url)
    for number, handle in enumerate(handles):
        tag = f"run{number}"
        assert handle.result(timeout=40) == [*(f"{tag}:{n}" for n in range(1, 6)), "gone", f"{tag}:6"]
    assert heir.terminate() == 0, heir.output
    audit(database_url)
    assert fetch(database_url, "select count(*) from continuum_runs where lease_owner is not null") == [(0,)]
