"""Here lives the recording of golden histories: ``python -m tests.replay.golden.record``. Read the README first.

Records those that are missing, through real dispatchers on a Postgres of its own. Overwrites nothing.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from continuum import Continuum
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.open import migrate_database
from continuum.journal.postgres.embedded import start_embedded
from continuum.model.events import Event, EventType
from continuum.model.ids import derive_run_id
from continuum.replay.execution import RunInfo
from tests.integration.runtime.families import children_of
from tests.replay.golden import flows
from tests.replay.golden.histories import Golden, follow, names, write
from tests.support.eventually import eventually

WAIT = 20
SETTINGS: dict[str, Any] = {
    "poll_interval": timedelta(milliseconds=50),
    "reap_interval": timedelta(milliseconds=200),
    "concurrency": 4,
}
Recorded = dict[str, str]
"""Ids of runs, by the name of the file to keep their histories in."""
SCENARIOS: dict[str, tuple[str, Callable[[Continuum], str | Recorded]]] = {}


def scenario(what: str, *files: str) -> Callable[[Callable[[Continuum], Any]], Callable[[Continuum], Any]]:
    def keep(play: Callable[[Continuum], Any]) -> Callable[[Continuum], Any]:
        for file in files or (play.__name__,):
            SCENARIOS[file] = what, play
        return play

    return keep


def simple(name: str, what: str, flow: Any, *args: Any, **kwargs: Any) -> None:
    """Add a run that needs nobody."""

    def play(continuum: Continuum) -> str:
        with continuum.running():
            return ended(continuum, continuum.start(flow, *args, **kwargs).id)

    SCENARIOS[name] = what, play


def ended(continuum: Continuum, run_id: str) -> str:
    eventually(lambda: continuum.get(run_id).ended, WAIT)
    return run_id


def seen(continuum: Continuum, run_id: str, kind: str, count: int = 1) -> None:
    """Wait until the run's history has so many events of a kind."""
    eventually(lambda: [event.type for event in continuum.history(run_id)].count(kind) >= count, WAIT)


simple("sequential", "activities, one after the other; typed values", flows.sequential, "tea")
simple("activity_outcomes", "an activity that is retried, one that refuses, one that is late", flows.activity_outcomes)
simple("failing", "a run that fails with what its activity raised", flows.failing)
simple("gather", "activities at once", flows.gathered, 10)
simple("sleep", "durable timers", flows.sleeps)
simple("asyncio", "as_completed, wait, gather of cancelled tasks, queue, semaphore, shield", flows.constructs)
simple("values", "uuid4, random, now, today, side effects", flows.values)
simple("attributes", "attributes and published values", flows.attributes)
simple("saga_kept", "sagas that end well", flows.kept)
simple("saga_sequential", "a saga undone, newest first", flows.trip, parallel=False, hotel="hotel")
simple("saga_parallel", "a saga undone, all at once", flows.trip, parallel=True, hotel="hotel")
simple(
    "saga_failing_compensation", "a saga with a compensation that fails", flows.trip, parallel=False, hotel="stubborn"
)
simple("compensate", "compensating by hand: one call, then all", flows.by_hand)
simple("children_sequential", "children, one after the other", flows.children_sequential, 3)
simple("children_gathered", "children at once, with keys", flows.children_gathered, 4)
simple("child_failed", "a child that fails", flows.child_failed)
simple("child_signalled", "signals to children, early and late", flows.child_signalled)
simple("child_compensated", "a child that is compensated", flows.child_compensated)
simple("chained_child", "a child that continues as new", flows.chained_child)


@scenario("a patch that came when the run had passed it; its code is adopted")
def patched_before(continuum: Continuum) -> str:
    old = Registry()
    old.register_activity(flows.echo)
    old.register_workflow(Workflow(flows.before_the_patch, name=flows.patched_flow.name, version=1))
    with Continuum(continuum.url, registry=old, **SETTINGS) as before, before.running():
        handle = before.start(flows.patched_flow.name)
        seen(before, handle.id, "signal_awaited")
    with continuum.running():
        continuum.handle(handle.id).signal("go")
        return ended(continuum, handle.id)


@scenario("a patch, asked by a run that began with it")
def patched(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.patched_flow)
        handle.signal("go")
        return ended(continuum, handle.id)


@contextmanager
def earlier(continuum: Continuum, flow: Any, function: Any) -> Iterator[Continuum]:
    """Run the engine with an earlier release of a workflow."""
    old = Registry()
    old.register_activity(flows.echo)
    old.register_workflow(Workflow(function, name=flow.name, version=1))
    with Continuum(continuum.url, registry=old, **SETTINGS) as before, before.running():
        yield before


