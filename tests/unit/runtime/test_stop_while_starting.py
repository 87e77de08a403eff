"""The pool is stopped while one of its threads is just being started."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from continuum.runtime import pool_threads
from continuum.runtime.pool_threads import BodyThreads
from tests.support.eventually import eventually


class Nothing:
    """A queue in which nothing waits."""

    def pop(self) -> Any:
        raise IndexError

    def startable(self) -> int:
        return 0

    def done(self, _job: Any) -> bool:
        return False


def in_thread(call: Callable[[], Any], into: list[Any]) -> threading.Thread:
    def run() -> None:
        try:
            into.append(call())
        except Exception as error:
            into.append(error)

    made = threading.Thread(target=run)
    made.start()
    return made


def test_a_thread_that_is_being_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    starting, go = threading.Event(), threading.Event()

    class SlowThread(threading.Thread):
        def start(self) -> None:
            starting.set()
            assert go.wait(10)
            super().start()

    waiting: Any = Nothing()
    nothing: Callable[..., None] = lambda *_args: None  # noqa: E731
    threads = BodyThreads(concurrency=2, waiting=waiting, run=nothing, freed=nothing, rested=nothing)
    answers: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(pool_threads.threading, "Thread", SlowThread)
        starter = threading.Timer(0.0, lambda: threads.notify(1))
        starter.start()
        assert starting.wait(10)
    stopper = in_thread(lambda: threads.stop(10.0), answers)
    eventually(lambda: threads._stopping)
    go.set()
    stopper.join(10)
    starter.join(10)
    assert answers == [True]
