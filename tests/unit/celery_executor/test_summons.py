"""A child knows whether Celery told it to end. Real forks."""

import os
from collections.abc import Callable, Iterator

import pytest

from continuum.celery_executor import summons


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(summons, "_WAIT", 0.2)
    summons.prepare()
    yield
    summons._pages.clear()


def in_child(before: Callable[[int], None] = lambda _pid: None) -> bool:
    """Fork; return what the child thinks. ``before`` is called in the parent, with the child's pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os._exit(7 if summons.was_summoned() else 8)
    before(pid)
    os.write(writer, b"!")
    _, status = os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    return {7: True, 8: False}[os.waitstatus_to_exitcode(status)]


def test_a_child_that_nobody_named_was_not_summoned() -> None:
    assert not in_child(lambda pid: summons.summon(pid + 1))


def test_a_child_that_was_named_was_summoned() -> None:
    assert in_child(summons.summon)


def test_all_children_are_summoned_by_a_shutdown() -> None:
    assert in_child(lambda _: summons.summon_all(sig="SIGTERM", how="Cold"))


def test_many_names_leave_the_shutdown_in_place() -> None:
    def many(_: int) -> None:
        summons.summon_all()
        for number in range(2 * summons._SLOTS):
            summons.summon(1_000_000 + number)

    assert in_child(many)


def test_a_summons_that_comes_a_moment_after_the_signal_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summons, "_WAIT", 20.0)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"!")
        os._exit(7 if summons.was_summoned() else 8)
    os.read(reader, 1)
    summons.summon(pid)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_outside_of_a_pool_nobody_can_know() -> None:
    assert summons.was_summoned()
    summons._pages.clear()
    assert summons.was_summoned()
