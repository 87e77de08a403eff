"""``continuum demo``: it proves what it claims, ends by itself, and leaves nothing behind."""

import json
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from continuum.cli.demo import Order, prove
from continuum.cli.demo_terms import EFFECTS
from continuum.client.handles import RunHandle
from continuum.model.events import Event, EventType
from tests.support.eventually import eventually
from tests.support.processes import Process, Processes

LIMIT = 60


def relatives(process: Process) -> list[psutil.Process]:
    """Return what the process has started: children, and the embedded server with its supervisor, nobody's child."""
    found = psutil.Process(process.pid).children(recursive=True)
    # Each user of an embedded server leaves a file with its pid there.
    [owner] = Path(tempfile.gettempdir()).glob(f"continuum-postgres-*/owners/owner-{process.pid}-*")
    directory = str(owner.parents[1])
    for other in psutil.process_iter(["cmdline"]):
        if any(directory in part for part in other.info["cmdline"] or []):
            found.append(other)
    return found


@pytest.mark.timeout(120)
def test_it_proves_that_nothing_is_lost_and_nothing_happens_twice(processes: Processes) -> None:
    process = processes.python("-m", "continuum.cli", "demo")
    assert process.wait(LIMIT) == 0, process.output
    text = process.output
    assert "kill -9" in text
    assert "NOT TRUE" not in text
    assert text.count("✓ ") >= 4
    assert "(executed again)" in text
    assert "\x1b[" not in text  # plain where there is no terminal
    assert "Traceback" not in text


@pytest.mark.timeout(120)
def test_it_can_say_all_that_as_json_and_on_a_database_of_the_user_s(
    processes: Processes, empty_database_url: str
) -> None:
    for _ in range(2):  # a second time on the same database is a demonstration of its own
        process = processes.python("-m", "continuum.cli", "demo", "--json", "--database-url", empty_database_url)
        assert process.wait(LIMIT) == 0, process.output
        document = json.loads(process.output)
        assert document["holds"] is True
        assert len(document["ledger"]) == 6 * len(EFFECTS)
        assert document["in_flight"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_leaves_nothing_running(processes: Processes, number: signal.Signals) -> None:
    process = processes.python("-m", "continuum.cli", "demo")
    process.expect("started 6 orders")
    family = relatives(process)
    assert len(family) >= 2
    listening = [port for one in family for port in ports(one)]
    process.signal(number)
    assert process.wait(LIMIT) != 0
    eventually(lambda: not any(one.is_running() and one.status() != "zombie" for one in family), LIMIT)
    for port in listening:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def ports(process: psutil.Process) -> list[int]:
    try:
        return [one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


# ------------------------------------------------------------------ the proof itself


def case(**changes: Any) -> dict[str, Any]:
    handle: RunHandle[str] = RunHandle(None, "0190a6f0-0000-7000-8000-000000000001")  # type: ignore[arg-type]
    orders = [Order("a-1", "approved", handle), Order("a-2", None, handle)]
    event = Event(1, EventType.RUN_STARTED, None, None, None, 0)
    good: dict[str, Any] = {
        "orders": orders,
        "results": {order.name: order.expected for order in orders},
        "before": {"a-1": [event]},
        "after": {"a-1": [event, event], "a-2": [event]},
        "ledger": [
            (order.name, effect, "", 2 if (order.name, effect) == ("a-2", "charge") else 1, 22)
            for order in orders
            for effect in EFFECTS
        ],
        "in_flight": [("a-2", "charge")],
        "survivor": 22,
    }
    return {**good, **changes}


def holds(**changes: Any) -> bool:
    made = case(**changes)
    return prove(made.pop("orders"), **made).holds


def lost(rows: list[Any]) -> list[Any]:
    return rows[1:]


def twice(rows: list[Any]) -> list[Any]:
    return [*rows, rows[0]]


def never_again(rows: list[Any]) -> list[Any]:
    return [(*row[:3], 1, row[4]) for row in rows]


def by_the_dead(rows: list[Any]) -> list[Any]:
    return [(*row[:4], 11) for row in rows]


def test_the_proof_holds_for_what_is_true() -> None:
    assert holds()


@pytest.mark.parametrize("spoil", [lost, twice, never_again, by_the_dead])
def test_the_proof_fails_for_a_wrong_ledger(spoil: Callable[[list[Any]], list[Any]]) -> None:
    assert not holds(ledger=spoil(case()["ledger"]))


def test_the_proof_fails_without_a_crash_in_the_middle() -> None:
    assert not holds(in_flight=[])


def test_the_proof_fails_for_a_wrong_result_or_a_changed_history() -> None:
    assert not holds(results={"a-1": "RunFailed: x", "a-2": case()["results"]["a-2"]})
    other = Event(1, EventType.RUN_BEGAN, None, None, None, 0)
    assert not holds(after={"a-1": [other], "a-2": [other]})


def test_the_command_declares_nothing_in_other_people_s_processes(processes: Processes) -> None:
    code = (
        "import continuum.cli.dispatcher; from continuum.declare.registry import REGISTRY; print(REGISTRY.workflows())"
    )
    process = processes.python("-c", code)
    assert process.wait(LIMIT) == 0
    assert process.output == "[]\n"
