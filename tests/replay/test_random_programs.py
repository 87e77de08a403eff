"""Random programs in random worlds: what was recorded is what is replayed, from everywhere, in every way."""

import random as chance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replay.lab import commands_of
from tests.replay.programs import again, continued, recorded

seeds = st.integers(0, 2**32)
often = settings(max_examples=150, deadline=None)


@often
@given(seeds)
def test_a_program_replays_as_it_was_recorded(seed):
    lab, trace = recorded(seed)
    last = lab.decisions[-1]
    for inline in (True, False):
        assert again(seed, lab.history, inline=inline) == (trace, [], (last.state, last.wake_at))


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_every_prefix_replays_to_the_decision_it_ended_with(seed):
    lab, trace = recorded(seed)
    for cut, decision in zip(lab.cuts(), lab.decisions, strict=True):
        replayed, fresh, standing = again(seed, lab.history[:cut], inline=True)
        assert fresh == []
        assert standing == (decision.state, decision.wake_at)
        assert replayed == trace[: len(replayed)]


@often
@given(seeds)
def test_a_replayed_run_goes_on_as_the_one_that_stayed_in_memory(seed):
    lab, trace = recorded(seed)
    dice = chance.Random(seed)
    for cut in dice.sample(lab.cuts(), min(3, len(lab.cuts()))):
        for inline in (True, False):
            assert continued(seed, lab.history, cut, inline=inline) == (trace, lab.commands)


@often
@given(seeds)
def test_it_does_not_matter_where_the_turns_were_cut(seed):
    """One decision over the whole history, and one after each completion, hold the same events."""
    lab, trace = recorded(seed)
    assert continued(seed, lab.history, 1, inline=True) == (trace, lab.commands)
    assert commands_of(lab.history) == lab.commands


@pytest.mark.parametrize("seed", [11, 328, 377, 408, 419, 483, 542])
def test_programs_that_once_told_the_conditions_of_the_inline_rule_apart(seed):
    lab, trace = recorded(seed)
    for inline in (True, False):
        assert again(seed, lab.history, inline=inline)[0] == trace
