"""Changed code that asks something else of its children, others or itself drifts; what means the same does not."""

import asyncio
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.errors import ReplayDriftError
from continuum.model.runs import RunState
from continuum.replay.effects.attributes import publish, set_attributes
from continuum.replay.effects.continue_as_new import continue_as_new
from tests.replay.lab import Lab, act, kid, replay

often = settings(max_examples=60, deadline=None)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=5,
)


def variant(
    *,
    flow="ship",
    value=3,
    key="parcel",
    close="cancel",
    attributes=None,
    signal=("hurry", 1),
    searched=None,
    published=("step", "shipped"),
    withdraw=True,
    last=("one", "two"),
):
    async def changed():
        child = kid(flow, "o1", value, key=key, close=close, attributes=attributes)
        child.signal(*signal)
        set_attributes(searched or {"step": 1, "who": "Ada"})
        publish(*published)
        other = kid("slow")
        await child
        if withdraw:
            other.cancel()
        await asyncio.gather(*[kid(name) for name in last])

    return changed


@pytest.fixture
def history():
    lab = Lab(variant()).begin()
    lab.child_done(0, "shipped")
    lab.child_done(6, 2)
    lab.child_done(5, 1)
    assert lab.ended
    lab.replays()
    return lab.history


CHANGES = {
    "another workflow": (variant(flow="send"), 0, "ship", "send"),
    "another input": (variant(value=4), 0, '"input":["o1",3]', '"input":["o1",4]'),
    "another key": (variant(key="letter"), 0, "parcel", "letter"),
    "no key": (variant(key=None), 0, "parcel", "input"),
    "another signal": (variant(signal=("slow down", 1)), 1, "hurry", "slow down"),
    "a signal with another value": (variant(signal=("hurry", "1")), 1, '"value":1', '"value":"1"'),
    "other attributes": (variant(searched={"step": "1", "who": "Ada"}), 2, '"step":1', '"step":"1"'),
    "another published name": (variant(published=("stage", "shipped")), 3, "step", "stage"),
    "another published value": (variant(published=("step", "lost")), 3, "shipped", "lost"),
    "another order": (variant(last=("two", "one")), 5, "one", "two"),
    "one child less": (variant(last=("one",)), 6, "two", "not come so far"),
    "one child more": (variant(last=("one", "two", "three")), 7, "the end of the run", "three"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("inline", [True, False])
def test_code_that_asks_something_else_of_others_drifts_and_both_sides_are_told(history, change, inline):
    function, command, was, now_is = CHANGES[change]
    with pytest.raises(ReplayDriftError) as caught:
        replay(function, history, inline=inline)
    assert caught.value.command == command
    assert was in caught.value.recorded
    assert now_is in caught.value.requested


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(variant(), id="the same"),
        pytest.param(variant(close="abandon"), id="another policy"),
        pytest.param(variant(attributes='{"a":1}'), id="other attributes of a child"),
        pytest.param(variant(searched={"who": "Ada", "step": 1}), id="keys in another order"),
    ],
)
@pytest.mark.parametrize("inline", [True, False])
def test_what_is_not_compared_and_what_means_the_same_goes_on(history, function, inline):
    again = replay(function, history, inline=inline)
    assert (again.events, again.state, again.reaches_out) == ([], RunState.COMPLETED, False)


def starting(name, value):
    async def flow():
        await kid(name, value)

    return flow


@often
@given(st.text("ab", min_size=1, max_size=2), json_values, st.text("ab", min_size=1, max_size=2), json_values)
def test_a_recorded_child_replays_for_the_same_workflow_and_input_and_drifts_for_others(name, value, other, changed):
    lab = Lab(starting(name, value)).begin()
    try:
        assert replay(starting(name, value), lab.history).events == []
        if (other, canonical(changed)) != (name, canonical(value)):
            with pytest.raises(ReplayDriftError):
                replay(starting(other, changed), lab.history)
    finally:
        lab.close()


def continuing(value):
    async def flow():
        await act("a")
        continue_as_new(value)

    return flow


@often
@given(json_values, json_values)
def test_a_recorded_continuation_replays_for_the_same_input_and_drifts_for_another(value, changed):
    lab = Lab(continuing(value)).begin()
    lab.complete(0)
    again = replay(continuing(value), lab.history)
    assert (again.events, again.successor, again.state) == ([], None, RunState.CONTINUED)
    if canonical(changed) != canonical(value):
        with pytest.raises(ReplayDriftError):
            replay(continuing(changed), lab.history)


def canonical(value):
    """Return what two inputs must share to mean the same: JSON, whatever the order of keys."""
    return json.dumps(msgspec.to_builtins(value), sort_keys=True)
