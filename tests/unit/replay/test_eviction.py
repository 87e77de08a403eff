"""A run taken out of memory leaves nothing that could run: on this thread, without a trace in its history."""

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import weakref
from asyncio import events as running
from pathlib import Path

import pytest

from continuum.errors import ReplayDriftError
from continuum.model.events import EventType
from continuum.replay.effects.log import log
from continuum.replay.effects.patch import patched
from continuum.replay.effects.signal import wait_signal, wait_until
from continuum.replay.effects.timer import sleep
from continuum.replay.effects.values import now, random, side_effect, today, uuid4
from continuum.replay.eviction import count_immortals
from continuum.replay.ledger import RunEvicted
from tests.replay.lab import Lab, act


def forever():
    return asyncio.get_running_loop().create_future()


def evicted(flow):
    """Run a flow until it waits, evict it, and assert that its history did not change."""
    lab = Lab(flow).begin()
    before = lab.execution.last_seq
    lab.close()
    decision = lab.execution.decide()
    assert (decision.events, decision.orders, decision.cancelled, decision.logs) == ([], [], [], [])
    assert lab.execution.last_seq == before
    return lab


def test_finally_blocks_run_here_and_now():
    seen = []

    async def flow():
        try:
            await act("a")
        finally:
            seen.append((threading.current_thread(), running._get_running_loop() is not None))

    evicted(flow)
    assert seen == [(threading.current_thread(), True)]
    assert running._get_running_loop() is None


def test_nothing_runs_when_another_thread_collects_what_is_left():
    seen = []

    async def agen():
        try:
            yield 1
            yield 2
        finally:
            seen.append("generator")

    async def flow():
        async def other():
            try:
                await forever()
            finally:
                seen.append("other")

        task = asyncio.create_task(other())
        async for _ in agen():
            try:
                await act("a")
            finally:
                seen.append("main")
        await task

    lab = Lab(flow).begin()
    lab.close()
    assert sorted(seen) == ["generator", "main", "other"]
    seen.clear()
    cycle = [lab]
    cycle.append(cycle)
    gone = weakref.ref(lab)
    del lab, cycle
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()
    assert gone() is None
    assert seen == []


@pytest.mark.parametrize(
    "effect",
    [
        lambda: act("undo"),
        lambda: side_effect(int),
        lambda: patched("x"),
        uuid4,
        random,
        lambda: asyncio.get_running_loop().call_later(1, print),
        lambda: asyncio.get_running_loop().call_at(1, print),
    ],
    ids=["activity", "side_effect", "patched", "uuid4", "random", "call_later", "call_at"],
)
def test_effects_are_refused_while_the_run_is_evicted(effect):
    seen = []

    async def flow():
        try:
            await forever()
        finally:
            try:
                effect()
            except Exception:
                seen.append("caught as an ordinary exception")
            except RunEvicted:
                seen.append("refused")
                raise

    evicted(flow)
    assert seen == ["refused"]


@pytest.mark.parametrize(
    "wait",
    [
        lambda: asyncio.sleep(1),
        lambda: sleep(1),
        lambda: act("undo"),
        lambda: wait_signal("x"),
        lambda: wait_until(lambda: False),
        lambda: asyncio.wait_for(asyncio.sleep(5), 1),
        lambda: asyncio.gather(*[asyncio.sleep(1)], forever()),
        forever,
        lambda: asyncio.Event().wait(),
        lambda: asyncio.shield(asyncio.ensure_future(asyncio.sleep(1))),
    ],
    ids=["asyncio.sleep", "sleep", "activity", "signal", "until", "wait_for", "gather", "future", "event", "shield"],
)
def test_cleanup_that_waits_is_ended(wait):
    seen = []

    async def flow():
        try:
            await forever()
        finally:
            seen.append("cleanup")
            await wait()
            seen.append("waited")

    evicted(flow)
    assert seen == ["cleanup"]


def test_reading_the_time_is_no_effect_and_lines_are_not_logged():
    seen = []

    async def flow():
        try:
            await forever()
        finally:
            log.info("bye")
            seen.append((now(), today()))

    lab = evicted(flow)
    assert len(seen) == 1
    assert lab.logs == []


@pytest.mark.parametrize("catch", [asyncio.CancelledError, Exception])
def test_loops_that_swallow_cancellation_are_ended(catch):
    async def flow():
        while True:
            with contextlib.suppress(catch, asyncio.CancelledError):
                await forever()

    known = count_immortals()
    lab = evicted(flow)
    assert lab.execution._loop.tasks == {}
    assert count_immortals() == known


