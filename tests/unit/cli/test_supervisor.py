"""The supervisor of several processes: patience with those that die, and signals for those that live."""

import signal
from typing import Any

import pytest

from continuum.cli import supervisor as module
from continuum.cli.supervisor import FIRST_PAUSE, HEALTHY_SECONDS, LONGEST_PAUSE, SUPERVISOR, Supervisor


class Process:
    pids = iter(range(100, 100_000))

    def __init__(self, command: list[str], *, env: dict[str, str], start_new_session: bool) -> None:
        assert start_new_session, "Ctrl-C would reach the children twice"
        self.command, self.env, self.pid = command, env, next(self.pids)
        self.returncode: int | None = None
        self.heard: list[int] = []

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.heard.append(number)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module.subprocess, "Popen", Process)
    return made


@pytest.fixture
def parent(clock: Clock) -> Supervisor:
    return Supervisor(["-A", "myapp"], processes=2)


def look(parent: Supervisor) -> list[Any]:
    for child in parent._children:
        parent._look_after(child)
    return [child.process for child in parent._children]


def test_children_are_the_same_command_for_one_process(parent: Supervisor) -> None:
    first, second = look(parent)
    assert first.command[1:] == ["-m", "continuum.cli.dispatcher", "-A", "myapp"]
    assert first.env[SUPERVISOR].isdigit()
    assert first.pid != second.pid
    assert look(parent) == [first, second]
    assert parent._ready()


def test_one_that_keeps_dying_is_started_later_and_later(parent: Supervisor, clock: Clock) -> None:
    pauses = []
    for _ in range(10):
        process = look(parent)[0]
        process.returncode = 1
        died = clock.now
        while look(parent)[0] is None:
            clock.sleep(0.1)
        pauses.append(clock.now - died)
        assert not parent._stopping
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(FIRST_PAUSE, abs=0.2)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.2)


def test_one_that_was_healthy_is_started_again_soon(parent: Supervisor, clock: Clock) -> None:
    for _ in range(5):
        look(parent)[0].returncode = 1
        while look(parent)[0] is None:
            clock.sleep(0.1)
    clock.sleep(HEALTHY_SECONDS)
    look(parent)[0].returncode = -9
    died = clock.now
    while look(parent)[0] is None:
        clock.sleep(0.1)
    assert clock.now - died == pytest.approx(FIRST_PAUSE, abs=0.2)


def test_signals_are_passed_on_once_each_also_to_one_that_was_just_started(parent: Supervisor) -> None:
    first, second = look(parent)
    parent._ask(signal.SIGTERM, None)
    look(parent)
    look(parent)
    assert first.heard == second.heard == [signal.SIGTERM]
    parent._ask(signal.SIGTERM, None)
    look(parent)
    assert first.heard == [signal.SIGTERM, signal.SIGTERM]


def test_while_stopping_nobody_is_started_again(parent: Supervisor, clock: Clock) -> None:
    first, _ = look(parent)
    parent._ask(signal.SIGINT, None)
    first.returncode = 0
    clock.sleep(100)
    assert look(parent)[0] is first
    assert not parent._ready()
    assert parent._status()["stopping"] is True
