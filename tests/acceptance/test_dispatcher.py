"""``continuum-dispatcher`` as a real process: it says what it does, drains, stops, supervises, refuses."""

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from continuum import Continuum, RunState
from tests.acceptance import shop
from tests.support.eventually import eventually
from tests.support.processes import Process, Processes

WAIT = 30


@pytest.fixture
def continuum(database_url: str) -> Iterator[Continuum]:
    with Continuum(database_url) as instance:
        yield instance


@pytest.fixture
def dispatcher(processes: Processes, database_url: str) -> Callable[..., Process]:
    def start(*options: str, url: str = database_url, app: str = "tests.acceptance.shop") -> Process:
        return processes.python(
            "-m", "continuum.cli.dispatcher", "-A", app, *options, env={"CONTINUUM_DATABASE_URL": url}
        )

    return start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


def test_it_says_what_it_serves_and_works(continuum: Continuum, dispatcher: Callable[..., Process]) -> None:
    process = dispatcher()
    process.expect(r"workflows +shop\.lingering v1, shop\.order v1, shop\.paying v1$")
    process.expect(r"activities .*shop\.double")
    process.expect(r"queues +all")
    process.expect("is ready")
    handle = continuum.start(shop.order, 4)
    handle.signal(shop.approval, "approved")
    assert handle.result(timeout=WAIT) == "approved 8"
    assert process.terminate(WAIT) == 0
    assert process.output.rstrip().endswith("drained")
    assert continuum.list_workers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_activities_finish(
    continuum: Continuum, dispatcher: Callable[..., Process], tmp_path: Path, number: signal.Signals
) -> None:
    flag = tmp_path / "flag"
    process = dispatcher()
    handle = continuum.start(shop.lingering, str(flag))
    eventually(lambda: Path(f"{flag}.began").exists(), WAIT)
    process.signal(number)
    process.expect("draining")
    Path(f"{flag}.end").touch()
    assert process.wait(WAIT) == 0, process.output
    # Its outcome was recorded by the one that was asked to stop; the run may still need its last turn.
    assert continuum.tasks(handle.id) == []
    dispatcher()
    assert handle.result(timeout=WAIT) == "ended"


