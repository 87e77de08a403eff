"""Negative controls: with any condition of the inline rule taken away, random programs replay differently.

The rule is written out here once more, with a switch for each condition. That the copy with all of them changes nothing
shows that what is switched off is what makes the difference.
"""

import asyncio
import sys

import pytest

from continuum.errors import ContinuumError, ReplayDriftError
from continuum.model.events import EventType
from continuum.replay.effects.activity import ActivityFuture
from continuum.replay.primitives import Task
from tests.replay.lab import Lab, act, replay
from tests.replay.programs import again, live


def weaken(monkeypatch, without):
    def __await__(self):  # noqa: N807 - it replaces the method
        loop = self._loop
        ledger = loop.ledger
        if ledger.cursor < ledger.inline_due and not self.done():
            event = ledger.completions[ledger.cursor]
            task = asyncio.current_task(loop)
            held = {
                "ready": not loop._ready,
                "conditions": not loop._conditions,
                "callbacks": not self._callbacks,
                "cancel pending": type(task) is Task and not task._must_cancel,
                "eager": not loop.depth,
            }
            held.pop(without, None)
            if event.command == self.command and all(held.values()):
                ledger.cursor += 1
                loop.settle(event)
        return asyncio.Future.__await__(self)

    monkeypatch.setattr(ActivityFuture, "__await__", __await__)


def differs(seed, lab, trace):
    try:
        replayed, fresh, standing = again(seed, lab.history, inline=True)
    except ContinuumError:
        return True
    return bool(fresh) or replayed != trace or standing != (lab.decisions[-1].state, lab.decisions[-1].wake_at)


@pytest.fixture(scope="module")
def recorded():
    runs = []
    for seed in range(600):
        lab, trace = live(seed)
        runs.append((seed, lab, list(trace)))
        lab.close()
    return runs


def test_the_copy_of_the_rule_changes_nothing(monkeypatch, recorded):
    weaken(monkeypatch, without=None)
    assert [seed for seed, lab, trace in recorded if differs(seed, lab, trace)] == []


@pytest.mark.parametrize("without", ["ready", "conditions", "callbacks"])
def test_without_a_condition_programs_replay_differently(monkeypatch, recorded, without):
    weaken(monkeypatch, without)
    assert any(differs(seed, lab, trace) for seed, lab, trace in recorded)


def test_without_the_condition_on_cancellation_changed_code_replays_differently(monkeypatch):
    # No history of unchanged code shows it: a pending cancellation withdraws the activity, so it never completes.
    async def recorded():
        await act("a")
        await act("b")

    async def changed():
        asyncio.current_task().cancel()
        try:
            await act("a")
        except asyncio.CancelledError:
            return "cancelled"
        await asyncio.Event().wait()
        return None

    lab = Lab(recorded).begin()
    lab.complete(0)
    history = lab.history[:-1]
    lab.close()
    for inline in (True, False):
        with pytest.raises(ReplayDriftError):
            replay(changed, history, inline=inline)
    weaken(monkeypatch, "cancel pending")
    # The future is taken from the history, and the cancellation strikes later.
    assert replay(changed, history, inline=True).events[-1].type == EventType.RUN_FAILED


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_without_the_condition_on_eager_tasks_their_first_step_runs_ahead(monkeypatch):
    async def flow():
        out = []

        async def child():
            out.append(await act("a"))

        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(child())
        out.append("parent")
        await task
        return out

    lab = Lab(flow).run(7)
    assert lab.result == ["parent", 7]
    lab.replays()
    weaken(monkeypatch, "eager")
    with pytest.raises(ContinuumError):
        lab.replays()