def test_loops_that_swallow_everything_do_not_hang_us_and_are_kept():
    """A reference keeps the collector, and so another thread, from running them."""
    known = count_immortals()
    stubborn = True

    async def sleeps():
        while stubborn:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(1)

    async def acts():
        while stubborn:
            with contextlib.suppress(BaseException):
                await act("a")

    evicted(sleeps)
    evicted(acts)
    assert count_immortals() == known + 2
    stubborn = False  # for the end of this process


def test_cleanup_in_nested_tasks_runs_newest_first():
    order = []

    async def worker(name):
        try:
            await forever()
        finally:
            order.append(name)

    async def flow():
        tasks = [asyncio.create_task(worker(i)) for i in range(3)]
        try:
            await asyncio.gather(*tasks)
        finally:
            order.append("main")

    evicted(flow)
    assert order == [2, 1, 0, "main"]


def test_tasks_begun_during_cleanup_are_ended_too():
    seen = []

    async def late():
        try:
            await forever()
        finally:
            seen.append("late")

    async def flow():
        try:
            await forever()
        finally:
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
            await task

    evicted(flow)
    assert seen == ["late"]


def test_tasks_that_never_took_a_step_are_ended_without_a_warning():
    async def child():
        raise AssertionError

    async def flow():
        try:
            await forever()
        finally:
            asyncio.get_running_loop().create_task(child()).cancel()

    evicted(flow)


def test_open_async_generators_are_closed_here():
    seen = []

    async def agen(name):
        try:
            while True:
                yield 1
        finally:
            seen.append(name)
            await forever()
            seen.append("never")

    async def flow():
        kept = agen("held by the frame")
        await anext(kept)
        held.append(agen("held by others"))
        await anext(held[0])
        await forever()

    held = []
    evicted(flow)
    assert sorted(seen) == ["held by others", "held by the frame"]
    with pytest.raises(StopAsyncIteration):
        held[0].asend(None).send(None)


def test_eviction_is_idempotent_and_possible_at_any_time():
    async def flow():
        await forever()

    fresh = Lab(flow)
    for _ in range(2):
        fresh.close()
    lab = Lab(flow).begin()
    for _ in range(3):
        lab.close()
    with pytest.raises(RuntimeError):
        lab.signal("x")


def test_a_decision_not_taken_yet_survives_the_eviction():
    async def flow():
        act("a")
        await forever()

    lab = Lab(flow)
    lab.begin(decide=False)
    lab.close()
    decision = lab.execution.decide()
    assert [str(e.type) for e in decision.events] == ["run_began", "activity_scheduled"]
    assert [order.activity for order in decision.orders] == ["a"]


def test_an_ended_run_has_left_memory_by_itself():
    seen = []

    async def background():
        try:
            await act("b")
        finally:
            seen.append("ended")
            await act("cleanup")

    async def flow():
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        return task.done()

    lab = Lab(flow).begin()
    assert lab.result is False
    assert seen == ["ended"]
    assert lab.types == ["run_began", "activity_scheduled", "run_completed"]
    assert lab.execution._loop.tasks == {}


def test_a_run_that_drifted_can_be_evicted():
    seen = []

    async def before():
        act("a")
        await forever()

    async def after():
        try:
            act("b")
        finally:
            try:
                await forever()
            finally:
                seen.append("ended")

    lab = Lab(before).begin()
    with pytest.raises(ReplayDriftError):
        Lab(after, history=lab.history)
    assert seen == ["ended"]
    lab.close()


def test_eviction_inside_a_host_loop_gives_the_host_back():
    async def flow():
        try:
            await forever()
        finally:
            await asyncio.sleep(1)

    async def host():
        me = asyncio.current_task()
        lab = Lab(flow).begin()
        lab.close()
        await asyncio.sleep(0)
        return asyncio.current_task() is me

    assert asyncio.run(host())


def test_errors_during_eviction_are_nobodys():
    async def worker():
        try:
            await forever()
        finally:
            raise ValueError("in cleanup")

    async def flow():
        tasks = [asyncio.create_task(worker()) for _ in range(2)]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            raise KeyError("in main") from None

    lab = evicted(flow)
    gc.collect()
    assert lab.types == ["run_began"]
    assert EventType.RUN_FAILED not in lab.types


def test_the_workflow_cannot_evict_itself():
    async def flow():
        try:
            labs[0].execution.evict()
        except RuntimeError as error:
            return str(error)

    labs = [Lab(flow)]
    labs[0].begin()
    assert "by its own code" in labs[0].result


def test_a_process_with_a_coroutine_that_cannot_be_ended_can_end():
    """At its end Python throws into every coroutine it finds; `asyncio.sleep` is gone by then."""
    script = """
import asyncio
from continuum.replay.eviction import count_immortals
from tests.replay.lab import Lab

async def flow():
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException:
            pass

Lab(flow).begin().close()
print(count_immortals())
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("1", "")
