"""Somebody holds rows locked for long: an operator's open transaction, a worker's host that froze before its commit."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from continuum import activity, wait_signal, workflow
from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import RegrantRequest, Request
from continuum.model.runs import RunState
from continuum.runtime.turns.desk import MAIL_LIMIT
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


@workflow(name="locked.listens")
async def listens() -> None:
    await wait_signal("go")


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


def test_a_run_that_stays_locked_holds_up_no_other(
    continuum: External, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Request] = []
    real = Intake.refused

    def noted(self: Intake, request: Request, error: ContinuumError) -> None:
        refused.append(request)
        real(self, request, error)

    monkeypatch.setattr(Intake, "refused", noted)
    with continuum.running():
        handles = [continuum.start(listens) for _ in range(3)]
        locked, *others = handles
        eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in handles))
        with psycopg2.connect(database_url) as outsider, outsider.cursor() as cursor:
            cursor.execute("select 1 from continuum_runs where id = %s for update", (locked.id,))
            locked.signal("go", None)
            for _ in range(2):
                # Its commits were skipped, and its owner asks for a fresh token: that waits for the row, in vain.
                seen = len(refused)
                eventually(lambda: any(isinstance(one, RegrantRequest) for one in refused[seen:]), 20)  # noqa: B023
                others.pop().signal("go", None)
                late = continuum.start(listens)
                late.signal("go", None)
                late.result(timeout=20)
            for handle in handles[1:]:
                handle.result(timeout=20)
            assert locked.refresh().state == RunState.SUSPENDED
        outsider.close()
        locked.result(timeout=20)


def test_a_flood_for_a_run_that_stays_locked_hides_no_other_mail(continuum: External, database_url: str) -> None:
    with continuum.running():
        locked, other = continuum.start(listens), continuum.start(listens)
        eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in (locked, other)))
        with psycopg2.connect(database_url) as outsider, outsider.cursor() as cursor:
            cursor.execute("select 1 from continuum_runs where id = %s for update", (locked.id,))
            with psycopg2.connect(database_url) as crowd:
                for _ in range(MAIL_LIMIT + 500):
                    locked.signal("noise", None, connection=crowd)
            crowd.close()
            other.signal("go", None)
            other.result(timeout=30)
        outsider.close()
        locked.signal("go", None)
        locked.result(timeout=30)