@scenario("a patch in a loop: its first answer holds")
def patched_loop(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.patched_loop, ["tea", "milk", "sugar"])
        for count in (1, 2, 3):
            seen(continuum, handle.id, "signal_awaited", count)
            handle.signal("next")
        return ended(continuum, handle.id)


@scenario("a patch in a loop that a run was in the middle of: it is answered no to the end")
def patched_loop_before(continuum: Continuum) -> str:
    with earlier(continuum, flows.patched_loop, flows.loop_before_the_patch) as before:
        run_id = before.start(flows.patched_loop.name, ["tea", "milk", "sugar"]).id
        seen(before, run_id, "signal_awaited")
        before.handle(run_id).signal("next")
        seen(before, run_id, "signal_awaited", 2)
    with continuum.running():
        continuum.handle(run_id).signal("next")
        seen(continuum, run_id, "signal_awaited", 3)
        continuum.handle(run_id).signal("next")
        return ended(continuum, run_id)


@scenario("patches in tasks that run at once")
def patched_gather(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.patched_gather)
        seen(continuum, handle.id, "signal_awaited", 2)
        handle.signal("b")
        handle.signal("a")
        return ended(continuum, handle.id)


@scenario("patches in tasks of which one had passed them: no for what both ask, yes for what the other asks alone")
def patched_gather_before(continuum: Continuum) -> str:
    with earlier(continuum, flows.patched_gather, flows.gather_before_the_patch) as before:
        run_id = before.start(flows.patched_gather.name).id
        seen(before, run_id, "signal_awaited", 2)
        before.handle(run_id).signal("a")
        seen(before, run_id, "activity_completed", 3)
    with continuum.running():
        continuum.handle(run_id).signal("b")
        return ended(continuum, run_id)


@scenario("a run that two deploys adopt, the second with a patch still ahead of it")
def adopted(continuum: Continuum) -> str:
    with earlier(continuum, flows.adopted, flows.adopted_first) as before:
        run_id = before.start(flows.adopted.name).id
        seen(before, run_id, "signal_awaited")
    with earlier(continuum, flows.adopted, flows.adopted_second) as before:
        before.handle(run_id).signal("go")
        seen(before, run_id, "signal_awaited", 2)
    with continuum.running():
        continuum.handle(run_id).signal("go")
        return ended(continuum, run_id)


@contextmanager
def held(gate: str) -> Iterator[Callable[[], None]]:
    """Let activities wait at a gate, until it is opened, at the latest at the end."""
    flows.gates[gate].clear()
    try:
        yield flows.gates[gate].set
    finally:
        flows.gates[gate].set()


@scenario("a TaskGroup that fails while its other tasks wait")
def task_group(continuum: Continuum) -> str:
    with continuum.running(), held("task_group"):
        return ended(continuum, continuum.start(flows.task_group).id)


@scenario("timeouts, in time and late")
def timeout(continuum: Continuum) -> str:
    with continuum.running(), held("timeout"):
        return ended(continuum, continuum.start(flows.timeouts).id)


@scenario("signals: awaited, in time, timed out, early")
def signal(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.signals)
        seen(continuum, handle.id, "signal_awaited")
        handle.signal("early", "I was here first")
        handle.signal("go", 1)
        seen(continuum, handle.id, "timer_started")
        handle.signal("go", {"n": 2})
        return ended(continuum, handle.id)


@scenario("conditions over what signals have changed")
def wait_until(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.conditions)
        for word in ("one", "two"):
            handle.signal("word", word)
        return ended(continuum, handle.id)


@scenario("questions and their answers")
def asked(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.asked)
        assert [handle.ask(flows.price, item, timeout=WAIT) for item in ("tea", "milk")] == [3, 4]
        handle.signal("stop")
        return ended(continuum, handle.id)


@scenario("a saga undone since the run was cancelled")
def saga_cancelled(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.trip_until_cancelled)
        seen(continuum, handle.id, "signal_awaited")
        handle.cancel()
        return ended(continuum, handle.id)


@scenario("a saga undone while one of its calls is in flight")
def saga_in_flight(continuum: Continuum) -> str:
    with continuum.running(), held("saga_in_flight") as let_go:
        handle = continuum.start(flows.trip_in_flight)
        seen(continuum, handle.id, "activity_failed")
        let_go()
        return ended(continuum, handle.id)


def _stopped(continuum: Continuum, how: Callable[[Any], object]) -> tuple[str, str]:
    with continuum.running():
        handle = continuum.start(flows.child_stopped)
        seen(continuum, handle.id, "child_started")
        [child_id] = children_of(continuum, handle.id)
        seen(continuum, child_id, "signal_awaited")
        how(continuum.handle(child_id))
        return ended(continuum, handle.id), ended(continuum, child_id)


