"""A dispatcher is killed with SIGKILL between any two commits of a saga; another one undoes what was done, once."""

import json

import pytest

from continuum import Continuum, RunCancelled
from tests.support.audit import audit, fetch
from tests.support.crash_runs import dispatcher
from tests.support.eventually import eventually
from tests.support.processes import Processes

STEPS = 3
# A saga that fails commits a dozen times: it begins, books, steps, fails, and undoes one after the other.
FAILING = [
    *(f"commit.sent:{nth}" for nth in range(1, 11)),
    *(f"commit.sending:{nth}" for nth in (1, 4, 8)),
    *(f"commit.answered:{nth}" for nth in (3, 7)),
]
LATE = {"commit.sent:9", "commit.sent:10"}
CANCELLED = [*(f"commit.sent:{nth}" for nth in range(1, 5)), "commit.sending:1", "commit.settled:2"]


def undone(url: str, run_id: str) -> None:
    """Check that each of the calls was undone once, newest first, and has had its outcome before the run ended."""
    events = fetch(
        url,
        "select type, command, payload::text from continuum_events where run_id = %s and command is not null"
        " order by seq",
        run_id,
    )
    asked = [(command, json.loads(payload)["undoes"]) for kind, command, payload in events if "compensation" in kind]
    done = [command for kind, command, _ in events if kind == "activity_completed"]
    compensations = [command for command, _ in asked]
    succeeded = [command for command in done if command not in compensations]
    assert len(asked) == 1 + STEPS
    assert [undoes for _, undoes in asked] == succeeded[::-1]
    assert [command for command in done if command in compensations] == compensations
    audit(url)
    # What is written together with its outcome is there once, done and undone.
    assert fetch(url, "select item from bookings order by 1") == [("not trip:b",), ("trip:b",)]
    steps, unsteps = (
        fetch(url, "select distinct item from ledger where activity = %s order by 1", name)
        for name in ("step", "unstep")
    )
    assert steps == unsteps == [(f"trip:{number}",) for number in range(STEPS)]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crash_at", FAILING)
def test_a_saga_that_fails_is_rolled_back_by_another(
    continuum: Continuum, database_url: str, processes: Processes, crash_at: str
) -> None:
    handle = continuum.start("crash.trip", "trip", STEPS, waits=False)
    victim = dispatcher(processes, database_url, CONTINUUM_CRASH_AT=crash_at)
    # Results that come at once share a commit, so how many commits there are is not certain: the last ones here may
    # end the run, or never be. At them the run's end is seen first, or the kill, or a kill on the way out.
    eventually(lambda: not victim.alive or (crash_at in LATE and handle.refresh().ended), 30)
    status = victim.terminate() if victim.alive else victim.returncode
    assert status == -9 or (crash_at in LATE and status == 0), victim.output
    heir = dispatcher(processes, database_url)
    assert len(handle.result(timeout=40)) == 1 + STEPS
    assert heir.terminate() == 0, heir.output
    undone(database_url, handle.id)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crash_at", CANCELLED)
def test_a_saga_that_is_cancelled_is_rolled_back_by_another(
    continuum: Continuum, database_url: str, processes: Processes, crash_at: str
) -> None:
    handle = continuum.start("crash.trip", "trip", STEPS, waits=True)
    first = dispatcher(processes, database_url)
    eventually(lambda: handle.refresh().state == "suspended" and handle.refresh().last_seq > 2 * STEPS + 4, 30)
    assert first.terminate() == 0, first.output
    handle.cancel()
    victim = dispatcher(processes, database_url, CONTINUUM_CRASH_AT=crash_at)
    eventually(lambda: not victim.alive, 30)
    assert victim.returncode == -9, victim.output
    heir = dispatcher(processes, database_url)
    with pytest.raises(RunCancelled) as cancelled:
        handle.result(timeout=40)
    assert cancelled.value.state == "cancelled"
    assert heir.terminate() == 0, heir.output
    undone(database_url, handle.id)
