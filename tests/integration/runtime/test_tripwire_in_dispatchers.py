"""The tripwire in dispatchers: the run is stuck with the reason, goes on after a deploy, and nobody else notices."""

import logging
import multiprocessing
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from continuum import Continuum, RunHandle, activity
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import Journal
from continuum.model.runs import RunState
from tests.support.eventually import eventually

WAIT = 30
SETTINGS: dict[str, Any] = {
    "poll_interval": timedelta(milliseconds=50),
    "lease_ttl": timedelta(seconds=5),
    "heartbeat_interval": timedelta(seconds=1),
    "stuck_backoff": timedelta(hours=1),
    "concurrency": 4,
}
Flow = Workflow[..., Any]


def log_a_line() -> None:
    logging.getLogger("tripped").warning("a line that each replay would write again")


def start_a_thread() -> None:
    threading.Thread(target=int).start()


# Found by a name that is known at run time only: the scanner cannot follow that.
CALLS = MappingProxyType(
    {
        "clock": lambda: time.time(),  # noqa: PLW0108 - the call is what is tested
        "chance": lambda: random.random(),  # noqa: PLW0108
        "id": lambda: str(uuid.uuid4()),
        "environment": lambda: os.environ.get("PATH"),
        "file": lambda: open(os.devnull).close(),  # noqa: PTH123
        "sleep": lambda: time.sleep(0.001),
        "thread": start_a_thread,
        "log": log_a_line,
    }
)
NAMED = {
    "clock": "time.time",
    "chance": "random.random",
    "id": "uuid.uuid4",
    "environment": "os.environ",
    "file": "open",
    "sleep": "time.sleep",
    "thread": "threading.Thread.start",
    "log": "logging.Logger.warning",
}


@activity(name="tripped.step")
def step(name: str) -> str:
    return str(CALLS[name]())


@activity(name="tripped.async_step")
async def async_step(name: str) -> str:
    return str(CALLS[name]())


async def calling(name: str) -> str:
    first = await step(name)
    try:
        CALLS[name]()
    except BaseException:
        return "swallowed"
    return first


async def mended(name: str) -> str:
    await step(name)
    return f"mended {await async_step(name) != ''}"


def declared(function: Callable[..., Coroutine[Any, Any, Any]]) -> Flow:
    return Workflow(function, name="tripped.flow", version=1)


def deploy(journal: Any, *flows: Flow, **options: Any) -> Continuum:
    registry = Registry()
    registry.register_activity(step)
    registry.register_activity(async_step)
    for flow in flows:
        registry.register_workflow(flow)
    return Continuum(journal=journal, registry=registry, **{**SETTINGS, **options})


def reason_of(instance: Continuum, handle: RunHandle[Any]) -> str:
    eventually(lambda: instance.get(handle.id).state == RunState.STUCK, WAIT)
    return instance.get(handle.id).stuck_reason or ""


@pytest.mark.timeout(120)
def test_a_run_is_stuck_with_the_reason_and_goes_on_once_the_call_is_gone(journal: Journal) -> None:
    before, after = declared(calling), declared(mended)
    with deploy(journal, before) as old:
        with old.running():
            handles = {name: old.start(before, name) for name in CALLS}
            for name, handle in handles.items():
                reason = reason_of(old, handle)
                assert reason.startswith(f"ForbiddenCall: workflow code called {NAMED[name]} at "), reason
                assert "test_tripwire_in_dispatchers.py:" in reason
                assert "Instead, " in reason
                # As it was before that turn: the step is not even known to be done.
                kinds = [str(event.type) for event in old.history(handle.id)]
                assert kinds == ["run_started", "run_began", "activity_scheduled"]
    with deploy(journal, after) as new, new.running():
        for handle in handles.values():
            assert new.handle(handle.id).result(timeout=WAIT) == "mended True"


def test_without_the_tripwire_the_call_is_made(journal: Journal) -> None:
    flow = declared(calling)
    with deploy(journal, flow, tripwire=False) as instance, instance.running():
        assert float(instance.start(flow, "clock").result(timeout=WAIT)) > 0


def test_of_two_dispatchers_in_one_process_each_keeps_to_its_own_setting(journal: Journal) -> None:
    flow, other = declared(calling), Workflow(calling, name="tripped.other", version=1)
    with deploy(journal, flow) as strict, deploy(journal, other, tripwire=False) as lax:
        with strict.running(), lax.running():
            tripped = [strict.start(flow, "id") for _ in range(10)]
            free = [lax.start(other, "id") for _ in range(10)]
            assert all(uuid.UUID(handle.result(timeout=WAIT)) for handle in free)
            assert all("uuid.uuid4" in reason_of(strict, handle) for handle in tripped)


def test_other_threads_of_a_busy_dispatchers_process_are_not_disturbed(journal: Journal) -> None:
    after = declared(mended)
    errors: list[BaseException] = []
    done = threading.Event()

    def busy() -> None:
        try:
            while not done.is_set():
                for name in ("clock", "chance", "id", "environment", "file"):
                    CALLS[name]()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        with deploy(journal, after) as instance, instance.running():
            handles = [instance.start(after, "clock") for _ in range(50)]
            assert {handle.result(timeout=WAIT) for handle in handles} == {"mended True"}
    finally:
        done.set()
        thread.join()
    assert errors == []


def _in_the_child(sender: Any) -> None:
    sender.send([bool(CALLS[name]()) or True for name in CALLS])


def test_a_process_forked_beside_a_dispatcher_is_free(journal: Journal) -> None:
    after = declared(mended)
    with deploy(journal, after) as instance, instance.running():
        handle = instance.start(after, "clock")
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_in_the_child, args=(sender,))
        child.start()
        assert receiver.poll(WAIT)
        assert receiver.recv() == [True] * len(CALLS)
        child.join(WAIT)
        assert handle.result(timeout=WAIT) == "mended True"
