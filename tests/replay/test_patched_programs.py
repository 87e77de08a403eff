"""patched() wherever code may stand: in loops, side by side, in helpers. The first answer is the run's, for ever.

Random programs have places with a patch. The *old* code knows none of them, the *new* code asks at each; which places
share an id is chance. A run is recorded under the old code up to some moment, then the new code is deployed, and it
goes on: evicted after every turn, crashed, replayed from its history alone.
"""

import asyncio
import random as chance
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.model.decisions import Decision
from continuum.model.events import Event, EventType
from continuum.replay.effects.continue_as_new import continue_as_new
from continuum.replay.effects.patch import patched
from continuum.replay.effects.signal import wait_signal
from continuum.replay.effects.values import side_effect
from tests.replay.lab import Lab, act, kid, loaded

seeds = st.integers(0, 2**32)
often = settings(max_examples=120, deadline=None)
DEEPEST = 2
IDS = ["one", "two", "three"]

Answers = list[tuple[str, bool]]


def program(seed: int, answers: Answers, *, new: bool) -> Callable[..., Any]:
    """Return a workflow. With ``new`` it asks for patches, and does something else where the answer is yes."""

    async def place(patch: str, name: str) -> None:
        if new:
            answer = patched(patch)
            answers.append((patch, answer))
            if answer:
                await act(f"new {name}")
                return
        await act(f"old {name}")

    async def block(dice: chance.Random, depth: int, name: str) -> None:
        for number in range(dice.randint(2, 4)):
            tag = f"{name}.{number}"
            what = dice.randint(0, 8 if depth < DEEPEST else 4)
            patch = dice.choice(IDS)
            if what == 0:
                await act(tag)
            elif what == 1:
                side_effect(int)
            elif what == 2:
                await asyncio.sleep(1)
            elif what in {3, 4}:
                await place(patch, tag)
            elif what == 5:
                for turn in range(dice.randint(2, 3)):
                    await place(patch, f"{tag}#{turn}")
            elif what == 6:
                # Each its own dice: who comes first must not decide what the others do.
                own = [chance.Random(dice.random()) for _ in range(dice.randint(2, 3))]
                await asyncio.gather(*(block(one, depth + 1, f"{tag}/{index}") for index, one in enumerate(own)))
            elif what == 7:
                async with asyncio.TaskGroup() as group:
                    for index in range(2):
                        group.create_task(place(patch, f"{tag}|{index}"))
            else:
                await block(dice, depth + 1, f"{tag}>")

    async def flow() -> str:
        await block(chance.Random(seed), 0, "")
        return "done"

    return flow


def step(lab: Lab, dice: chance.Random) -> None:
    """Deliver one completion, any that may come."""
    if lab.execution.open_activities and (dice.random() < 0.8 or lab.execution.earliest_timer is None):
        lab.complete(dice.choice(sorted(lab.execution.open_activities)))
    else:
        lab.fire()


def recorded(seed: int, steps: int, *, new: bool) -> tuple[list[Event], bool]:
    """Run a program for some steps; return its history, and whether it has ended."""
    dice = chance.Random(seed + 1)
    lab = Lab(program(seed, [], new=new)).begin()
    while not lab.ended and steps:
        step(lab, dice)
        steps -= 1
    lab.close()
    return lab.history, lab.ended


def ends(seed: int, history: list[Event], *, evict: bool) -> tuple[list[Event], Answers]:
    """Go on with the new code to the end; with ``evict`` every turn begins with a replay."""
    dice = chance.Random(seed + 2)
    answers: Answers = []
    lab = Lab(program(seed, answers, new=True), history=history)
    lab.decide()
    for _ in range(500):
        if lab.ended:
            return lab.history, answers
        if evict:
            lab.close()
            answers.clear()
            lab = Lab(program(seed, answers, new=True), history=lab.history)
            assert lab.execution.decide().events == []
        step(lab, dice)
    raise AssertionError("the run does not end")


def consistent(answers: Answers) -> bool:
    return len(set(answers)) == len({patch for patch, _ in answers})


@often
@given(seeds)
def test_a_new_run_takes_the_new_code_at_every_place(seed: int) -> None:
    history, _ = recorded(seed, 0, new=True)
    history, answers = ends(seed, history, evict=False)
    assert all(answer for _, answer in answers)
    assert not [event for event in history if (event.name or "").startswith("old ")]
    markers = [event.name for event in history if event.type == EventType.PATCH_MARKED]
    assert len(markers) == len(set(markers)) == len({patch for patch, _ in answers})


@often
@given(seeds, st.integers(0, 12))
def test_an_old_run_keeps_what_it_has_passed_and_never_changes_its_mind(seed: int, steps: int) -> None:
    history, ended = recorded(seed, steps, new=False)
    answers: Answers = []
    if ended:
        lab = Lab(program(seed, answers, new=True), history=history)
        assert lab.execution.decide().events == []
        assert not any(answer for _, answer in answers)
        return
    finished, answers = ends(seed, history, evict=False)
    assert consistent(answers)
    assert [event.seq for event in finished[: len(history)]] == [event.seq for event in history]
    # What it did before the deploy it did by the old code, and nothing was done twice.
    names = [event.name for event in finished if event.type == EventType.ACTIVITY_SCHEDULED]
    assert len(names) == len(set(names))
    assert len({name.removeprefix("old ").removeprefix("new ") for name in names if name}) == len(names)


