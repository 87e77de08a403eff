"""What goes wrong under a dispatcher: poisoned runs, refused batches, a database that comes and goes, drifted code."""

import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, activity, wait_signal
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.errors import JournalBusy, JournalError
from continuum.journal.open import migrate_database, open_journal
from continuum.journal.postgres.embedded import EmbeddedPostgres
from continuum.journal.protocol import Journal
from continuum.journal.requests import CommitRequest, Request
from continuum.model.events import EventType
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.support.audit import audit
from tests.support.eventually import eventually
from tests.support.watched import WatchedJournal

WAIT = 30
SETTINGS: dict[str, Any] = {
    "poll_interval": timedelta(milliseconds=50),
    "lease_ttl": timedelta(seconds=5),
    "heartbeat_interval": timedelta(milliseconds=500),
    "reap_interval": timedelta(milliseconds=500),
    "stuck_backoff": timedelta(milliseconds=200),
    "concurrency": 4,
}


@pytest.fixture
def watched(journal: Journal) -> WatchedJournal:
    return WatchedJournal(journal)


@pytest.fixture
def instance(watched: WatchedJournal) -> Iterator[Continuum]:
    with Continuum(journal=watched, **SETTINGS) as made:
        yield made


def test_one_poisoned_run_is_set_aside_and_the_others_of_its_batch_go_on(
    instance: Continuum, watched: WatchedJournal
) -> None:
    handles = [instance.start(flows.fan_out, 4) for _ in range(20)]
    poisoned = handles[7].id

    def veto(request: Request) -> Exception | None:
        if isinstance(request, CommitRequest) and any(commit.run_id == poisoned for commit in request.commits):
            return JournalError("invalid byte sequence")
        return None

    watched.veto = veto
    with instance.running():
        assert [h.result(timeout=WAIT) for h in handles if h.id != poisoned] == [12] * 19
        stuck = eventually(lambda: (run := instance.get(poisoned)).state == RunState.STUCK and run, WAIT)
        assert "invalid byte sequence" in (stuck.stuck_reason or "")

        watched.veto = lambda _request: None
        assert instance.handle(poisoned).result(timeout=WAIT) == 12
    assert instance.get(poisoned).stuck_reason is None


def test_a_busy_database_is_asked_again(instance: Continuum, watched: WatchedJournal) -> None:
    refusals = iter([True, False] * 3)

    def veto(request: Request) -> Exception | None:
        if isinstance(request, CommitRequest) and next(refusals, False):
            return JournalBusy("canceling statement due to lock timeout")
        return None

    watched.veto = veto
    with instance.running():
        assert instance.start(flows.fan_out, 3).result(timeout=WAIT) == 6


@activity(name="drift.first")
def first_activity() -> int:
    return 1


@activity(name="drift.second")
def second_activity() -> int:
    return 2


def registry_of(*flows: Workflow[..., Any]) -> Registry:
    """Return what one deploy has loaded."""
    registry = Registry()
    registry.register_activity(first_activity)
    registry.register_activity(second_activity)
    for flow in flows:
        registry.register_workflow(flow)
    return registry


def declared(function: Callable[..., Coroutine[Any, Any, Any]], name: str, version: int = 1) -> Workflow[..., Any]:
    return Workflow(function, name=name, version=version)


def test_code_that_drifted_makes_the_run_stuck_until_the_old_code_is_back(journal: Journal) -> None:
    async def old_code() -> int:
        value = await first_activity()
        await wait_signal("go")
        return value

    async def new_code() -> int:
        value = await second_activity()
        await wait_signal("go")
        return value

    before = declared(old_code, "drift.flow")
    old, new = registry_of(before), registry_of(declared(new_code, "drift.flow"))
    with Continuum(journal=journal, registry=old, **SETTINGS) as instance:
        with instance.running():
            handle = instance.start(before)
            eventually(lambda: instance.get(handle.id).state == RunState.SUSPENDED)
        history = instance.history(handle.id)
        with Continuum(journal=journal, registry=new, **SETTINGS) as deployed, deployed.running():
            handle.signal("go")
            stuck = eventually(lambda: (run := deployed.get(handle.id)).state == RunState.STUCK and run, WAIT)
            reason = stuck.stuck_reason or ""
            assert "drift.first" in reason
            assert "drift.second" in reason
            assert "test_disasters.py" in reason
        assert instance.history(handle.id) == history, "a drifted run keeps its history as it was"
        with instance.running():
            assert handle.result(timeout=WAIT) == 1


def test_changed_code_that_reproduces_the_history_is_adopted(journal: Journal) -> None:
    async def old_code() -> str:
        return str(await wait_signal("go"))

    async def new_code() -> str:
        return f"new code says {await wait_signal('go')}"

    before, after = declared(old_code, "adopt.flow"), declared(new_code, "adopt.flow")
    old, new = registry_of(before), registry_of(after)
    with Continuum(journal=journal, registry=old, **SETTINGS) as instance, instance.running():
        handle = instance.start(before)
        eventually(lambda: instance.get(handle.id).state == RunState.SUSPENDED)
    with Continuum(journal=journal, registry=new, **SETTINGS) as deployed, deployed.running():
        deployed.signal(handle.id, "go", "hello")
        assert deployed.handle(handle.id).result(timeout=WAIT) == "new code says hello"
        run = deployed.get(handle.id)
        assert run.version_hash == after.hash != before.hash
        assert EventType.VERSION_ADOPTED in [event.type for event in deployed.history(handle.id)]


def test_a_version_that_is_not_loaded_waits_for_a_dispatcher_that_has_it(journal: Journal) -> None:
    async def one_code() -> str:
        return "one"

    async def two_code() -> str:
        return "two"

    first, second = declared(one_code, "versions.flow"), declared(two_code, "versions.flow", version=2)
    both, only_new = registry_of(first, second), registry_of(second)
    with Continuum(journal=journal, registry=both, **SETTINGS) as instance:
        one, two = instance.start(first), instance.start(second)
        with Continuum(journal=journal, registry=only_new, **SETTINGS) as deployed, deployed.running():
            assert two.result(timeout=WAIT) == "two"
            assert deployed.get(one.id).state == RunState.PENDING
            assert deployed.get(one.id).grants == 0
        with instance.running():
            assert one.result(timeout=WAIT) == "one"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["restart", "outage"])
def test_everything_finishes_although_postgres_is_restarted_under_load(
    own_postgres: EmbeddedPostgres, how: str
) -> None:
    migrate_database(own_postgres.url)
    with Continuum(journal=open_journal(own_postgres.url), **SETTINGS) as instance, instance.running():
        handles = [instance.start(flows.groups) for _ in range(40)]
        naps = [instance.start(flows.naps, 40) for _ in range(5)]
        for _ in range(3):
            done = threading.Event()
            threading.Timer(0.15, done.set).start()
            done.wait()
            if how == "restart":
                own_postgres.restart()
            else:
                with own_postgres.outage():
                    pause = threading.Event()
                    pause.wait(0.5)
        assert [handle.result(timeout=60) for handle in handles] == [[0, 8, 16]] * 40
        for handle in naps:
            assert handle.result(timeout=60) >= 0.4
    audit(own_postgres.url, ledger=False)
    instance.close()
