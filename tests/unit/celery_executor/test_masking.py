"""Signals of a prefork pool are held back while our own statements run. Real signals, in this thread."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import soft_timeout_sighandler

from continuum.celery_executor.bodies import call_async
from continuum.celery_executor.masking import Shield, in_pool_child
from tests.support.celery_bench import CeleryBench

TERMINATED = -(256 - signal.SIGTERM)


@pytest.fixture(autouse=True)
def like_a_pool_child() -> Iterator[None]:
    """Install the handlers that a prefork child has."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(-(256 - number))

    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    signal.signal(signal.SIGUSR1, soft_timeout_sighandler)
    signal.signal(signal.SIGTERM, leave)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    for _ in range(3):
        time.sleep(0)  # a handler would run by now


def test_a_child_is_recognised_by_its_handler_in_its_main_thread() -> None:
    assert in_pool_child()
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(in_pool_child()))
    thread.start()
    thread.join()
    assert seen == [False]
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert not in_pool_child()


def test_a_soft_limit_waits_for_the_body() -> None:
    with Shield() as shield:
        send(signal.SIGUSR1)
        with pytest.raises(SoftTimeLimitExceeded), shield.lowered():
            pytest.fail("the body is not begun")
        send(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is soft_timeout_sighandler


def test_a_soft_limit_during_the_body_is_raised_there() -> None:
    with Shield() as shield, pytest.raises(SoftTimeLimitExceeded), shield.lowered():
        send(signal.SIGUSR1)


def test_a_soft_limit_after_the_body_is_dropped() -> None:
    with Shield() as shield:
        with shield.lowered():
            pass
        send(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is soft_timeout_sighandler


def test_a_wish_to_end_is_heard_when_all_is_said() -> None:
    said = False
    with pytest.raises(SystemExit) as left, Shield():  # noqa: PT012 - the end of the block raises
        send(signal.SIGTERM)
        said = True
    assert said
    assert left.value.code == TERMINATED


def test_the_wish_to_end_goes_before_the_limit() -> None:
    with Shield() as shield:
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        with pytest.raises(SystemExit), shield.lowered():
            pytest.fail("the body is not begun")


def test_signals_that_land_in_another_thread_are_held_back_too() -> None:
    ready, go = threading.Event(), threading.Event()

    def other() -> None:
        ready.set()
        go.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait()
    with Shield() as shield:
        go.set()
        thread.join()
        with pytest.raises(SoftTimeLimitExceeded), shield.lowered():
            pytest.fail("the body is not begun")


def test_a_heartbeat_is_written_undisturbed_and_the_limit_raised_after_it() -> None:
    written = False
    with Shield() as shield, pytest.raises(SoftTimeLimitExceeded), shield.lowered(), shield.raised():  # noqa: PT012
        send(signal.SIGUSR1)
        written = True
    assert written


def test_a_pause_between_two_tries_hears_the_wish_to_end() -> None:
    begun = time.monotonic()
    with pytest.raises(SystemExit), Shield() as shield:  # noqa: PT012 - the end of the block raises
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        shield.sleep(20)
        assert isinstance(shield.late, SystemExit)
    assert time.monotonic() - begun < 10


def test_without_a_pools_handlers_nothing_is_touched() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with Shield() as shield, shield.lowered(), shield.raised():
        assert signal.getsignal(signal.SIGTERM) is before


def test_the_soft_limit_cancels_a_coroutine_and_is_raised_when_it_has_ended() -> None:
    cleaned: list[bool] = []

    async def body() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(True)

    with pytest.raises(SoftTimeLimitExceeded):
        call_async(body, (), {})
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGUSR1) is soft_timeout_sighandler


def test_a_coroutine_that_cancels_itself_has_not_passed_a_limit() -> None:
    async def body() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        call_async(body, (), {})


# ------------------------------------------------------------------ a whole delivery


def test_a_soft_limit_while_claiming_is_the_bodys(celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = celery_bench.journal.tasks.claim_dispatched

    def claim(*args: object) -> object:
        send(signal.SIGUSR1)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(celery_bench.journal.tasks, "claim_dispatched", claim)
    ran: list[int] = []
    assert celery_bench.run(lambda: ran.append(1)).word == "retry"
    assert ran == []
    [row] = celery_bench.rows()
    assert row.last_error is not None
    assert row.last_error.kind == "timed_out"


def test_a_soft_limit_while_reporting_changes_nothing(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = celery_bench.journal.tasks.finish_many

    def finish(*args: object) -> object:
        send(signal.SIGUSR1)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(celery_bench.journal.tasks, "finish_many", finish)
    assert celery_bench.run(lambda: 1).word == "done"
    assert [kind for kind, _, _ in celery_bench.letters()] == ["activity_completed"]


def test_a_wish_to_end_while_reporting_is_followed_afterwards(
    celery_bench: CeleryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = celery_bench.journal.tasks.finish_many

    def finish(*args: object) -> object:
        send(signal.SIGTERM)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(celery_bench.journal.tasks, "finish_many", finish)
    with pytest.raises(SystemExit):
        celery_bench.run(lambda: 1)
    assert [kind for kind, _, _ in celery_bench.letters()] == ["activity_completed"]


def test_a_body_that_catches_the_soft_limit_goes_on(celery_bench: CeleryBench) -> None:
    def careful() -> str:
        try:
            send(signal.SIGUSR1)
        except SoftTimeLimitExceeded:
            return "cleaned up"
        return "not told"

    assert celery_bench.run(careful).word == "done"
    assert [payload for _, _, payload in celery_bench.letters()] == ['"cleaned up"']
