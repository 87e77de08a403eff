"""Dispatchers with different code of one workflow, side by side and one after the other."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, RunHandle, activity, continue_as_new, start_child, wait_signal
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import Journal
from continuum.journal.requests import ClaimReply, ClaimRequest, StickRequest
from continuum.model.events import EventType
from continuum.model.ids import RunId, new_worker_id
from continuum.model.leases import Grant, WorkerInfo
from continuum.model.runs import RunState
from tests.support.eventually import eventually
from tests.support.watched import WatchedJournal

WAIT = 30
SETTINGS: dict[str, Any] = {
    "poll_interval": timedelta(milliseconds=50),
    "lease_ttl": timedelta(seconds=5),
    "heartbeat_interval": timedelta(milliseconds=500),
    "reap_interval": timedelta(milliseconds=500),
    # Whoever is tried again within a test was revived.
    "stuck_backoff": timedelta(hours=1),
    "concurrency": 4,
}
Flow = Workflow[..., Any]


@activity(name="rolling.first")
def first() -> int:
    return 1


@activity(name="rolling.second")
def second() -> int:
    return 2


@pytest.fixture
def watched(journal: Journal) -> WatchedJournal:
    return WatchedJournal(journal)


def declared(function: Callable[..., Coroutine[Any, Any, Any]], *, version: int = 1) -> Flow:
    return Workflow(function, name="rolling.flow", version=version)


def deploy(journal: Any, *flows: Flow, **options: Any) -> Continuum:
    """Return an instance that has loaded just these."""
    registry = Registry()
    registry.register_activity(first)
    registry.register_activity(second)
    for flow in flows:
        registry.register_workflow(flow)
    return Continuum(journal=journal, registry=registry, **{**SETTINGS, **options})


def parked(instance: Continuum, handle: RunHandle[Any]) -> None:
    eventually(lambda: instance.get(handle.id).state == RunState.SUSPENDED, WAIT)


def kinds(instance: Continuum, run_id: str) -> Counter[str]:
    return Counter(str(event.type) for event in instance.history(run_id))


async def old_code() -> str:
    value = await first()
    return f"old {value} {await wait_signal('go')}"


async def drifted_code() -> str:
    value = await second()
    return f"drifted {value} {await wait_signal('go')}"


async def extended_code() -> str:
    value = await first()
    said = await wait_signal("go")
    return f"extended {value} {said} {await second()}"


async def other_extended_code() -> str:
    value = await first()
    return f"other {value} {await wait_signal('go')}!"


def test_side_by_side_every_run_stays_with_its_own_code(watched: WatchedJournal) -> None:
    before, after = declared(old_code), declared(drifted_code)
    with deploy(watched, before, cached_runs=3) as old, deploy(watched, after, cached_runs=3) as new:
        with old.running(), new.running():
            olds = [old.start(before) for _ in range(12)]
            news = [new.start(after) for _ in range(12)]
            # More than fit in memory: they are given back and claimed again, by mail and by time.
            for handle in (*olds, *news):
                parked(old, handle)
            for handle in (*olds, *news):
                handle.signal("go", "x")
            assert {handle.result(timeout=WAIT) for handle in olds} == {"old 1 x"}
            assert {handle.result(timeout=WAIT) for handle in news} == {"drifted 2 x"}
        assert watched.sent["StickRequest"] == 0
        assert not any(kinds(old, handle.id)[EventType.VERSION_ADOPTED] for handle in (*olds, *news))


def test_what_the_last_old_dispatcher_leaves_is_adopted_by_code_that_can(journal: Journal) -> None:
    before, after = declared(old_code), declared(extended_code)
    with deploy(journal, before) as old, deploy(journal, after) as new, new.running():
        with old.running():
            handle = old.start(before)
            parked(old, handle)
        handle.signal("go", "x")
        assert handle.result(timeout=WAIT) == "extended 1 x 2"
        assert new.get(handle.id).version_hash == after.hash
        assert kinds(new, handle.id)[EventType.VERSION_ADOPTED] == 1
        # Adopted in the very turn that ended it: its end is its end all the same.
        assert new.history(handle.id)[-1].type == EventType.RUN_COMPLETED


def test_code_that_cannot_sets_it_aside_and_a_rollback_goes_on_with_it_at_once(journal: Journal) -> None:
    before, after = declared(old_code), declared(drifted_code)
    with deploy(journal, before) as old, deploy(journal, after) as new:
        with old.running():
            handle = old.start(before)
            parked(old, handle)
        history = old.history(handle.id)
        handle.signal("go", "x")
        with new.running():
            stuck = eventually(lambda: (run := new.get(handle.id)).state == RunState.STUCK and run, WAIT)
            assert stuck.stuck_since is not None
            assert old.history(handle.id) == history
            with old.running():
                # Beside the new one, which must not take it again.
                assert handle.result(timeout=WAIT) == "old 1 x"
        run = old.get(handle.id)
        assert (run.version_hash, run.stuck_reason, run.stuck_since) == (before.hash, None, None)


def test_a_deploy_that_mends_it_goes_on_with_stuck_runs_at_once(journal: Journal) -> None:
    before, broken, mended = declared(old_code), declared(drifted_code), declared(extended_code)
    with deploy(journal, before) as old:
        with old.running():
            handles = [old.start(before) for _ in range(5)]
            for handle in handles:
                parked(old, handle)
        for handle in handles:
            handle.signal("go", "x")
        with deploy(journal, broken) as bad, bad.running():
            for handle in handles:
                eventually(lambda: bad.get(handle.id).state == RunState.STUCK, WAIT)  # noqa: B023
        with deploy(journal, mended) as good, good.running():
            assert {handle.result(timeout=WAIT) for handle in handles} == {"extended 1 x 2"}


def test_while_the_old_one_is_drained_its_parked_runs_go_on_with_the_new_code(journal: Journal) -> None:
    """A drain may last as long as an activity does; who only waits for that activity stays."""
    entered, leave = threading.Event(), threading.Event()

    @activity(name="rolling.slow")
    def slow() -> str:
        entered.set()
        leave.wait(WAIT)
        return "slow"

    async def busy() -> str:
        return await slow()

    before, after, keeps = declared(old_code), declared(extended_code), Workflow(busy, name="rolling.busy", version=1)
    with deploy(journal, before, keeps) as old, deploy(journal, after) as new, new.running():
        old.registry.register_activity(slow)
        dispatcher = old.dispatcher()
        dispatcher.start()
        try:
            handle, slow_one = old.start(before), old.start(keeps)
            parked(old, handle)
            assert entered.wait(WAIT)
            drain = threading.Thread(target=dispatcher.drain, args=(WAIT,))
            drain.start()
            eventually(lambda: old.get(handle.id).lease_owner != dispatcher.worker, WAIT)
            handle.signal("go", "x")
            assert handle.result(timeout=WAIT) == "extended 1 x 2"
            assert drain.is_alive(), "it went on before the old dispatcher had left"
        finally:
            leave.set()
        drain.join(WAIT)
        assert slow_one.result(timeout=WAIT) == "slow"


def test_of_two_that_could_adopt_a_run_one_does(journal: Journal) -> None:
    before, one, other = declared(old_code), declared(extended_code), declared(other_extended_code)
    with deploy(journal, before) as old, deploy(journal, one) as left, deploy(journal, other) as right:
        with old.running():
            handles = [old.start(before) for _ in range(10)]
            for handle in handles:
                parked(old, handle)
        with left.running(), right.running():
            for handle in handles:
                handle.signal("go", "x")
            answers = {one.hash: "extended 1 x 2", other.hash: "other 1 x!"}
            for handle in handles:
                result = handle.result(timeout=WAIT)
                assert result == answers[left.get(handle.id).version_hash]
                assert kinds(left, handle.id)[EventType.VERSION_ADOPTED] == 1


def test_timers_children_and_chains_pass_from_old_code_to_new(journal: Journal) -> None:
    async def child(said: str) -> str:
        return f"{said} {await wait_signal('child')}"

    async def before_code(generation: int) -> str:
        await asyncio.sleep(0.01)
        handle = start_child(kid, "child heard", key=f"kid-{generation}")
        answer = await handle
        await wait_signal("go")
        if generation < 2:
            continue_as_new(generation + 1)
        return f"old: {answer}"

    async def after_code(generation: int) -> str:
        await asyncio.sleep(0.01)
        handle = start_child(kid, "child heard", key=f"kid-{generation}")
        answer = await handle
        await wait_signal("go")
        if generation < 2:
            continue_as_new(generation + 1)
        return f"new: {answer}"

    kid = Workflow(child, name="rolling.kid", version=1)
    before, after = declared(before_code), declared(after_code)

    def open_child(instance: Continuum) -> RunId:
        page = eventually(
            lambda: (found := instance.search({"workflow": "rolling.kid", "state": "suspended"})).runs and found, WAIT
        )
        return page.runs[0].id

    with deploy(journal, before, kid) as old, deploy(journal, after, kid) as new:
        with old.running():
            handle = old.start(before, 1)
            kid_id = open_child(old)
        with new.running():
            new.signal(kid_id, "child", "one")
            assert new.handle(kid_id).result(timeout=WAIT) == "child heard one"
            handle.signal("go")
            new.signal(open_child(new), "child", "two")
            handle.signal("go")
            assert handle.result(timeout=WAIT) == "new: child heard two"
        first_run = new.get(handle.id)
        assert (first_run.state, first_run.version_hash) == (RunState.CONTINUED, after.hash)
        assert not any(run.state == RunState.STUCK for run in new.search({"workflow": "rolling.flow"}).runs)


def test_a_dispatcher_that_starts_does_not_revive_what_took_dispatchers_down(journal: Journal) -> None:
    before = declared(old_code)
    with deploy(journal, before) as instance:
        poison = instance.start(before)
        worker, line = new_worker_id(), journal.open_line()
        journal.workers.register(WorkerInfo(worker, "host", 1, timedelta(minutes=1)))
        line.send(ClaimRequest(worker, (("rolling.flow", 1),), 1))
        reply = line.wait(WAIT)
        assert isinstance(reply, ClaimReply)
        grant = Grant(poison.id, reply.runs[0].token)
        line.send(StickRequest(worker, grant, "it took 5 dispatchers down", timedelta(hours=1), 4))
        assert line.wait(WAIT) is not None
        line.close()
        journal.workers.deregister(worker)
        with instance.running():
            well = instance.start(before)
            well.signal("go", "x")
            assert well.result(timeout=WAIT) == "old 1 x"
            run = instance.get(poison.id)
            assert (run.state, run.grants, run.last_seq) == (RunState.STUCK, 4, 1)


def test_versions_of_one_process_do_not_get_in_each_others_way(journal: Journal) -> None:
    one, two = declared(old_code), declared(drifted_code, version=2)
    changed = declared(extended_code, version=2)
    with deploy(journal, one, two) as old, deploy(journal, one, changed) as new:
        with old.running():
            first_run, second_run = old.start("rolling.flow"), old.start(two)
            parked(old, first_run)
            parked(old, second_run)
            assert old.get(first_run.id).version == 2
        with new.running():
            for handle in (first_run, second_run):
                handle.signal("go", "x")
                eventually(lambda: new.get(handle.id).state == RunState.STUCK, WAIT)  # noqa: B023
            third = new.start(one)
            third.signal("go", "y")
            assert third.result(timeout=WAIT) == "old 1 y"
