"""A dispatcher is killed with SIGKILL amid a fan-in of children, a chain, a cancel cascade; another one ends them."""

import pytest

from continuum import Continuum, RunCancelled
from tests.support.audit import audit, fetch
from tests.support.crash_runs import dispatcher
from tests.support.eventually import eventually
from tests.support.processes import Processes

COMMITS = ("commit.sending", "commit.sent", "commit.answered", "commit.settled")
WIDTH = 12
FAMILIES = 3
LENGTH = 8
CHAINS = 4


def at(*counts: int, claims: tuple[int, ...] = (1, 2)) -> list[str]:
    """Return the probes of commits and claims, each to be passed so many times."""
    commits = [f"{probe}:{nth}" for probe in COMMITS for nth in counts]
    return commits + [f"claim.answered:{nth}" for nth in claims]


def die(processes: Processes, url: str, crash_at: str) -> None:
    victim = dispatcher(processes, url, CONTINUUM_CRASH_AT=crash_at)
    eventually(lambda: not victim.alive, 30)
    assert victim.returncode == -9, victim.output


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crash_at", at(1, 2, 5))
def test_a_fan_in_of_children_is_finished_by_another(
    continuum: Continuum, database_url: str, processes: Processes, crash_at: str
) -> None:
    handles = [continuum.start("crash.family", f"family{n}", WIDTH) for n in range(FAMILIES)]
    die(processes, database_url, crash_at)
    heir = dispatcher(processes, database_url)
    assert [handle.result(timeout=40) for handle in handles] == [2 * WIDTH] * FAMILIES
    assert heir.terminate() == 0, heir.output
    audit(database_url)
    states = fetch(database_url, "select state, count(*) from continuum_runs group by 1")
    assert states == [("completed", FAMILIES * (1 + WIDTH))]
    # No step of a child was begun under two commands: there is one child for each.
    steps = fetch(database_url, "select count(distinct item), count(distinct run_id) from ledger")
    assert steps == [(2 * WIDTH * FAMILIES, WIDTH * FAMILIES)]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crash_at", at(1, 3, 8, claims=(1, 3, 8)))
def test_a_chain_is_carried_on_by_another(
    continuum: Continuum, database_url: str, processes: Processes, crash_at: str
) -> None:
    handles = [continuum.start("crash.chain", f"chain{n}", LENGTH) for n in range(CHAINS)]
    die(processes, database_url, crash_at)
    heir = dispatcher(processes, database_url)
    assert [handle.result(timeout=40) for handle in handles] == [LENGTH] * CHAINS
    assert heir.terminate() == 0, heir.output
    audit(database_url)
    assert fetch(database_url, "select count(*), count(distinct chain_id) from continuum_runs") == [
        (CHAINS * LENGTH, CHAINS)
    ]
    assert fetch(database_url, "select count(distinct item), count(distinct run_id) from ledger") == [
        (CHAINS * LENGTH, CHAINS * LENGTH)
    ]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crash_at", at(1, 2, 3, claims=(1, 2, 3)))
def test_a_cancel_cascade_goes_on_in_another(
    continuum: Continuum, database_url: str, processes: Processes, crash_at: str
) -> None:
    size = 13
    handle = continuum.start("crash.tree", 2, 3)
    grower = dispatcher(processes, database_url)
    query = "select count(*) from continuum_runs where state = 'suspended'"
    eventually(lambda: fetch(database_url, query) == [(size,)], 30)
    assert grower.terminate() == 0, grower.output
    handle.cancel()
    die(processes, database_url, crash_at)

    heir = dispatcher(processes, database_url)
    with pytest.raises(RunCancelled):
        handle.result(timeout=40)
    query = "select state, count(*) from continuum_runs group by 1"
    eventually(lambda: fetch(database_url, query) == [("cancelled", size)], 40)
    assert heir.terminate() == 0, heir.output
    audit(database_url)
    asked = fetch(
        database_url, "select run_id, count(*) from continuum_events where type = 'cancel_requested' group by 1"
    )
    assert sorted(count for _, count in asked) == [1] * size
