"""What happens when history and code disagree: a fault that names both sides and cannot be caught."""

import asyncio
import contextlib
import re

import pytest

from continuum.errors import CodecError, ReplayDriftError, SpinError
from continuum.model.events import Event, EventType
from continuum.replay.effects.patch import patched
from continuum.replay.effects.signal import wait_signal
from continuum.replay.effects.values import now, side_effect
from continuum.replay.execution import Execution
from continuum.replay.replayer import replay_history
from tests.replay.lab import RUN, Lab, act, entry_of, loaded, replay, started


def config():
    return 5


async def recorded():
    value = side_effect(config)
    one = await act("charge", "o1", 10)
    await asyncio.sleep(60)
    two = await wait_signal("review")
    three = await asyncio.gather(act("ship"), act("notify"))
    return [value, one, two, three]


@pytest.fixture
def history():
    lab = Lab(recorded).begin()
    lab.complete(1, "paid")
    lab.fire()
    lab.signal("review", "ok")
    lab.complete(5, "notified")
    lab.complete(4, "shipped")
    assert lab.result == [5, "paid", "ok", ["shipped", "notified"]]
    lab.replays()
    return lab.history


def variant(*, charge=("charge", "o1", 10), side=config, delay=60, signal="review", last=("ship", "notify"), end=None):
    async def changed():
        value = side_effect(side)
        one = await act(*charge)
        await asyncio.sleep(delay)
        two = await wait_signal(signal)
        three = await asyncio.gather(*[act(name) for name in last])
        return end or [value, one, two, three]

    return changed


def other():
    return 5


