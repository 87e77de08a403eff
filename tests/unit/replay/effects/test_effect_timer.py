"""Timers: durable, exact, taken back."""

import asyncio
from datetime import timedelta

import pytest

from continuum.model.events import EventType
from continuum.replay.effects.timer import sleep
from tests.replay.lab import Lab, act

DAY = 86_400


def timers(lab):
    return [e.payload for e in lab.history if e.type == EventType.TIMER_STARTED]


@pytest.mark.parametrize(
    ("delay", "payload"),
    [(1, "1000000"), (0.5, "500000"), (1e-6, "1"), (0.0000014, "1"), (timedelta(days=1), str(DAY * 10**6)),
     (timedelta(microseconds=7), "7"), (float("inf"), str(31_556_952 * 10**9)), (1e300, str(31_556_952 * 10**9))],
)  # fmt: skip
def test_the_duration_is_recorded_in_whole_microseconds(delay, payload):
    async def flow():
        await sleep(delay)

    lab = Lab(flow).begin()
    assert timers(lab) == [payload]
    assert lab.decisions[-1].wake_at == lab.clock + int(payload)
    assert lab.execution.earliest_timer == lab.clock + int(payload)
    lab.close()


@pytest.mark.parametrize("delay", [0, -5, timedelta(0), timedelta(days=-1)])
def test_no_delay_only_lets_others_run(delay):
    async def flow():
        seen = []
        asyncio.get_running_loop().call_soon(seen.append, "other")
        await sleep(delay)
        return seen

    lab = Lab(flow).begin()
    assert lab.result == ["other"]
    assert timers(lab) == []


def test_deadlines_are_exact_at_any_time_of_the_clock():
    """call_at subtracts two floats of ten digits before the point: no microsecond may get lost."""

    async def flow():
        for microseconds in (1, 3, 10, 999_999, 1_000_001, 86_400_000_007):
            try:
                async with asyncio.timeout(microseconds / 1e6):
                    await asyncio.Event().wait()
            except TimeoutError:
                pass

    lab = Lab(flow)
    lab.clock = 1_712_345_678_901_234
    lab.run()
    assert timers(lab) == ["1", "3", "10", "999999", "1000001", "86400000007"]
    lab.replays()


def test_timers_fire_in_the_order_they_are_due():
    async def flow():
        await asyncio.gather(sleep(3), sleep(1), sleep(2), sleep(1))

    lab = Lab(flow).begin()
    assert lab.execution.due_timers(lab.clock + 2_000_000) == [1, 3, 2]
    assert lab.execution.due_timers(lab.clock + 999_999) == []
    assert lab.execution.earliest_timer == lab.clock + 1_000_000
    assert all(lab.execution.expects(n) for n in range(4))
    lab.close()


def test_a_timer_taken_back_is_noted_once_and_not_waited_for():
    async def flow():
        handle = asyncio.get_running_loop().call_later(5, print)
        later = asyncio.get_running_loop().call_later(9, print)
        await act("a")
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()
        assert not later.cancelled()
        await act("b")

    lab = Lab(flow).begin()
    decision = lab.complete(2)
    assert [(str(e.type), e.command) for e in decision.events][1:2] == [("timer_cancelled", 0)]
    assert lab.types.count("timer_cancelled") == 1
    assert not lab.execution.expects(0)
    assert decision.wake_at == lab.history[1].at + 9_000_000
    lab.replays()
    lab.close()


def test_a_handle_tells_when_it_is_due():
    async def flow():
        loop = asyncio.get_running_loop()
        return loop.call_later(5, print).when() - loop.time()

    assert Lab(flow).begin().result == 5.0


def test_time_at_a_timer_is_never_before_it_was_due():
    async def flow():
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 60
        await asyncio.sleep(60)
        return loop.time() >= deadline

    lab = Lab(flow).begin()
    lab.deliver(EventType.TIMER_FIRED, 0, None, None)  # stamped long before its time
    assert lab.result is True
    lab.replays()


def test_timeouts_around_every_step_leave_nothing_behind():
    async def flow():
        for _ in range(1_000):
            async with asyncio.timeout(3600):
                await act("a")

    lab = Lab(flow).begin()
    while lab.execution.open_activities and len(lab.decisions) < 700:
        lab.complete(min(lab.execution.open_activities))
    assert len(lab.execution._loop._timer_heap) < 100
    assert lab.execution.earliest_timer is not None
    lab.close()


@pytest.mark.parametrize("delay", [float("nan")])
def test_a_delay_that_is_no_number_is_refused(delay):
    async def flow():
        with pytest.raises(ValueError, match="NaN"):
            asyncio.get_running_loop().call_later(delay, print)
        with pytest.raises(ValueError, match="NaN"):
            await asyncio.sleep(delay)
        return 1

    assert Lab(flow).begin().result == 1


def test_call_at_in_the_past_fires_at_once():
    async def flow():
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_at(5, done.set_result, "now")
        return await done

    lab = Lab(flow).begin()
    assert timers(lab) == ["0"]
    lab.fire()
    assert lab.result == "now"
