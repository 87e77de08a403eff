"""Nothing a dispatcher does may keep it from doing everything else."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, activity, wait_signal, workflow
from continuum.journal.open import open_journal
from continuum.journal.requests import Hint, HintKind
from tests.support.eventually import eventually
from tests.support.watched import WatchedJournal


@activity(name="fair.quick")
def quick() -> int:
    return 1


@workflow(name="fair.step")
async def step() -> int:
    return await quick()


@workflow(name="fair.collect")
async def collect(count: int) -> int:
    return sum([await wait_signal("s") for _ in range(count)])


@pytest.fixture(params=["memory", "postgres"])
def journal(request: pytest.FixtureRequest) -> Iterator[Any]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("database_url")
    opened = WatchedJournal(open_journal(url))
    yield opened
    opened.close()


@pytest.mark.timeout(60)
def test_new_runs_start_while_mail_never_ends(journal: Any) -> None:
    """A hint of mail arrives in every pass (a busy signal endpoint): the desk must still claim and look."""
    with Continuum(journal=journal, poll_interval=timedelta(milliseconds=100)) as instance, instance.running() as it:
        turns = it._turns
        heard = turns.step

        def step_with_hint(*args: Any) -> None:
            turns._heard([Hint(HintKind.MAIL)])
            turns._desk.want_mail = True
            heard(*args)

        turns.step = step_with_hint
        try:
            time.sleep(0.3)
            assert instance.start(step).result(timeout=5) == 1
        finally:
            turns.step = heard


@pytest.mark.timeout(60)
def test_a_full_mail_reply_is_followed_by_another(journal: Any) -> None:
    with Continuum(journal=journal, poll_interval=timedelta(seconds=3)) as instance:
        handle = instance.start(collect, 5_000)
        with instance.running():
            eventually(lambda: instance.get(handle.id).state == "suspended")
            hint, journal._journal.hint = journal._journal.hint, lambda _hint: None
            for _ in range(5_000):
                handle.signal("s", 1)
            journal._journal.hint = hint
            began = time.monotonic()
            hint(Hint(HintKind.MAIL))
            assert handle.result(timeout=30) == 5_000
            took = time.monotonic() - began
            assert took < 5
