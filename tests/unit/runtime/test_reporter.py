"""Telling the journal until it has heard."""

import logging
import threading
from collections.abc import Iterator

import pytest

from continuum.errors import JournalUnavailable
from continuum.runtime.reporter import Reporter
from tests.support.eventually import eventually


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    made = Reporter(threads=2)
    yield made
    made.stop(1)


def test_a_report_is_called_once_if_it_succeeds(reporter: Reporter) -> None:
    calls: list[int] = []
    reporter.put(lambda: calls.append(1))
    eventually(lambda: reporter.pending == 0)
    assert calls == [1]


def test_a_report_is_called_again_while_the_journal_is_away(reporter: Reporter) -> None:
    calls: list[int] = []

    def report() -> None:
        calls.append(1)
        if len(calls) < 4:
            raise JournalUnavailable("away")

    reporter.put(report)
    eventually(lambda: reporter.pending == 0)
    assert len(calls) == 4


def test_a_report_may_ask_to_be_called_again(reporter: Reporter) -> None:
    answers: list[float | None] = [0.001, 0.0, None]
    reporter.put(lambda: answers.pop(0))
    eventually(lambda: reporter.pending == 0)
    assert answers == []


def test_one_that_waits_for_the_journal_does_not_hold_up_the_others(reporter: Reporter) -> None:
    stop = threading.Event()

    def away() -> None:
        if not stop.is_set():
            raise JournalUnavailable("away")

    for _ in range(20):
        reporter.put(away)
    done = threading.Event()
    reporter.put(done.set)  # type: ignore[arg-type]
    assert done.wait(5)
    stop.set()
    eventually(lambda: reporter.pending == 0)


def test_what_fails_for_another_reason_is_given_up_in_the_end(
    reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    given_up = threading.Event()
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise ValueError("a bug")

    with caplog.at_level(logging.ERROR):
        reporter.put(broken, give_up=given_up.set)
        assert given_up.wait(10)
    assert len(calls) == 5
    assert "a bug" in caplog.text


def test_stopping_calls_at_once_what_would_have_waited() -> None:
    reporter = Reporter()
    calls: list[int] = []
    reporter.put(lambda: calls.append(1), after=3600)
    assert reporter.stop(5)
    assert calls == [1]


def test_stopping_leaves_behind_what_cannot_be_said() -> None:
    reporter = Reporter()

    def away() -> None:
        raise JournalUnavailable("away")

    reporter.put(away)
    assert not reporter.stop(0.05)
    assert reporter.stop(1)


def test_what_is_put_after_the_stop_is_called_once_more_and_can_be_waited_for() -> None:
    reporter = Reporter()
    assert reporter.stop(1)
    calls: list[int] = []

    def away() -> None:
        calls.append(1)
        raise JournalUnavailable("away")

    reporter.put(away)
    assert reporter.stop(5)
    assert calls == [1]
