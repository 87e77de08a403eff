"""A timer that is due at the very instant of another; a line that never answers."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, activity, workflow
from continuum.journal.open import open_journal
from continuum.journal.requests import CommitRequest


@activity(name="ts.quick")
def quick() -> int:
    return 1


@workflow(name="ts.step")
async def step() -> int:
    return await quick()


@workflow(name="ts.zero")
async def zero() -> str:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    await asyncio.sleep(0.12)  # the clock below is coarse: from here on stamps are multiples of 50 ms
    loop.call_later(0.1, lambda: loop.call_later(0, done.set_result, "done"))
    return str(await done)


@pytest.mark.timeout(60)
def test_a_timer_that_replaces_one_of_the_same_instant_fires() -> None:
    """A coarse clock makes the coincidence (the completion is stamped with exactly ``fire_at``) certain."""
    journal = open_journal("memory://")
    clock: Any = journal.clock

    class Coarse:
        def __getattr__(self, name: str) -> Any:
            return getattr(clock, name)

        def now_us(self) -> int:
            return clock.now_us() // 50_000 * 50_000

    journal.clock = Coarse()  # type: ignore[assignment]
    with Continuum(journal=journal, poll_interval=timedelta(milliseconds=50)) as instance, instance.running():
        assert instance.start(zero).result(timeout=5) == "done"


class Silent:
    """The first commit is swallowed: neither executed nor ever answered, as by a proxy or firewall that hangs."""

    def __init__(self, line: Any, owner: "SilentJournal") -> None:
        self._line, self._owner = line, owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def send(self, request: Any) -> bool:
        if isinstance(request, CommitRequest) and not self._owner.swallowed:
            self._owner.swallowed = True
            return False
        return self._line.send(request)


class SilentJournal:
    def __init__(self, journal: Any) -> None:
        self._journal, self.swallowed = journal, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def open_line(self) -> Any:
        return Silent(self._journal.open_line(), self)


@pytest.mark.timeout(60)
def test_a_line_that_never_answers_is_given_up() -> None:
    options: dict[str, Any] = {
        "lease_ttl": timedelta(seconds=2),
        "heartbeat_interval": timedelta(milliseconds=200),
        "poll_interval": timedelta(milliseconds=50),
    }
    with Continuum(journal=SilentJournal(open_journal("memory://")), **options) as instance, instance.running():  # type: ignore[arg-type]
        assert instance.start(step).result(timeout=15) == 1, "a few leases later it still hangs"
