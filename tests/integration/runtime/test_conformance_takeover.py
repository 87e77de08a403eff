"""Who has a run, and for how long: hand-over, drains that end in time, work that outlasts a lease, ears cut off."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, activity, wait_signal, workflow
from continuum.errors import JournalUnavailable
from continuum.journal.protocol import Journal
from continuum.journal.requests import CommitRequest, ReleaseRequest, Request
from continuum.model.events import EventType
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.support.audit import fetch
from tests.support.eventually import eventually
from tests.support.pools import Gate
from tests.support.watched import WatchedJournal

WAIT = 30
# Whoever waits for a lease of an hour waits too long; whoever waits for the floor poll as well.
SLOW: dict[str, Any] = {
    "lease_ttl": timedelta(hours=1),
    "poll_interval": timedelta(minutes=5),
    "reap_interval": timedelta(minutes=5),
    "concurrency": 2,
}
GATES: dict[str, Gate] = {}


@activity(name="takeover.hold")
def hold(gate: str) -> str:
    GATES[gate]()
    return "let go"


@workflow(name="takeover.holding")
async def holding(gate: str) -> str:
    return await hold(gate)


@workflow(name="takeover.blocking")
async def blocking(gate: str) -> str:
    """Block the turns thread, as no workflow should."""
    await wait_signal("block")
    GATES[gate]()  # continuum: allow[CT202] the test holds the thread by it
    return "unblocked"


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name
    GATES[name] = Gate()
    yield name
    GATES.pop(name).open()


def parked(instance: Continuum, run_id: str) -> bool:
    return instance.get(run_id).state == RunState.SUSPENDED


def test_a_drained_dispatcher_gives_its_parked_runs_back_at_once(database_url: str) -> None:
    """CLU-05, LEASE-11, F-69: nobody waits for the lease to run out."""
    with Continuum(database_url, **SLOW) as first, Continuum(database_url, **SLOW) as second:
        with first.running():
            handle = first.start(flows.collect, 1)
            eventually(lambda: parked(first, handle.id))
            token = first.get(handle.id).lease_token
            assert first.get(handle.id).lease_owner is not None
        freed = first.get(handle.id)
        assert freed.lease_owner is None
        assert freed.lease_token > token
        with second.running():
            second.signal(handle.id, "item", "hello")
            assert second.handle(handle.id).result(timeout=WAIT) == ["hello"]


def test_two_dispatchers_share_the_runs_and_each_step_happens_once(journal: Journal) -> None:
    """CLU-04, DISP-01, F-24, F-85."""
    quick: dict[str, Any] = {"poll_interval": timedelta(milliseconds=50), "concurrency": 2}
    with Continuum(journal=journal, **quick) as first, Continuum(journal=journal, **quick) as second:
        with first.running(), second.running():
            handles = [first.start(flows.naps, 3) for _ in range(20)] + [first.start(flows.groups) for _ in range(20)]
            for handle in handles:
                handle.result(timeout=WAIT)
        for handle in handles:
            history = first.history(handle.id)
            completed = [event.command for event in history if event.type in {"timer_fired", "activity_completed"}]
            assert sorted(completed) == sorted(set(completed))
            assert [event.seq for event in history] == list(range(1, len(history) + 1))


def test_an_activity_may_outlast_the_lease_of_its_worker(journal: Journal, gate: str) -> None:
    """ACT-20, ACT-21, F-12: the worker's heartbeat is what keeps its tasks."""
    settings: dict[str, Any] = {
        "lease_ttl": timedelta(seconds=1),
        "heartbeat_interval": timedelta(milliseconds=100),
        "reap_interval": timedelta(milliseconds=50),
        "poll_interval": timedelta(milliseconds=50),
    }
    with (
        Continuum(journal=journal, **settings) as first,
        Continuum(journal=journal, **settings) as second,
        first.running() as worker,
    ):
        handle = first.start(holding, gate)
        GATES[gate].expect(1)
        [record] = [one for one in first.list_workers() if one.id == worker.worker]
        with second.running():  # a reaper that waits for its death
            eventually(lambda: journal.clock.now_us() > record.expires_at + 100_000, WAIT)
            GATES[gate].open()
            assert handle.result(timeout=WAIT) == "let go"
    assert len(GATES[gate].entered) == 1


def test_a_drain_waits_for_what_ends_in_time(continuum: Continuum, gate: str) -> None:
    """LEASE-14."""
    with continuum.running():
        handle = continuum.start(holding, gate)
        GATES[gate].expect(1)
        drained: list[bool] = []
        drain = threading.Thread(target=lambda: drained.append(continuum.drain(timeout=WAIT)))
        drain.start()
        eventually(lambda: continuum.readiness().state == "draining")
        GATES[gate].open()
        drain.join()
    assert drained == [True]
    assert continuum.tasks(handle.id) == []
    assert continuum.get(handle.id).lease_owner is None


