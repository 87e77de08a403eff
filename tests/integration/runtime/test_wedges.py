"""What must never stop a dispatcher: terminated runs, full tables, odd log fields, threads that cannot start …"""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, Retry, activity, log, wait_signal, workflow
from continuum.errors import JournalBusy, JournalUnavailable
from continuum.journal.open import open_journal
from tests.support.eventually import eventually

FAST: dict[str, Any] = {
    "poll_interval": timedelta(milliseconds=50),
    "lease_ttl": timedelta(seconds=5),
    "heartbeat_interval": timedelta(milliseconds=200),
    "reap_interval": timedelta(milliseconds=500),
    "stuck_backoff": timedelta(milliseconds=200),
    "concurrency": 4,
}
GATE = threading.Event()


@pytest.fixture(autouse=True)
def _gate() -> Iterator[None]:
    GATE.clear()
    yield
    GATE.set()


@activity(name="wedge.block", retry=Retry(max_attempts=1))
def block() -> int:
    GATE.wait(60)
    return 1


@activity(name="wedge.far", queue="elsewhere", retry=Retry(max_attempts=1))
def far() -> int:
    return 1


@activity(name="wedge.quick")
def quick() -> int:
    return 1


@activity(name="wedge.quick_async")
async def quick_async() -> int:
    return 1


@workflow(name="wedge.blocked")
async def blocked() -> int:
    return await block()


@workflow(name="wedge.abroad")
async def abroad() -> int:
    return await far()


@workflow(name="wedge.step")
async def step() -> int:
    return await quick()


@workflow(name="wedge.async_step")
async def async_step() -> int:
    return await quick_async()


@workflow(name="wedge.logs")
async def logs() -> int:
    await quick()
    log.warning("hello", extra={"name": "bob"})
    await quick()
    return 1


@workflow(name="wedge.handler")
async def handler() -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: sys.exit(1))
    loop.call_soon(lambda: 1 / 0)
    await quick()
    return 1


@workflow(name="wedge.timeouts")
async def timeouts() -> str:
    async with asyncio.timeout(86_400):
        await quick()
    return "done"


def test_terminated_runs_leave_the_memory_of_their_dispatcher() -> None:
    with Continuum(journal=open_journal("memory://"), active_runs=4, queues={"default": 4}, **FAST) as instance:
        with instance.running() as dispatcher:
            handles = [instance.start(abroad) for _ in range(4)]
            eventually(lambda: all(instance.get(h.id).state == "running" for h in handles))
            for h in handles:
                h.terminate("bulk")
            try:
                assert instance.start(step).result(timeout=8) == 1
            finally:
                pass
            eventually(lambda: dispatcher._turns.held == 0, 10)


def test_runs_that_wait_for_others_work_do_not_keep_new_runs_out() -> None:
    with Continuum(journal=open_journal("memory://"), active_runs=4, queues={"default": 4}, **FAST) as instance:
        with instance.running():
            for _ in range(4):
                instance.start(abroad)  # a queue that is served elsewhere, in an hour perhaps
            time.sleep(0.3)
            assert instance.start(step).result(timeout=5) == 1


@pytest.mark.parametrize("others", [0, 2])
def test_log_fields_with_reserved_names_disturb_nobody(others: int, caplog: pytest.LogCaptureFixture) -> None:
    with Continuum(journal=open_journal("memory://"), **FAST) as instance, instance.running() as dispatcher:
        parked = [instance.start(blocked) for _ in range(others)]
        eventually(lambda: all(instance.get(h.id).state == "running" for h in parked))
        pool = dispatcher._pool
        began = time.monotonic()
        assert instance.start(logs).result(timeout=40) == 1
        assert time.monotonic() - began < 5
        assert "unexpected error" not in caplog.text
        assert pool._places.reserved == 0
        GATE.set()


def test_an_exception_handler_that_exits_does_not_end_the_turns_thread() -> None:
    with Continuum(journal=open_journal("memory://"), **FAST) as instance, instance.running():
        instance.start(handler)
        time.sleep(0.5)
        try:
            assert instance.start(step).result(timeout=5) == 1
        finally:
            pass


def test_entries_of_timers_that_were_cancelled_do_not_pile_up() -> None:
    with Continuum(journal=open_journal("memory://"), **FAST) as instance, instance.running() as dispatcher:
        for _ in range(4):
            handles = [instance.start(timeouts) for _ in range(100)]
            for h in handles:
                h.result(timeout=20)
        eventually(lambda: dispatcher._turns.held == 0)
        # At most twice the runs that were there at once, and some.
        assert len(dispatcher._turns._table._timers) <= 2 * 100 + 64


