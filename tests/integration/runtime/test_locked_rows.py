"""Somebody holds rows locked for long: an operator's open transaction, a worker's host that froze before its commit."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from continuum import activity, workflow
from continuum.journal.protocol import Journal
from continuum.model.runs import RunState
from continuum.runtime.turns.intake import Intake
from continuum.runtime.turns.settlement import Settlement
from tests.support.eventually import eventually
from tests.support.external import External
from tests.support.transports import FakeTransport

pytestmark = pytest.mark.parametrize("journal", ["postgres"], indirect=True)


@activity(name="locked.elsewhere")
def elsewhere() -> None:
    raise NotImplementedError("nobody runs it")


@workflow(name="locked.waits")
async def waits() -> None:
    await elsewhere()


@pytest.fixture
def continuum(journal: Journal) -> Iterator[External]:
    with External(journal=journal) as instance:
        instance.transports = {"celery": FakeTransport("celery")}
        yield instance


def test_a_task_that_stays_locked_costs_a_few_tries_and_reloads_not_thousands(
    continuum: External, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"replied": 0, "_admit": 0}

    def count(kind: type, name: str) -> None:
        real = getattr(kind, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(kind, name, counted)

    count(Settlement, "replied")
    count(Intake, "_admit")
    transport: Any = continuum.transports["celery"]
    with continuum.running(executor="celery"):
        handle = continuum.start(waits)
        eventually(lambda: transport.published)
        with psycopg2.connect(database_url) as other, other.cursor() as cursor:
            cursor.execute("select 1 from continuum_tasks for update")
            before = dict(calls)
            handle.cancel()
            time.sleep(1)  # what is looked at is how much happens meanwhile
            tries, loads = (calls[name] - before[name] for name in ("replied", "_admit"))
            other.rollback()
        assert 5 <= tries < 60
        assert loads < 10
        eventually(lambda: continuum.journal.runs.find(handle.id).state == RunState.CANCELLED)