@often
@given(seeds, st.integers(0, 8))
def test_eviction_and_crashes_change_no_answer(seed: int, steps: int) -> None:
    """Every turn begins with a replay of the history alone: what the code answered lives nowhere else."""
    history, ended = recorded(seed, steps, new=False)
    if not ended:
        assert ends(seed, history, evict=True) == ends(seed, history, evict=False)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 8))
def test_every_prefix_replays_to_the_same_answers(seed: int, steps: int) -> None:
    history, ended = recorded(seed, steps, new=False)
    if ended:
        return
    finished, answers = ends(seed, history, evict=False)
    known = dict(answers)
    for inline in (True, False):
        for cut in range(len(history), len(finished) + 1):
            again: Answers = []
            lab = Lab(program(seed, again, new=True), history=loaded(finished[:cut]), inline=inline)
            assert all(known[patch] == answer for patch, answer in again)
            lab.close()


# -- what the first answer outlives


def waits_then(*before: str) -> Callable[..., Any]:
    async def old() -> None:
        for name in before:
            await act(name)
        await wait_signal("go")
        await act("old end")

    return old


async def asks_twice() -> list[bool]:
    first = patched("p")
    await act("step")
    await wait_signal("go")
    second = patched("p")
    await act("new end" if second else "old end")
    return [first, second]


def adopted() -> Lab:
    """Return a run that was recorded without the patch, past its place, and was taken over by the code that has it."""
    lab = Lab(waits_then("step")).begin()
    lab.complete(0)
    lab.close()
    lab = Lab(asks_twice, history=lab.history)
    lab.execution.note(EventType.VERSION_ADOPTED, name="hash of the new code")
    lab.decide()
    return lab


def test_no_outlives_the_adoption_and_every_restart_after_it() -> None:
    lab = adopted()
    for _ in range(3):
        lab.close()
        lab = Lab(asks_twice, history=lab.history)
    lab.signal("go")
    lab.close()
    lab = Lab(asks_twice, history=lab.history)
    assert lab.history[-1].name == "old end"
    lab.complete(min(lab.execution.open_activities))
    assert lab.result == [False, False]


def test_a_yes_that_was_never_committed_may_become_a_no() -> None:
    """A dispatcher with the new code dies before its commit; one with the old code goes on meanwhile."""

    async def old() -> None:
        await asyncio.Event().wait()

    async def new() -> None:
        if patched("p"):
            await act("new")
        await asyncio.Event().wait()

    lab = Lab(old).begin()
    crashed = Lab(new, history=lab.history)
    assert [event.type for event in crashed.execution.decide().events] == ["patch_marked", "activity_scheduled"]
    crashed.close()
    lab.signal("anything")
    lab.close()
    late = Lab(new, history=lab.history)
    assert late.execution.decide().events == []
    late.close()


def test_a_yes_that_was_committed_stays_where_the_code_moves_the_question() -> None:
    async def moved() -> list[bool]:
        await act("step")
        await wait_signal("go")
        second = patched("p")
        await act("new end" if second else "old end")
        return [second]

    lab = Lab(asks_twice).begin()
    lab.complete(1)
    lab.close()
    lab = Lab(moved, history=lab.history)
    lab.signal("go")
    assert [order.activity for order in lab.decisions[-1].orders] == ["new end"]
    lab.close()


@pytest.mark.parametrize("passed", [False, True])
def test_a_run_that_continues_another_answers_for_itself(passed: bool) -> None:
    """The run that had passed the place keeps its no to its end; its successor has passed nothing."""

    async def old() -> None:
        await act("step")
        await wait_signal("go")
        continue_as_new()

    async def new() -> None:
        answer = patched("p")
        await act("new step" if answer else "step")
        await wait_signal("go")
        continue_as_new()

    lab = Lab(old if passed else new).begin()
    lab.complete(0 if passed else 1)
    lab.close()
    lab = Lab(new, history=lab.history)
    decision = lab.signal("go")
    assert isinstance(decision, Decision)
    assert decision.successor is not None
    started = Event(1, EventType.RUN_STARTED, None, "lab", decision.successor.started, lab.clock)
    successor = Lab(new, history=[started]).begin()
    assert successor.history[2].type == EventType.PATCH_MARKED
    assert successor.history[3].name == "new step"
    successor.close()


def test_a_child_answers_for_itself() -> None:
    async def parent() -> list[bool]:
        first = patched("p")
        await kid("child")
        return [first]

    async def before() -> None:
        await kid("child")

    lab = Lab(before).begin()
    lab.close()
    lab = Lab(parent, history=lab.history)
    lab.child_done(0)
    assert lab.result == [False]
    child = Lab(asks_twice).begin()
    assert child.history[2].type == EventType.PATCH_MARKED
    child.close()