class Away:
    """A journal that can be taken away."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.away: Exception | None = None
        self.lines: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._journal, name)
        if name in ("tasks", "workers", "runs", "upkeep"):
            return _Store(value, self)
        return value

    def open_line(self) -> Any:
        if self.away:
            raise self.away
        line = _Line(self._journal.open_line(), self)
        self.lines.append(line)
        return line

    def open_ears(self, kinds: Any) -> Any:
        if self.away:
            raise self.away
        return self._journal.open_ears(kinds)


class _Store:
    def __init__(self, store: Any, owner: Away) -> None:
        self._store, self._owner = store, owner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._owner.away:
                raise self._owner.away
            return method(*args, **kwargs)

        return call


class _Line:
    def __init__(self, line: Any, owner: Away) -> None:
        self._line, self._owner = line, owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def send(self, request: Any) -> bool:
        if self._owner.away:
            raise JournalUnavailable("away")
        return self._line.send(request)


def _passes(dispatcher: Any, seconds: float) -> int:
    turns, count = dispatcher._turns, [0]
    original = turns.step

    def step_counted(*args: Any) -> None:
        count[0] += 1
        original(*args)

    turns.step = step_counted
    time.sleep(seconds)
    turns.step = original
    return count[0]


@pytest.mark.parametrize("lease", [60, 1])
def test_the_turns_thread_sleeps_while_the_database_is_away(lease: float) -> None:
    journal = Away(open_journal("memory://"))
    options = {**FAST, "lease_ttl": timedelta(seconds=lease), "heartbeat_interval": timedelta(milliseconds=100)}
    with Continuum(journal=journal, **options) as instance:  # type: ignore[arg-type]
        with instance.running() as dispatcher:
            assert instance.start(step).result(timeout=5) == 1
            journal.away = JournalUnavailable("away")
            time.sleep(2.0)
            cpu, passes = time.process_time(), _passes(dispatcher, 1.0)
            cpu = time.process_time() - cpu
            journal.away = None
            assert passes < 200


def test_a_line_that_cannot_be_reopened_for_now_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    journal = Away(open_journal("memory://"))
    with Continuum(journal=journal, **FAST) as instance:  # type: ignore[arg-type]
        with instance.running():
            assert instance.start(step).result(timeout=5) == 1
            journal.away = JournalBusy("the database refused for now (55P03): lock timeout")
            time.sleep(1.0)
            journal.away = None
            assert instance.start(step).result(timeout=10) == 1
    met = caplog.text.count("unexpected error; every") + caplog.text.count("turns thread met an unexpected error")
    assert met == 0


def test_a_drain_during_an_outage_leaves_no_thread_behind() -> None:
    journal = Away(open_journal("memory://"))
    options = {**FAST, "lease_ttl": timedelta(seconds=1), "heartbeat_interval": timedelta(milliseconds=100)}
    instance = Continuum(journal=journal, **options)  # type: ignore[arg-type]
    dispatcher = instance.dispatcher()
    dispatcher.start()
    instance.start(wait_forever)
    time.sleep(0.3)
    journal.away = JournalUnavailable("away")
    time.sleep(1.5)
    time.monotonic()
    dispatcher.drain(1.0)
    time.sleep(2.0)
    alive = dispatcher._turns._thread.is_alive()
    journal.away = None
    time.sleep(3.0)
    assert not alive


@workflow(name="wedge.wait_forever")
async def wait_forever() -> None:
    await wait_signal("never")


def test_a_start_that_fails_leaves_nothing_behind() -> None:
    journal = Away(open_journal("memory://"))
    opened, original = [0], journal.open_line

    def third_fails() -> Any:
        opened[0] += 1
        if opened[0] == 3:
            raise JournalUnavailable("too many connections")
        return original()

    journal.open_line = third_fails  # type: ignore[method-assign]
    before = {thread.name for thread in threading.enumerate()}
    with Continuum(journal=journal, **FAST) as instance:  # type: ignore[arg-type]
        dispatcher = instance.dispatcher()
        with pytest.raises(JournalUnavailable):
            dispatcher.start()
        dispatcher.drain(1)
        left = {thread.name for thread in threading.enumerate()} - before
        workers = instance.journal.workers.list_workers()
        open_lines = [line for line in journal.lines if line._line._pipe is not None]
        assert not left
        assert not workers
        assert not open_lines
