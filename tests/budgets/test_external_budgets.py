"""What a step in an external executor costs its dispatcher, counted: commits, requests and statements, not seconds."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from continuum.journal.open import open_journal
from tests.budgets.test_counted_budgets import QUIET, STEPS
from tests.integration.runtime import flows
from tests.support.audit import fetch
from tests.support.eventually import eventually
from tests.support.external import External
from tests.support.transports import FakeTransport, FakeWorkers
from tests.support.watched import WatchedJournal

CELERY: dict[str, Any] = {"executor": "celery"}


class CountedTasks:
    """The task store of a dispatcher; counts what is asked of it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._inner, name)


@pytest.fixture
def watched(database_url: str) -> Iterator[WatchedJournal]:
    journal = open_journal(database_url)
    made = WatchedJournal(journal)
    made.tasks = CountedTasks(journal.tasks)
    yield made
    journal.close()


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport("celery")


@pytest.fixture
def continuum(watched: WatchedJournal, transport: FakeTransport) -> Iterator[External]:
    with External(journal=watched, **QUIET) as instance:
        instance.transports = {"celery": transport}
        yield instance


@pytest.fixture
def workers(database_url: str, transport: FakeTransport) -> Iterator[FakeWorkers]:
    # Elsewhere: their statements are not the dispatcher's.
    journal = open_journal(database_url)
    with FakeWorkers(journal, transport, threads=1) as made:
        yield made
    journal.close()


@pytest.mark.usefixtures("workers")
def test_a_step_costs_its_dispatcher_one_commit_and_one_reading_of_the_mail(
    continuum: External, watched: WatchedJournal, transport: FakeTransport
) -> None:
    with continuum.running(**CELERY):
        continuum.start(flows.sequence, 1).result(timeout=20)
        watched.sent.clear()
        watched.tasks.calls.clear()
        assert continuum.start(flows.sequence, STEPS).result(timeout=20) == STEPS
        sent, asked = dict(watched.sent), dict(watched.tasks.calls)
    assert sent.pop("CommitRequest") == STEPS + 1
    # A hint may come while the mail is being read.
    assert STEPS <= sent.pop("MailRequest") <= 2 * STEPS
    assert sent.pop("HintRequest") == 1
    # Runs that are free may have mail too; nobody has to look for them at each step of one that is not.
    assert sent.pop("ClaimRequest") <= 2 + STEPS // 2
    assert sent == {}
    # No mark of its own: the commit was it. At most a look at what has been claimed, every few seconds.
    assert asked.keys() <= {"undelivered"}
    assert asked.get("undelivered", 0) <= 2
    assert len(transport.published) == STEPS + 1


@pytest.mark.usefixtures("workers")
def test_the_history_of_ten_steps_elsewhere_takes_twelve_transactions(continuum: External, database_url: str) -> None:
    with continuum.running(**CELERY):
        handle = continuum.start(flows.sequence, STEPS)
        handle.result(timeout=20)
    query = "select count(distinct xmin::text), count(*) from continuum_events where run_id::text = %s"
    assert fetch(database_url, query, handle.id) == [(STEPS + 2, 2 * STEPS + 3)]


def test_tasks_that_nobody_takes_cost_a_look_now_and_then(
    continuum: External, watched: WatchedJournal, transport: FakeTransport
) -> None:
    with continuum.running(**CELERY):
        continuum.start(flows.fan_out, 20)
        eventually(lambda: len(transport.published) == 20)
        watched.tasks.calls.clear()
        eventually(lambda: watched.tasks.calls["undelivered"] == 2)
        assert set(watched.tasks.calls) == {"undelivered"}