def test_a_second_signal_stops_at_once_and_another_takes_over(
    continuum: Continuum, dispatcher: Callable[..., Process], tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    process = dispatcher()
    handle = continuum.start(shop.lingering, str(flag))
    eventually(lambda: Path(f"{flag}.began").exists(), WAIT)
    process.signal(signal.SIGTERM)
    process.expect("draining")
    process.signal(signal.SIGTERM)
    assert process.wait(10) == 1
    process.expect("stopping at once")
    Path(f"{flag}.end").touch()
    dispatcher()
    assert handle.result(timeout=WAIT) == "ended"


def test_probes_follow_its_life(continuum: Continuum, dispatcher: Callable[..., Process], tmp_path: Path) -> None:
    flag, port = tmp_path / "flag", free_port()
    process = dispatcher("--http", f"127.0.0.1:{port}")
    eventually(lambda: get(port, "/ready")[0] == 200, WAIT)
    assert get(port, "/live")[0] == 200
    [worker] = continuum.list_workers()
    assert get(port, "/status")[1]["worker"] == worker.id
    continuum.start(shop.lingering, str(flag))
    eventually(lambda: Path(f"{flag}.began").exists(), WAIT)
    process.signal(signal.SIGTERM)
    eventually(lambda: get(port, "/ready")[0] == 503)
    assert get(port, "/live")[0] == 200
    Path(f"{flag}.end").touch()
    assert process.wait(WAIT) == 0
    assert get(port, "/live")[0] == 0


def test_queues_can_be_left_to_others(continuum: Continuum, dispatcher: Callable[..., Process]) -> None:
    first = dispatcher("--queues", "default=2")
    first.expect("is ready")
    handle = continuum.start(shop.paying, 7)
    eventually(lambda: [task.queue for task in continuum.tasks(handle.id)] == ["payments"], WAIT)
    assert continuum.tasks(handle.id)[0].claimed_by is None
    dispatcher("--queues", "payments")
    assert handle.result(timeout=WAIT) == 7


def test_a_process_without_activities_only_turns(continuum: Continuum, dispatcher: Callable[..., Process]) -> None:
    first = dispatcher("--no-activities")
    first.expect("activities +not here")
    handle = continuum.start(shop.paying, 7)
    eventually(lambda: continuum.tasks(handle.id), WAIT)
    assert continuum.tasks(handle.id)[0].claimed_by is None
    dispatcher()
    assert handle.result(timeout=WAIT) == 7


def test_an_unmigrated_database_is_refused_with_the_remedy(
    dispatcher: Callable[..., Process], empty_database_url: str
) -> None:
    process = dispatcher(url=empty_database_url)
    assert process.wait(WAIT) == 8
    assert "continuum migrate" in process.output
    assert "Traceback" not in process.output


def test_an_unreachable_database_is_named(dispatcher: Callable[..., Process]) -> None:
    port = free_port()
    process = dispatcher(url=f"postgresql://u:secret@127.0.0.1:{port}/d")
    assert process.wait(WAIT) == 7
    assert str(port) in process.output
    assert "secret" not in process.output


def test_a_missing_app_is_an_error_of_usage(dispatcher: Callable[..., Process]) -> None:
    process = dispatcher(app="no_such_app")
    assert process.wait(WAIT) == 2
    assert "no module 'no_such_app'" in process.output


# ------------------------------------------------------------------ several processes


def children(process: Process) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


def test_processes_share_the_work_and_stop_together(continuum: Continuum, dispatcher: Callable[..., Process]) -> None:
    port = free_port()
    process = dispatcher("--processes", "2", "--http", f"127.0.0.1:{port}")
    eventually(lambda: len(continuum.list_workers()) == 2, WAIT)
    assert get(port, "/ready")[0] == 200
    assert {entry["pid"] for entry in get(port, "/status")[1]["processes"]} == set(children(process))
    handles = [continuum.start(shop.paying, number) for number in range(20)]
    assert [handle.result(timeout=WAIT) for handle in handles] == list(range(20))
    assert process.terminate(WAIT) == 0, process.output
    assert continuum.list_workers() == []
    assert len(re.findall("drained$", process.output, re.MULTILINE)) == 2


def test_a_process_that_dies_is_started_again(continuum: Continuum, dispatcher: Callable[..., Process]) -> None:
    process = dispatcher("--processes", "2")
    eventually(lambda: len(continuum.list_workers()) == 2, WAIT)
    victim = children(process)[0]
    os.kill(victim, signal.SIGKILL)
    process.expect(rf"pid {victim}\) ended with -9; starting it again")
    eventually(lambda: len([pid for pid in children(process) if pid != victim]) == 2, WAIT)
    handle = continuum.start(shop.paying, 7)
    assert handle.result(timeout=WAIT) == 7
    assert process.terminate(WAIT) == 0, process.output


def test_processes_do_not_outlive_their_supervisor(continuum: Continuum, dispatcher: Callable[..., Process]) -> None:
    process = dispatcher("--processes", "2")
    eventually(lambda: len(continuum.list_workers()) == 2, WAIT)
    orphans = children(process)
    process.kill()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in orphans), WAIT)
    assert continuum.list_workers() == []


def test_a_supervisor_does_not_try_again_what_cannot_work(
    dispatcher: Callable[..., Process], empty_database_url: str
) -> None:
    process = dispatcher("--processes", "2", url=empty_database_url)
    assert process.wait(WAIT) == 8
    assert "continuum migrate" in process.output


# ------------------------------------------------------------------ a newcomer's day


def test_a_run_is_started_watched_signalled_and_finished_from_the_shell(
    processes: Processes, empty_database_url: str, dispatcher: Callable[..., Process]
) -> None:
    def cli(*arguments: str, code: int = 0) -> str:
        process = processes.python(
            "-m",
            "continuum.cli",
            "-A",
            "tests.acceptance.shop",
            *arguments,
            env={"CONTINUUM_DATABASE_URL": empty_database_url},
        )
        assert process.wait(WAIT) == code, process.output
        return process.output

    assert "continuum migrate" in cli("runs", code=8)
    cli("migrate", "--check", code=8)
    assert "up to date" in cli("migrate")
    cli("migrate", "--check")
    run_id = cli("start", "shop.order", "--input", "[21]", "--key", "o1").strip()
    assert cli("start", "shop.order", "--input", "[22]", "--key", "o1").strip() == run_id
    assert "there is no live dispatcher" in cli("show", run_id)

    process = dispatcher(url=empty_database_url)
    eventually(lambda: "waits for signal approval" in cli("show", run_id), WAIT, interval=0.2)
    shown = cli("show", run_id)
    assert "shop.py:" in shown
    assert "activity shop.double" in shown

    process.kill()
    eventually(lambda: "no live dispatcher" in cli("show", run_id), WAIT, interval=0.2)
    assert cli("signal", run_id, "approval", "--value", '"approved"') == "delivered\n"
    process = dispatcher(url=empty_database_url)
    with Continuum(empty_database_url) as instance:
        assert instance.handle(run_id).result(timeout=WAIT) == "approved 42"
        assert instance.get(run_id).state == RunState.COMPLETED
    assert process.terminate(WAIT) == 0
    assert "completed" in cli("runs", "--state", "completed")
