"""Dispatchers are killed and frozen during a deploy: what they had loaded is reserved no longer than they live."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from continuum import Continuum
from continuum.client.handles import RunHandle
from continuum.model.events import EventType
from tests.support.audit import audit
from tests.support.eventually import eventually
from tests.support.processes import Process, Processes

ORDER = "rolling.order"


@pytest.fixture
def client(database_url: str) -> Iterator[Continuum]:
    with Continuum(database_url) as instance:
        yield instance


def release(processes: Processes, url: str, code: str, **env: str) -> Process:
    """Start a dispatcher with this code and return it when it takes work."""
    started = processes.python(
        *("-m", "continuum.cli.dispatcher", "-A", "tests.support.rolling_app"),
        env={"CONTINUUM_DATABASE_URL": url, "ROLLING_CODE": code, **env},
    )
    started.expect("continuum-dispatcher", timeout=30)
    return started


def start(processes: Processes, client: Continuum, url: str, code: str, numbers: range) -> list[RunHandle[Any]]:
    """Start runs that are pinned to this code."""
    script = (
        "import sys\nfrom tests.support.rolling_app import continuum, order\n"
        "for number in sys.argv[1:]: print(continuum.start(order, int(number)).id)\ncontinuum.close()"
    )
    starter = processes.python(
        "-c", script, *map(str, numbers), env={"CONTINUUM_DATABASE_URL": url, "ROLLING_CODE": code}
    )
    assert starter.wait(30) == 0, starter.output
    return [client.handle(run_id) for run_id in starter.output.split()]


def parked(client: Continuum, handles: list[RunHandle[Any]]) -> None:
    eventually(lambda: all(client.get(handle.id).state == "suspended" for handle in handles), 30)


@pytest.mark.timeout(90)
def test_what_a_frozen_dispatcher_had_is_adopted_and_stays_so_when_it_thaws(
    client: Continuum, database_url: str, processes: Processes
) -> None:
    old = release(processes, database_url, "old")
    handles = start(processes, client, database_url, "old", range(6))
    parked(client, handles)
    new = release(processes, database_url, "extended")
    old.freeze()
    for handle in handles[:3]:
        handle.signal("go", "x")
    assert [handle.result(timeout=30) for handle in handles[:3]] == [f"extended {n} before x after" for n in range(3)]
    old.thaw()
    old.expect("the lease was lost", timeout=20)
    eventually(lambda: len([one for one in client.list_workers() if one.alive]) == 2, 20)
    for handle in handles[3:]:
        handle.signal("go", "y")
    assert [handle.result(timeout=30) for handle in handles[3:]] == [f"old {n} before y" for n in range(3, 6)]
    assert new.terminate() == 0, new.output
    assert old.terminate() == 0, old.output
    audit(database_url, ledger=False)


@pytest.mark.timeout(90)
def test_what_killed_code_leaves_is_set_aside_and_a_deploy_revives_it(
    client: Continuum, database_url: str, processes: Processes
) -> None:
    old = release(processes, database_url, "old")
    handles = start(processes, client, database_url, "old", range(4))
    parked(client, handles)
    old.kill()
    for handle in handles:
        handle.signal("go", "x")
    drifted = release(processes, database_url, "drifted")
    eventually(lambda: all(client.get(handle.id).state == "stuck" for handle in handles), 30)
    drifted.kill()
    extended = release(processes, database_url, "extended")
    assert [handle.result(timeout=30) for handle in handles] == [f"extended {n} before x after" for n in range(4)]
    assert extended.terminate() == 0, extended.output
    audit(database_url, ledger=False)


@pytest.mark.timeout(150)
def test_whoever_is_killed_while_two_releases_race_no_run_is_lost_or_turned_by_code_that_cannot(
    client: Continuum, database_url: str, processes: Processes
) -> None:
    dice = random.Random(5)
    codes = ["old", "extended"]
    alive = {code: release(processes, database_url, code, ROLLING_BACKOFF="1") for code in codes}
    handles = [
        *start(processes, client, database_url, "old", range(20)),
        *start(processes, client, database_url, "extended", range(20, 40)),
    ]
    waiting = list(handles)
    dice.shuffle(waiting)
    for _ in range(4):
        for _ in range(10):
            waiting.pop().signal("go", "x")
        code = dice.choice(codes)
        alive[code].kill()
        alive[code] = release(processes, database_url, code, ROLLING_BACKOFF="1")
    for number, handle in enumerate(handles):
        assert handle.result(timeout=40) in {f"old {number} before x", f"extended {number} before x after"}
        adopted = [event for event in client.history(handle.id) if event.type == EventType.VERSION_ADOPTED]
        assert len(adopted) <= 4
    assert [one.terminate() for one in alive.values()] == [0, 0]
    audit(database_url, ledger=False)
