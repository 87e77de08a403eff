"""Hints of outcomes wait for company where many tasks are out, and for nothing where few are."""

import os
import selectors
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from continuum.errors import JournalUnavailable
from continuum.journal.requests import Hint, HintKind
from continuum.runtime.turns.pace import Pace
from continuum.runtime.turns.wires import Listener


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def outcomes(pace: Pace, clock: Clock, *, per_second: int, seconds: float, outstanding: int) -> float:
    pause = 0.0
    for _ in range(round(per_second * seconds)):
        clock.at += 1 / per_second
        pace.arrived()
        pause = pace.pause(outstanding)
    return pause


def test_hints_wait_for_a_tenth_of_the_time_a_task_is_out() -> None:
    clock = Clock()
    pause = outcomes(Pace(clock), clock, per_second=1_000, seconds=1, outstanding=100)
    assert pause == pytest.approx(0.1 * 100 / 1_000, rel=0.1)


def test_no_hint_waits_long_enough_to_be_felt() -> None:
    clock = Clock()
    assert outcomes(Pace(clock), clock, per_second=10, seconds=3, outstanding=1_000) == pytest.approx(0.02)


@pytest.mark.parametrize("outstanding", [0, 1, 15])
def test_nothing_waits_where_a_worker_could_be_idle(outstanding: int) -> None:
    clock = Clock()
    assert outcomes(Pace(clock), clock, per_second=500, seconds=1, outstanding=outstanding) == 0


def test_nothing_waits_before_an_outcome_has_come_or_after_a_silence() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.pause(500) == 0
    assert outcomes(pace, clock, per_second=500, seconds=1, outstanding=500) > 0
    clock.at += 60
    assert pace.pause(500) == 0


# ------------------------------------------------------------------ ears that rest


class Ears:
    """A pipe: what is written to it is a hint."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        self.broken = False

    def fileno(self) -> int:
        return self._read

    def say(self) -> None:
        os.write(self.write, b"x")

    def hear(self) -> list[Hint]:
        if self.broken:
            raise JournalUnavailable("gone")
        try:
            return [Hint(HintKind.MAIL)] * len(os.read(self._read, 100))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self._read)
        os.close(self.write)


@contextmanager
def listening() -> Iterator[tuple[Listener, selectors.BaseSelector, list[Ears], list[Sequence[Hint]]]]:
    with selectors.DefaultSelector() as selector:
        made: list[Ears] = []
        heard: list[Sequence[Hint]] = []

        def make() -> Ears:
            made.append(Ears())
            return made[-1]

        listener = Listener(selector, make, on_hints=heard.append, on_deaf=lambda: None)
        listener.open()
        try:
            yield listener, selector, made, heard
        finally:
            listener.close()


def test_ears_that_rest_hear_afterwards_what_was_said_and_all_at_once() -> None:
    with listening() as (listener, selector, (ears,), heard):
        listener.rest(0.05)
        ears.say()
        ears.say()
        assert selector.select(0) == []
        assert listener.rested_at is not None
        time.sleep(max(0.0, listener.rested_at - time.monotonic()))
        listener.reopen_if_due()
        assert [len(hints) for hints in heard] == [2]
        ears.say()
        [(key, _)] = selector.select(1)
        key.data()
        assert [len(hints) for hints in heard] == [2, 1]


def test_resting_twice_does_not_prolong_the_rest() -> None:
    with listening() as (listener, _selector, _made, _heard):
        listener.rest(0.05)
        until = listener.rested_at
        listener.rest(10)
        assert listener.rested_at == until
        listener.rest(0)
        assert listener.rested_at == until


def test_ears_that_are_closed_while_they_rest_leave_nothing_behind() -> None:
    with listening() as (listener, selector, _made, _heard):
        listener.rest(10)
        listener.close()
        assert not selector.get_map()
        assert listener.rested_at is None


def test_ears_that_broke_while_they_rested_are_replaced() -> None:
    with listening() as (listener, selector, made, heard):
        listener.rest(0.001)
        made[0].broken = True
        made[0].say()
        deadline = time.monotonic() + 10
        while len(made) < 2 and time.monotonic() < deadline:
            listener.reopen_if_due()
        made[1].say()
        [(key, _)] = selector.select(1)
        key.data()
        assert len(heard) == 1
