"""The rehearsal of a recorded run: what a dispatcher would meet, without one."""

import asyncio
from datetime import timedelta

from continuum.errors import CodecError, ReplayDriftError, SpinError
from continuum.model.events import Event, EventType
from continuum.model.histories import RecordedRun
from continuum.model.runs import RunState
from continuum.replay.effects.patch import patched
from continuum.replay.effects.signal import wait_signal, wait_until
from continuum.replay.rehearsal import Rehearsal, Verdict, rehearse
from tests.replay.lab import RUN, Lab, act, entry_of, kid, loaded


def recorded(lab, cut=None):
    lab.close()
    return RecordedRun(
        run_id=RUN.run_id,
        chain_id=RUN.chain_id,
        namespace=RUN.namespace,
        workflow=RUN.workflow,
        version=RUN.version,
        events=tuple(loaded(lab.history[:cut])),
    )


def rehearsed(flow, lab, cut=None) -> Rehearsal:
    one = rehearse(entry_of(flow), recorded(lab, cut))
    other = rehearse(entry_of(flow), recorded(lab, cut), inline=False)
    assert (one.verdict, one.matched, one.waits_for, one.news) == (
        other.verdict,
        other.matched,
        other.waits_for,
        other.news,
    )
    return one


async def order():
    await act("charge", "o1", 10)
    await asyncio.sleep(60)
    await asyncio.gather(act("ship"), kid("letter"), wait_signal("go"), wait_until(lambda: False))


def test_a_run_that_goes_on_says_what_it_waits_for():
    lab = Lab(order).begin()
    lab.complete(0)
    lab.fire()
    found = rehearsed(order, lab)
    assert (found.verdict, found.fits, found.error, found.drift) == (Verdict.FITS, True, None, None)
    assert (found.matched, found.recorded, found.news) == (5, 5, ())
    assert found.state is RunState.RUNNING
    assert found.waits_for == (
        "activity ship (command 2)",
        "child letter (command 3)",
        "signal 'go'",
        "a condition (wait_until)",
    )


def test_a_timer_says_until_when():
    async def sleeps():
        await asyncio.sleep(timedelta(days=1).total_seconds())

    lab = Lab(sleeps).begin()
    assert rehearsed(sleeps, lab).waits_for == ("a timer until 2023-11-15 22:13:20 UTC (command 0)",)


def test_a_run_that_has_not_begun_fits_any_code():
    found = rehearsed(order, Lab(order))
    assert (found.verdict, found.matched, found.state, found.waits_for) == (Verdict.FITS, 0, RunState.PENDING, ())


def test_a_run_that_has_ended_waits_for_nothing():
    async def flow():
        await act("charge")
        return 1

    lab = Lab(flow).run()
    found = rehearsed(flow, lab)
    assert (found.verdict, found.state, found.waits_for, found.news) == (Verdict.FITS, RunState.COMPLETED, (), ())


def test_what_the_code_would_ask_for_next_is_news():
    async def more():
        await asyncio.gather(act("charge", "o1", 10), act("audit"))

    found = rehearsed(more, Lab(order).begin())
    assert [(event.type, event.name) for event in found.news] == [(EventType.ACTIVITY_SCHEDULED, "audit")]


def test_drift_comes_with_what_lies_around_it():
    async def before():
        for number in range(12):
            await act(f"step {number}")

    async def after():
        for number in range(12):
            await act(f"step {number}" if number != 8 else "other")

    found = rehearsed(after, Lab(before).run())
    assert (found.verdict, found.fits, found.matched, found.recorded) == (Verdict.DRIFT, False, 8, 12)
    assert [event.name for event in found.before] == [f"step {number}" for number in (3, 4, 5, 6, 7)]
    assert found.at is not None
    assert found.at.name == "step 8"
    assert [event.name for event in found.after] == ["step 9", "step 10", "step 11"]
    assert isinstance(found.drift, ReplayDriftError)
    assert found.error is found.drift
    assert (found.state, found.waits_for, found.news) == (None, (), ())


def test_drift_at_the_end_has_no_recorded_command():
    async def ends():
        return 1

    async def goes_on():
        await act("more")

    found = rehearsed(goes_on, Lab(ends).begin())
    assert (found.verdict, found.matched, found.at, found.after) == (Verdict.DRIFT, 0, None, ())


def test_code_that_cannot_be_replayed_is_broken():
    async def waits():
        await wait_signal("go")
        await wait_signal("go")

    async def spins():
        await wait_signal("go")
        while True:
            await asyncio.sleep(0)

    lab = Lab(waits).begin()
    lab.signal("go")
    found = rehearse(entry_of(spins), recorded(lab), spin_limit=100)
    assert (found.verdict, found.matched, found.drift) == (Verdict.BROKEN, 1, None)
    assert isinstance(found.error, SpinError)


def test_a_payload_that_cannot_be_read_is_broken():
    lab = Lab(order).begin()
    lab.complete(0)
    lab.history[3] = Event(4, EventType.ACTIVITY_COMPLETED, 0, "a", "{", lab.clock)
    found = rehearsed(order, lab)
    assert found.verdict is Verdict.BROKEN
    assert isinstance(found.error, CodecError)


def test_the_answers_of_patches_are_told_also_when_it_drifts():
    async def before():
        patched("one")
        await act("charge")
        await act("ship")

    async def after():
        patched("one")
        patched("two")
        await act("charge")
        await act("other")
        patched("three")

    lab = Lab(before).begin()
    assert rehearsed(after, lab).patches == {"one": True, "two": False}
    lab = Lab(before).begin()
    lab.complete(1)
    found = rehearsed(after, lab)
    assert (found.verdict, found.patches) == (Verdict.DRIFT, {"one": True, "two": False})


def test_a_history_that_contradicts_itself_is_drift():
    lab = Lab(order).begin()
    event = lab.history[2]
    lab.history[2] = Event(event.seq, event.type, 7, event.name, event.payload, event.at)
    found = rehearsed(order, lab)
    assert found.verdict is Verdict.DRIFT
    assert "gaps" in str(found.error)
