"""What the children of a pool say they are busy with."""

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from continuum.celery_executor import occupied
from continuum.celery_executor.occupied import lives, occupy
from continuum.model.ids import RunId
from continuum.model.tasks import TaskRef

REF = TaskRef(RunId("0198a000-0000-7000-8000-000000000001"), 4, 2)
OTHER = TaskRef(RunId("0198a000-0000-7000-8000-000000000002"), 0, 1)


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(occupied, "_pages", [])
    occupied.prepare()
    yield
    for each in occupied._pages:
        each.memory.close()


@pytest.fixture
def as_child(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Let this process be a child of the pool, with this number."""

    def become(number: int | None) -> None:
        monkeypatch.setattr(occupied._pages[0], "maker", os.getpid() + 1)
        monkeypatch.setattr(occupied, "current_process", lambda: SimpleNamespace(index=number))

    return become


def test_a_child_says_what_it_is_busy_with_until_it_is_done(as_child: Callable[[int | None], None]) -> None:
    as_child(3)
    with occupy("shop", REF):
        assert occupied.occupied("shop") == {REF}
        assert occupied.occupied("another") == frozenset()
    assert occupied.occupied("shop") == frozenset()


def test_each_child_has_its_own_place(as_child: Callable[[int | None], None]) -> None:
    as_child(0)
    with occupy("shop", REF):
        as_child(1)
        with occupy("shop", OTHER):
            assert occupied.occupied("shop") == {REF, OTHER}
        assert occupied.occupied("shop") == {REF}


def test_what_a_dead_child_said_does_not_count(
    as_child: Callable[[int | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_child(0)
    with occupy("shop", REF):
        monkeypatch.setattr(occupied, "lives", lambda _pid: False)
        assert occupied.occupied("shop") == frozenset()


@pytest.mark.parametrize("number", [None, -1, occupied._PLACES])
def test_a_child_without_a_place_says_nothing(as_child: Callable[[int | None], None], number: int | None) -> None:
    as_child(number)
    with occupy("shop", REF):
        assert occupied.occupied("shop") == frozenset()


def test_the_main_process_says_nothing_of_itself() -> None:
    with occupy("shop", REF):
        assert occupied.occupied("shop") == frozenset()


def test_without_a_page_nobody_says_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occupied, "_pages", [])
    with occupy("shop", REF):
        assert occupied.occupied("shop") == frozenset()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_read_by_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occupied, "current_process", lambda: SimpleNamespace(index=7))
    told, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with occupy("shop", REF):
                os.write(told[1], b"!")
                os.read(go[0], 1)
                os._exit(0)
        finally:
            os._exit(1)
    os.read(told[0], 1)
    assert occupied.occupied("shop") == {REF}
    os.write(go[1], b"!")
    assert os.waitpid(pid, 0)[1] == 0
    assert occupied.occupied("shop") == frozenset(), "it is dead, whatever it said last"
    for end in (*told, *go):
        os.close(end)


def test_processes_that_cannot_be_asked_count_as_living() -> None:
    assert lives(1)
    assert lives(2**63)  # a greenlet's number