@scenario("a child that somebody cancels, and its parent", "child_cancelled", "cancelled")
def child_cancelled(continuum: Continuum) -> Recorded:
    parent, child = _stopped(continuum, lambda handle: handle.cancel())
    return {"child_cancelled": parent, "cancelled": child}


@scenario("a child that somebody terminates, and its parent", "child_terminated", "terminated")
def child_terminated(continuum: Continuum) -> Recorded:
    parent, child = _stopped(continuum, lambda handle: handle.terminate("by hand"))
    return {"child_terminated": parent, "terminated": child}


@scenario("children that their parent asks to cancel, or drops")
def child_request_cancel(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.child_request_cancel)
        seen(continuum, handle.id, "signal_awaited")
        for child_id in children_of(continuum, handle.id):
            seen(continuum, child_id, "signal_awaited")
        handle.signal("now")
        return ended(continuum, handle.id)


@scenario("a parent that is cancelled, and waits for the children that hear of it")
def parent_cancelled(continuum: Continuum) -> str:
    with continuum.running():
        handle = continuum.start(flows.parent_cancelled)
        seen(continuum, handle.id, "child_started", 3)
        for child_id in children_of(continuum, handle.id):
            seen(continuum, child_id, "signal_awaited")
        handle.cancel()
        return ended(continuum, handle.id)


@scenario("a parent that ends before its child, and the child that is terminated", "parent_closed", "closed_child")
def parent_closed(continuum: Continuum) -> Recorded:
    with continuum.running():
        handle = continuum.start(flows.parent_closed)
        seen(continuum, handle.id, "child_started")
        [child_id] = children_of(continuum, handle.id)
        seen(continuum, child_id, "signal_awaited")
        handle.signal("end")
        return {"parent_closed": ended(continuum, handle.id), "closed_child": ended(continuum, child_id)}


@scenario("a run that was cancelled before it began")
def cancelled_at_once(continuum: Continuum) -> str:
    handle = continuum.start(flows.patient)
    handle.cancel()
    with continuum.running():
        return ended(continuum, handle.id)


@scenario("a run that was terminated before it began, with mail that nobody reads")
def undeliverable(continuum: Continuum) -> str:
    handle = continuum.start(flows.patient)
    handle.signal("go", "too late")
    handle.terminate("by hand")
    with continuum.running():
        seen(continuum, handle.id, "message_undeliverable")
        return handle.id


@scenario("a chain of three runs, with signals that wait for the next one", "chain_first", "chain_middle", "chain_last")
def chain(continuum: Continuum) -> Recorded:
    with continuum.running():
        first = continuum.start(flows.chain, 2, [])
        seen(continuum, first.id, "signal_awaited")
        for item in ("a", "b", "c"):
            first.signal("item", item)
        seen(continuum, first.id, "signal_received", 3)
        first.signal("next")
        seen(continuum, first.id, "run_continued")
        middle = _successor(continuum, first.id)
        seen(continuum, middle, "signal_awaited")
        first.signal("next")
        seen(continuum, middle, "run_continued")
        last = _successor(continuum, middle)
        first.signal("next")
        return {"chain_first": first.id, "chain_middle": middle, "chain_last": ended(continuum, last)}


def _successor(continuum: Continuum, run_id: str) -> str:
    [end] = [event for event in continuum.history(run_id) if event.type == EventType.RUN_CONTINUED]
    return derive_run_id(end.at, run_id, "continued")


# ------------------------------------------------------------------ recording


def golden_of(continuum: Continuum, name: str, run_id: str) -> Golden:
    run = continuum.get(run_id)
    info = RunInfo(run.id, run.chain_id, run.namespace, run.workflow, run.version, run.parent_id)
    events: list[Event] = continuum.history(run_id)
    return Golden(name, SCENARIOS[name][0], version("continuum-workflows"), info, str(run.state.value), events)


def record(continuum: Continuum, missing: list[str]) -> None:
    plays = {play: name for name, (_, play) in SCENARIOS.items() if name in missing}
    for play, name in plays.items():
        runs = play(continuum)
        for file, run_id in (runs if isinstance(runs, dict) else {name: runs}).items():
            if file in missing:
                golden = golden_of(continuum, file, run_id)
                assert follow(golden, golden.events).events == []
                write(golden)
                print(f"{file}: {golden.state}, {len(golden.events)} events")  # noqa: T201 - a script


def main() -> None:
    missing = sorted(SCENARIOS.keys() - names())
    if not missing:
        sys.exit("Nothing is missing. The README says when a history may be recorded again: hardly ever.")
    with start_embedded(fast=True) as server:
        migrate_database(server.url)
        with Continuum(server.url, **SETTINGS) as continuum:
            record(continuum, missing)


if __name__ == "__main__":
    main()
