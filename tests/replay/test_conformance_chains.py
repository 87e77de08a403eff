"""Chains of steps, long and mixed: RPROP-01 to RPROP-04, MEM-03 of the original."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.replay.effects.patch import patched
from continuum.replay.effects.values import side_effect
from tests.replay.lab import Lab, act

STEPS = 1_000


def test_a_chain_of_a_thousand_steps_replays_from_its_beginning_its_middle_and_its_end():
    called = []

    def produce(number):
        called.append(number)
        return number

    async def flow():
        total = 0
        for number in range(STEPS):
            total += side_effect(produce, number)
            if number % 100 == 99:
                total += await act("add", number)
        return total

    lab = Lab(flow).run(1)
    assert lab.result == sum(range(STEPS)) + 10
    assert lab.types.count("value_recorded") == STEPS
    assert called == list(range(STEPS))
    cuts = lab.cuts()
    for cut in (cuts[0], cuts[len(cuts) // 2], cuts[-1]):
        # Only what the history does not hold yet is produced again.
        called.clear()
        again = Lab(flow, history=lab.history[:cut])
        assert called == []
        if cut == cuts[-1]:
            again.close()
            continue
        again.run(1)
        assert again.result == lab.result
        assert called == list(range(STEPS - len(called), STEPS))
        assert again.commands == lab.commands


def one():
    return 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["side effect", "activity", "patch", "old patch"]), max_size=20))
def test_mixed_chains_replay_from_every_turn(steps):
    """The history has one command for each step but the repeated patches, of the kinds that were asked for."""

    async def flow():
        seen = []
        for number, step in enumerate(steps):
            match step:
                case "side effect":
                    seen.append(side_effect(one))
                case "activity":
                    seen.append(await act("a", number))
                case "patch":
                    seen.append(patched(f"patch {number}"))
                case _:
                    seen.append(patched("always the same"))
        return seen

    lab = Lab(flow).run("done")
    kinds = {"side effect": "value_recorded", "activity": "activity_scheduled", "patch": "patch_marked"}
    expected = [kinds[step] for step in steps if step in kinds]
    if "old patch" in steps:
        place = steps.index("old patch")
        expected.insert(sum(step in kinds for step in steps[:place]), "patch_marked")
    assert [kind for kind, _, _ in lab.commands] == expected
    assert len(lab.result) == len(steps)
    lab.replays()


@pytest.mark.parametrize("catch", [Exception, BaseException])
def test_waiting_is_nothing_that_workflow_code_could_catch(catch):
    """LEAK-01, LEAK-02: a wait suspends the coroutine; no signal of ours passes through its handlers."""
    caught = []

    async def flow():
        try:
            value = await act("a")
        except catch as error:
            caught.append(error)
            value = side_effect(one)
        try:
            await asyncio.sleep(60)
        except catch as error:
            caught.append(error)
        return value

    lab = Lab(flow).run("waited for")
    assert caught == []
    assert lab.result == "waited for"
    assert lab.commands[1][0] == "timer_started"
    lab.replays()