def test_a_drain_does_not_wait_for_workflow_code_that_blocks(continuum: Continuum, gate: str) -> None:
    """LEASE-12: it says that it could not end in time, and the run is as movable as before."""
    with continuum.running():
        handle = continuum.start(blocking, gate)
        eventually(lambda: parked(continuum, handle.id))
        handle.signal("block")
        GATES[gate].expect(1)
        began = time.monotonic()
        assert continuum.drain(timeout=0.02) is False
        assert time.monotonic() - began < WAIT / 2
    assert not continuum.get(handle.id).ended
    GATES[gate].open()
    with continuum.running():
        assert handle.result(timeout=WAIT) == "unblocked"
    assert [event.type for event in continuum.history(handle.id)].count(EventType.SIGNAL_RECEIVED) == 1


def test_a_drain_does_not_wait_for_a_database_that_takes_no_releases(journal: Journal) -> None:
    """LEASE-16, F-71: what could not be given back is swept, since its owner is gone."""
    watched = WatchedJournal(journal)
    with Continuum(journal=watched, poll_interval=timedelta(milliseconds=50)) as instance:
        with instance.running():
            handle = instance.start(flows.collect, 1)
            eventually(lambda: parked(instance, handle.id))

            def veto(request: Request) -> Exception | None:
                return JournalUnavailable("no answer") if isinstance(request, ReleaseRequest) else None

            watched.veto = veto
            began = time.monotonic()
            instance.drain(timeout=0.02)
            assert time.monotonic() - began < WAIT / 2
        watched.veto = lambda _request: None
        assert instance.get(handle.id).lease_owner is not None
        with instance.running(reap_interval=timedelta(milliseconds=50)):
            handle.signal("item", "still here")
            assert handle.result(timeout=WAIT) == ["still here"]


def test_a_refused_request_of_any_kind_is_asked_again(journal: Journal) -> None:
    """X-088: claims, looks, mail and commits; a failing poll ends nothing."""
    watched = WatchedJournal(journal)
    refused: set[str] = set()

    def veto(request: Request) -> Exception | None:
        kind = type(request).__name__
        if kind in refused:
            return None
        refused.add(kind)
        return JournalUnavailable("connection refused")

    watched.veto = veto
    with Continuum(journal=watched, poll_interval=timedelta(milliseconds=50)) as instance, instance.running():
        assert instance.start(flows.fan_out, 3).result(timeout=WAIT) == 6
    assert {"ClaimRequest", "CommitRequest"} <= refused


def test_a_database_that_is_away_is_no_exception_of_the_workflow(journal: Journal) -> None:
    """X-003, ENG-01, F-32: broad excepts in workflow code see nothing of it, and the last commit is asked again too."""

    @workflow(name="takeover.careful")
    async def careful() -> str:
        try:
            total = await flows.double(1) + await flows.double(2)
        except BaseException:
            await flows.hopeless()
            return "compensated"
        return f"done: {total}"

    watched = WatchedJournal(journal)
    turn = iter([True, False] * 50)

    def veto(request: Request) -> Exception | None:
        if isinstance(request, CommitRequest) and next(turn, False):
            return JournalUnavailable("server closed the connection unexpectedly")
        return None

    watched.veto = veto
    with Continuum(journal=watched, poll_interval=timedelta(milliseconds=50)) as instance:
        with instance.running():
            handle = instance.start(careful)
            assert handle.result(timeout=WAIT) == "done: 6"
        scheduled = [event.name for event in instance.history(handle.id) if event.type == "activity_scheduled"]
        assert scheduled == ["flows.double", "flows.double"]


# ------------------------------------------------------------------ hints


def test_a_signal_from_another_instance_is_heard_without_a_poll(database_url: str) -> None:
    """SIG-15, ENG-04, TW-09."""
    with Continuum(database_url, **SLOW) as here, Continuum(database_url, **SLOW) as there, here.running():
        handle = there.start(flows.collect, 2)
        eventually(lambda: parked(there, handle.id), WAIT)
        for word in ("one", "two"):
            there.signal(handle.id, "item", word)
        assert handle.result(timeout=WAIT) == ["one", "two"]


def test_ears_that_were_cut_off_are_opened_again_and_miss_nothing(database_url: str) -> None:
    """TW-01, TW-02, X-049, F-37, F-102."""
    with Continuum(database_url, **SLOW) as client, Continuum(database_url, **SLOW) as instance, instance.running():
        handle = client.start(flows.collect, 2)
        eventually(lambda: parked(client, handle.id), WAIT)
        cut = fetch(
            database_url,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and query ilike '%%listen%%'",
        )
        assert cut
        client.signal(handle.id, "item", "missed")
        client.signal(handle.id, "item", "heard")
        assert handle.result(timeout=WAIT) == ["missed", "heard"]
