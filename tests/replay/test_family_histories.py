"""Histories of families: whose child it is, how it ended, what may be changed about it."""

import asyncio
import json

import msgspec
import pytest

from continuum.errors import ReplayDriftError
from continuum.model.events import EventType
from continuum.replay.effects.attributes import publish, set_attributes
from tests.replay.lab import Lab, act, kid, replay


def flow_of(*, child=("ship", "o1"), key="k", close="cancel", attributes=None, signal=("go", 1), to=0, then=True):
    async def flow():
        await act("first")
        children = [kid(*child, key=key, close=close, attributes=attributes), kid("other")]
        children[to].signal(*signal)
        set_attributes({"a": 1})
        publish("p", 2)
        if then:
            await asyncio.gather(*children)

    return flow


@pytest.fixture(scope="module")
def histories():
    """Waiting, halfway and ended."""
    lab = Lab(flow_of()).begin()
    lab.complete(0)
    waiting = list(lab.history)
    lab.child_done(2)
    halfway = list(lab.history)
    lab.child_done(1)
    lab.replays()
    return waiting, halfway, lab.history


@pytest.mark.parametrize("options", [{"close": "abandon"}, {"close": "terminate"}, {"attributes": '{"b":1}'}])
def test_what_becomes_of_a_child_may_be_changed_for_those_to_come(histories, options):
    for history in histories:
        decision = replay(flow_of(**options), history)
        assert decision.events == []
        assert not decision.reaches_out


@pytest.mark.parametrize("kind", [EventType.CHILD_COMPLETED, EventType.CHILD_FAILED, EventType.CHILD_CANCELLED])
def test_the_end_of_a_child_that_was_never_started_is_drift(histories, kind):
    waiting, _, _ = histories
    for command, words in ((7, "not come so far"), (4, None)):
        stray = msgspec.structs.replace(waiting[-1], seq=len(waiting) + 1, type=kind, command=command, payload=None)
        if words is None:
            # Of a command that awaits nothing: as of a child whose handle was cancelled.
            assert replay(flow_of(), [*waiting, stray]).events == []
            continue
        with pytest.raises(ReplayDriftError, match=words):
            replay(flow_of(), [*waiting, stray])


def test_a_child_in_place_of_an_activity_is_drift_at_its_command():
    async def before():
        await act("x", 1)

    async def after():
        await kid("x", 1)

    for one, other in ((before, after), (after, before)):
        lab = Lab(one).begin()
        with pytest.raises(ReplayDriftError) as caught:
            replay(other, lab.history)
        assert {caught.value.recorded.split()[0], caught.value.requested.split()[0]} == {"activity", "child"}
        lab.close()


def test_a_history_whose_child_has_another_id_is_not_this_runs():
    """A history copied to another run, or stamped otherwise, names children that are not its own."""
    lab = Lab(flow_of()).begin()
    lab.complete(0)
    index, event = next((i, e) for i, e in enumerate(lab.history) if e.type == EventType.CHILD_STARTED)
    payload = json.loads(event.payload) | {"id": "018f0000-0000-7000-8000-000000000099"}
    broken = msgspec.structs.replace(event, payload=json.dumps(payload))
    history = [*lab.history[:index], broken, *lab.history[index + 1 :]]
    with pytest.raises(ReplayDriftError, match="000000000099"):
        replay(flow_of(), history)
    lab.close()


def test_adoption_is_a_note_between_children():
    lab = Lab(flow_of()).begin()
    lab.complete(0)
    lab.execution.note(EventType.VERSION_ADOPTED, name="hash")
    lab.child_done(2)
    assert "version_adopted" in lab.types
    lab.replays()
    resumed = Lab(flow_of(), history=lab.history)
    resumed.child_done(1)
    assert resumed.ended
    resumed.replays()
    lab.close()


def test_code_that_no_longer_waits_for_a_child_that_ended_is_told_so(histories):
    _, halfway, _ = histories
    with pytest.raises(ReplayDriftError):
        replay(flow_of(then=False), halfway)