CHANGES = {
    "another activity": (variant(charge=("refund", "o1", 10)), 1, "charge", "refund"),
    "other arguments": (variant(charge=("charge", "o1", 11)), 1, '["o1",10]', '["o1",11]'),
    "arguments in another order": (variant(charge=("charge", 10, "o1")), 1, '["o1",10]', '[10,"o1"]'),
    "another side effect": (variant(side=other), 0, "config", "other"),
    "another delay": (variant(delay=61), 2, "60000000", "61000000"),
    "another signal": (variant(signal="approval"), 3, "'review'", "'approval'"),
    "another order": (variant(last=("notify", "ship")), 4, "ship", "notify"),
    "one less": (variant(last=("ship",)), 5, "notify", "not come so far"),
    "one more": (variant(last=("ship", "notify", "thank")), 6, "the end of the run", "thank"),
    "another result": (variant(end="other"), 6, "shipped", '"other"'),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("inline", [True, False])
def test_changed_code_drifts_and_both_sides_are_told(history, change, inline):
    function, command, was, now_is = CHANGES[change]
    with pytest.raises(ReplayDriftError) as caught:
        replay(function, history, inline=inline)
    error = caught.value
    assert error.command == command
    assert was in error.recorded
    assert now_is in error.requested
    assert "patched()" in str(error)


def test_the_message_names_the_line_of_the_record_and_the_line_of_the_code(history):
    with pytest.raises(ReplayDriftError) as caught:
        replay(CHANGES["another delay"][0], history)
    assert re.search(r"recorded at tests/replay/test_drift\.py:\d+", str(caught.value))
    assert re.fullmatch(r"tests/replay/test_drift\.py:\d+", caught.value.location)
    assert caught.value.location in str(caught.value)


def test_a_missing_command_drifts():
    async def without():
        await asyncio.sleep(60)

    lab = Lab(recorded).begin()
    with pytest.raises(ReplayDriftError) as caught:
        replay(without, lab.history)
    assert caught.value.command == 0
    lab.close()


def test_code_that_stops_asking_at_the_tip_drifts():
    async def before():
        await act("a")
        await asyncio.gather(act("b"), act("c"))

    async def after():
        await act("a")
        await act("b")

    lab = Lab(before).begin()
    lab.complete(0)
    with pytest.raises(ReplayDriftError, match="no longer asks") as caught:
        replay(after, lab.history)
    assert caught.value.command == 2
    lab.close()


def test_code_that_asks_for_more_at_the_tip_goes_on_with_it():
    async def before():
        await act("a")

    async def after():
        await asyncio.gather(act("a"), act("b"))

    lab = Lab(before).begin()
    decision = replay(after, lab.history)
    assert [order.activity for order in decision.orders] == ["b"]
    assert [e.command for e in decision.events] == [1]
    lab.close()


def test_code_that_asks_for_more_before_the_tip_drifts():
    """The history went on from there without it: the recorded code had asked for nothing."""

    async def before():
        await wait_signal("a")
        await wait_signal("b")

    async def after():
        await wait_signal("a")
        await wait_signal("b")
        if now().timestamp() < 0:
            return
        act("more")
        await asyncio.Event().wait()

    lab = Lab(before).begin()
    lab.signal("a")
    lab.signal("c")
    assert replay(after, lab.history).events == []
    lab.close()

    async def at_once():
        act("more")
        await asyncio.Event().wait()

    async def nothing():
        await asyncio.Event().wait()

    lab = Lab(nothing).begin()
    lab.signal("a")
    with pytest.raises(ReplayDriftError, match="no further command, but signal_received"):
        replay(at_once, lab.history)
    lab.close()


def test_code_that_ends_before_its_history_drifts():
    async def before():
        await act("a")
        await asyncio.Event().wait()

    async def after():
        await act("a")

    lab = Lab(before).begin()
    lab.complete(0)
    assert [str(e.type) for e in replay(after, lab.history).events] == ["run_completed"]
    lab.signal("x")
    with pytest.raises(ReplayDriftError, match="the end of the run"):
        replay(after, lab.history)
    lab.close()


def test_a_history_that_has_ended_drifts_if_the_code_goes_on(history):
    async def longer():
        result = await recorded()
        await asyncio.Event().wait()
        return result

    with pytest.raises(ReplayDriftError, match="still waiting"):
        replay(longer, history)

    async def asks_more():
        result = await recorded()
        await act("more")
        return result

    with pytest.raises(ReplayDriftError, match="the end of the run"):
        replay(asks_more, history)


def test_a_history_that_ended_well_drifts_if_the_code_fails(history):
    async def fails():
        await recorded()
        raise ValueError("now")

    with pytest.raises(ReplayDriftError, match="run_failed: ValueError: now"):
        replay(fails, history)


def test_a_failure_is_compared_by_type_and_message_but_not_by_traceback_or_address():
    async def fails():
        raise ValueError(f"at {object()!r}")

    async def fails_elsewhere():
        if True:
            raise ValueError(f"at {object()!r}")

    async def fails_otherwise():
        raise KeyError("x")

    lab = Lab(fails).begin()
    assert replay(fails_elsewhere, lab.history).events == []
    with pytest.raises(ReplayDriftError):
        replay(fails_otherwise, lab.history)


def test_a_terminated_run_replays_whatever_its_code_was_doing():
    lab = Lab(recorded).begin()
    lab.history.append(Event(len(lab.history) + 1, EventType.RUN_TERMINATED, None, None, None, lab.clock))
    decision = replay(recorded, lab.history)
    assert (decision.events, decision.state, decision.wake_at) == ([], "terminated", None)
    lab.close()


# -- completions that do not fit


def broken(history, index, **changes):
    event = history[index]
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return [*history[:index], Event(**{**fields, **changes}), *history[index + 1 :]]


def test_a_completion_of_the_wrong_kind_drifts(history):
    index = next(i for i, e in enumerate(history) if e.type == EventType.ACTIVITY_COMPLETED)
    with pytest.raises(ReplayDriftError, match="timer_fired.*activity charge"):
        replay(recorded, broken(history, index, type=EventType.TIMER_FIRED))
    index = next(i for i, e in enumerate(history) if e.type == EventType.TIMER_FIRED)
    with pytest.raises(ReplayDriftError, match="activity_completed.*a timer"):
        replay(recorded, broken(history, index, type=EventType.ACTIVITY_COMPLETED, payload="1"))


def test_a_completion_of_a_command_that_was_not_issued_yet_drifts(history):
    index = next(i for i, e in enumerate(history) if e.type == EventType.ACTIVITY_COMPLETED)
    with pytest.raises(ReplayDriftError, match="not come so far"):
        replay(recorded, broken(history, index, command=17))


def test_commands_numbered_with_gaps_are_refused(history):
    index = next(i for i, e in enumerate(history) if e.type == EventType.TIMER_STARTED)
    with pytest.raises(ReplayDriftError, match="gaps"):
        replay(recorded, broken(history, index, command=9))


def test_a_recorded_result_that_cannot_be_decoded_is_a_codec_error(history):
    index = next(i for i, e in enumerate(history) if e.type == EventType.ACTIVITY_COMPLETED)
    for inline in (True, False):
        with pytest.raises(CodecError, match="activity charge"):
            replay(recorded, broken(history, index, payload="{broken"), inline=inline)


def test_a_beginning_that_cannot_be_read_is_a_codec_error(history):
    for payload in ("{", "[]", None):
        with pytest.raises(CodecError, match="run_started"):
            replay(recorded, broken(history, 0, payload=payload))


def test_a_history_of_a_newer_loop_is_refused(history):
    text = history[0].payload.replace('"seed"', '"loop_version":99,"seed"')
    with pytest.raises(ReplayDriftError, match="newer release"):
        replay(recorded, broken(history, 0, payload=text))


def test_an_event_that_only_a_newer_release_knows_is_not_passed_over(history):
    for inline in (True, False):
        with pytest.raises(ReplayDriftError, match=r"newer release .* does not know 'moon_rose', seq 2"):
            replay(recorded, broken(history, 1, type="moon_rose"), inline=inline)


# -- faults cannot be caught


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("catch", [Exception, BaseException])
def test_drift_is_not_swallowed_by_workflow_code(catch, inline):
    """X-003, X-004: a broad except around an effect, with compensation in it."""
    compensated = []

    async def before():
        await act("charge")
        await act("ship")

    async def after():
        await act("charge")
        try:
            await act("deliver")
        except catch:
            compensated.append(side_effect(config))
            await act("refund")
        return "all is well"

    lab = Lab(before).begin()
    lab.complete(0)
    execution = Execution(entry=entry_of(after), run=RUN, inline=inline)
    with pytest.raises(ReplayDriftError, match="deliver"):
        execution.replay(loaded(lab.history))
    execution.evict()
    assert compensated == []
    with pytest.raises(RuntimeError):
        execution.deliver(Event(0, EventType.SIGNAL_RECEIVED, None, "x", "1", 0))
    lab.close()


def test_drift_in_a_background_task_stops_the_run_too():
    async def before():
        await act("a")
        await asyncio.Event().wait()

    async def after():
        async def background():
            await act("b")

        task = asyncio.create_task(background())
        await asyncio.wait([task])
        await asyncio.Event().wait()

    lab = Lab(before).begin()
    with pytest.raises(ReplayDriftError):
        replay(after, lab.history)
    lab.close()


def test_every_effect_after_the_drift_raises_it_again():
    seen = []

    async def before():
        act("a")
        await asyncio.Event().wait()

    async def after():
        for effect in (lambda: act("b"), lambda: side_effect(config), lambda: patched("x"), lambda: act("c")):
            try:
                effect()
            except ReplayDriftError as error:
                seen.append(error)
        await asyncio.Event().wait()

    lab = Lab(before).begin()
    with pytest.raises(ReplayDriftError) as caught:
        replay(after, lab.history)
    assert seen == [caught.value] * 4
    lab.close()


def test_drift_does_not_complain_of_coroutines_that_were_never_awaited():
    async def before():
        act("a")
        await asyncio.Event().wait()

    async def child():
        await asyncio.sleep(1)

    async def waits():
        await asyncio.wait_for(child(), 5)

    async def groups():
        try:
            act("b")
        finally:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())

    lab = Lab(before).begin()
    for after in (waits, groups):
        with pytest.raises(ReplayDriftError):
            replay(after, lab.history)
    lab.close()


@pytest.mark.parametrize("catch", [Exception, BaseException])
def test_spinning_is_not_swallowed_either(catch):
    async def flow():
        while True:
            with contextlib.suppress(catch):
                await asyncio.sleep(0)

    with pytest.raises(SpinError):
        Lab(flow, spin_limit=100).begin()


# -- the offline replayer


def test_a_history_is_replayed_without_a_database(history):
    decision = replay_history(entry_of(recorded), RUN, loaded(history))
    assert (decision.events, decision.state) == ([], "completed")
    decision = replay_history(entry_of(recorded), RUN, loaded(history[:3]))
    assert decision.state == "running"


def test_a_history_that_only_started_replays_to_nothing():
    decision = replay(recorded, [started()])
    assert (decision.events, decision.orders, decision.state) == ([], [], "pending")


def test_replay_takes_one_history_from_its_beginning_once(history):
    execution = Execution(entry=entry_of(recorded), run=RUN)
    for wrong in ([], history[1:]):
        with pytest.raises(ValueError, match="run_started"):
            execution.replay(wrong)
    execution.replay(loaded(history))
    with pytest.raises(ValueError, match="once"):
        execution.replay(loaded(history))
