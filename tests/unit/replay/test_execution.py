"""Decisions: their events, numbers and states; how a run begins, is cancelled and ends."""

import asyncio
import contextlib

import pytest

from continuum.errors import CodecError
from continuum.model.events import Event, EventType
from continuum.model.failures import FailureKind
from continuum.model.runs import RunState
from continuum.replay.effects.signal import wait_signal
from continuum.replay.execution import Entry, Execution
from tests.replay.lab import BEGAN_AT, RUN, Lab, act, entry_of, replay, started


def waits():
    return asyncio.Event().wait()


# -- beginning


def test_nothing_runs_before_run_began():
    ran = []

    async def flow():
        ran.append(1)

    lab = Lab(flow)
    assert (lab.execution.began, lab.execution.ended, lab.execution.last_seq) == (False, False, 1)
    assert lab.decide().state == "pending"
    lab.signal("early")
    assert ran == []
    lab.begin()
    assert ran == [1]
    assert (lab.execution.began, lab.execution.ended, lab.execution.last_seq) == (True, True, 4)
    lab.replays()


def test_the_input_arrives_as_it_was_given():
    async def flow(a, b, *, c=3):
        return [a, b, c]

    lab = Lab(flow, (1, 2), {"x": 1}).begin()
    assert lab.result == [(1, 2), {"x": 1}, 3]


async def takes_one(a):
    return a


@pytest.mark.parametrize(("flow", "why"), [(takes_one, "takes 1 positional argument but 2"), (max, "coroutine")])
def test_an_input_the_function_does_not_take_stops_the_run_until_a_deploy(flow, why):
    execution = Execution(entry=entry_of(flow), run=RUN)
    execution.replay([started(1, 2)])
    with pytest.raises(CodecError, match=f"arguments the run was started with: .*{why}") as refused:
        execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, BEGAN_AT))
    assert refused.value.path == "input"
    execution.evict()


@pytest.mark.parametrize("error", [CodecError("broken", path="input"), ValueError("broken")])
def test_an_input_that_cannot_be_decoded_stops_the_run(error):
    def decode_input(payload):
        raise error

    entry = Entry("lab", 1, "hash", waits, decode_input, str)
    execution = Execution(entry=entry, run=RUN)
    execution.replay([started()])
    with pytest.raises(CodecError, match="broken"):
        execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, BEGAN_AT))
    execution.evict()


# -- deciding


def test_a_decision_holds_each_completion_with_what_came_of_it():
    async def flow():
        await act("a")
        act("b")
        await wait_signal("go")
        await asyncio.sleep(1)

    lab = Lab(flow)
    lab.begin(decide=False)
    lab.complete(0, decide=False)
    lab.signal("go", decide=False)
    decision = lab.decide()
    assert [(e.seq, str(e.type), e.command) for e in decision.events] == [
        (2, "run_began", None),
        (3, "activity_scheduled", 0),
        (4, "activity_completed", 0),
        (5, "activity_scheduled", 1),
        (6, "signal_awaited", 2),
        (7, "signal_received", None),
        (8, "timer_started", 3),
    ]
    assert lab.execution.last_seq == 8
    assert [o.activity for o in decision.orders] == ["a", "b"]
    assert decision.state is RunState.RUNNING
    assert decision.wake_at == lab.clock + 1_000_000
    assert lab.decide().events == []
    lab.close()


def test_events_carry_the_time_of_the_completion_that_caused_them():
    async def flow():
        act("a")
        await asyncio.sleep(2)
        act("b")
        await waits()

    lab = Lab(flow).begin()
    first = lab.clock
    lab.fire()
    assert [e.at for e in lab.history[1:]] == [first] * 3 + [first + 2_000_000] * 2
    lab.close()


def test_the_state_follows_what_the_run_waits_for():
    async def flow():
        await act("a")
        await asyncio.sleep(5)
        await wait_signal("go")

    lab = Lab(flow).begin()
    seen = [(lab.decisions[-1].state, lab.decisions[-1].wake_at is None, lab.execution.is_waiting_outside)]
    for turn in (lambda: lab.complete(0), lab.fire, lambda: lab.signal("go")):
        decision = turn()
        seen.append((decision.state, decision.wake_at is None, lab.execution.is_waiting_outside))
    assert seen == [
        ("running", True, False),
        ("suspended", False, True),
        ("suspended", True, True),
        ("completed", True, False),
    ]


def test_notes_ride_in_the_next_decision_and_replay_skips_them():
    async def flow():
        await act("a")
        await wait_signal("x")

    lab = Lab(flow).begin()
    lab.execution.note(EventType.VERSION_ADOPTED, payload='"hash"')
    lab.complete(0)
    assert lab.types == ["run_began", "activity_scheduled", "version_adopted", "activity_completed", "signal_awaited"]
    lab.replays()
    lab.close()


def test_locations_are_the_lines_of_workflow_code():
    async def flow():
        await asyncio.sleep(1)
        async with asyncio.timeout(5):
            await wait_signal("x", timeout=3)

    lab = Lab(flow).begin()
    lab.fire()
    where = [e.location for e in lab.history if e.location]
    line = flow.__code__.co_firstlineno
    assert [int(text.rpartition(":")[2]) - line for text in where] == [1, 2, 3, 3]
    assert all(text.rpartition(":")[0].endswith("test_execution.py") for text in where)
    lab.close()


def test_a_command_issued_where_no_workflow_code_is_on_the_stack_has_no_location():
    async def flow():
        await asyncio.gather(asyncio.sleep(1), wait_signal("x"))

    lab = Lab(flow).begin()
    assert [e.location for e in lab.history if e.command is not None] == [None, None]
    lab.close()


# -- cancelling


def test_a_request_before_anything_ran_ends_the_run_without_running_it():
    """CAN-10."""
    ran = []

    async def flow():
        ran.append(1)

    lab = Lab(flow)
    decision = lab.cancel()
    assert ran == []
    assert [str(e.type) for e in decision.events] == ["cancel_requested", "run_cancelled"]
    assert decision.state is RunState.CANCELLED
    lab.replays()


async def endless():
    await asyncio.sleep(1000)


async def suspended_on_an_activity():
    await act("a")


async def suspended_on_a_signal():
    await wait_signal("x", timeout=7)


async def suspended_in_a_group():
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(endless())
        group.create_task(suspended_on_an_activity())


async def suspended_in_gather():
    await asyncio.gather(endless(), suspended_on_an_activity(), act("b"))


async def suspended_on_nothing():
    await waits()


@pytest.mark.parametrize(
    "flow",
    [endless, suspended_on_an_activity, suspended_on_a_signal, suspended_in_a_group, suspended_in_gather,
     suspended_on_nothing],
)  # fmt: skip
def test_a_request_ends_the_run_wherever_it_waits(flow):
    """CAN-03, CAN-04: what was open is withdrawn."""
    lab = Lab(flow).begin()
    opened = sorted(lab.execution.open_activities)
    decision = lab.cancel()
    assert decision.events[-1].type == EventType.RUN_CANCELLED
    assert decision.state is RunState.CANCELLED
    assert sorted(decision.cancelled) == opened
    assert decision.wake_at is None
    assert decision.orders == []
    assert lab.execution.ended
    lab.replays()


def test_cleanup_may_compensate():
    async def flow():
        await act("charge")
        try:
            await wait_signal("go")
        except asyncio.CancelledError as error:
            await act("refund", str(error))
            await asyncio.sleep(5)
            raise
        finally:
            await act("notify")

    lab = Lab(flow).begin()
    lab.complete(0)
    assert [o.activity for o in lab.cancel().orders] == ["refund"]
    lab.complete(2)
    lab.fire()
    assert not lab.ended
    lab.complete(4)
    assert lab.types[-1] == "run_cancelled"
    assert lab.commands[2] == ("activity_scheduled", "refund", '["the run was cancelled"]')
    lab.replays()


def test_a_shield_holds():
    async def flow():
        inner = asyncio.ensure_future(work())
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            return await inner

    async def work():
        await asyncio.sleep(1)
        return await act("a")

    lab = Lab(flow).begin()
    lab.cancel()
    lab.run(7)
    assert lab.result == 7
    lab.replays()


def test_a_swallowed_request_lets_the_run_complete():
    async def flow():
        try:
            await waits()
        except asyncio.CancelledError:
            return "not now"

    lab = Lab(flow).begin()
    lab.cancel()
    assert lab.result == "not now"
    assert lab.decisions[-1].state is RunState.COMPLETED
    lab.replays()


def test_a_second_request_is_harmless():
    async def flow():
        try:
            await waits()
        except asyncio.CancelledError:
            await act("cleanup")
            raise

    lab = Lab(flow).begin()
    lab.cancel()
    lab.cancel()
    assert not lab.ended
    lab.complete(0)
    assert lab.types[-1] == "run_cancelled"
    lab.replays()


def test_an_error_during_cleanup_fails_the_run():
    async def flow():
        try:
            await waits()
        finally:
            raise KeyError("cleanup")

    lab = Lab(flow).begin()
    lab.cancel()
    assert lab.failure.type_name == "KeyError"
    lab.replays()


def test_a_cancellation_nobody_asked_for_fails_the_run():
    async def flow():
        task = asyncio.create_task(waits())
        task.cancel()
        await task

    lab = Lab(flow).begin()
    assert lab.failure.kind is FailureKind.CANCELLED
    assert "nobody had cancelled the run" in lab.failure.message
    assert lab.decisions[-1].state is RunState.FAILED
    lab.replays()


def test_a_stray_cancellation_after_a_swallowed_request_counts_as_the_requested_one():
    async def flow():
        with contextlib.suppress(asyncio.CancelledError):
            await waits()
        await act("a")
        raise asyncio.CancelledError

    lab = Lab(flow).begin()
    lab.cancel()
    lab.complete(0)
    assert lab.types[-1] == "run_cancelled"
    lab.replays()


def test_a_request_inside_a_timeout_is_not_mistaken_for_it():
    async def flow():
        try:
            async with asyncio.timeout(60):
                await waits()
        except TimeoutError:
            return "timed out"

    lab = Lab(flow).begin()
    lab.cancel()
    assert lab.types[-1] == "run_cancelled"
    lab.replays()


def test_a_request_while_a_result_waits_in_the_same_turn_comes_in_its_place():
    async def flow():
        try:
            await act("a")
        except asyncio.CancelledError:
            return "cancelled"
        try:
            await waits()
        except asyncio.CancelledError:
            return "after the result"

    for order, expected in ((("complete", "cancel"), "after the result"), (("cancel",), "cancelled")):
        lab = Lab(flow).begin()
        for what in order:
            if what == "complete":
                lab.complete(0, decide=False)
            else:
                lab.cancel(decide=False)
        lab.decide()
        assert lab.result == expected
        lab.replays()


# -- ending


def test_a_result_ends_the_run_with_its_payload():
    async def flow():
        return {"a": (1, 2)}

    lab = Lab(flow).begin()
    assert lab.result == {"a": (1, 2)}
    assert lab.execution.ended
    with pytest.raises(RuntimeError, match="cannot be delivered"):
        lab.signal("late")
    assert lab.execution.due_timers(1 << 60) == []
    lab.replays()


class Broken(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ExceptionGroup("g", [ValueError("a")]),
     BaseExceptionGroup("g", [KeyboardInterrupt()]), Broken(), StopAsyncIteration(), TimeoutError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_leaves_the_workflow_fails_the_run(error):
    """MEM-03."""

    async def flow(suspended):
        if suspended:
            await act("a")
        raise error

    for suspended in (False, True):
        lab = Lab(flow, suspended).begin()
        if suspended:
            lab.complete(0)
        assert lab.failure.type_name.endswith(type(error).__qualname__)
        assert lab.decisions[-1].state is RunState.FAILED
        if not isinstance(error, Broken):
            lab.replays()


def test_base_exceptions_of_a_child_task_reach_who_awaits_it():
    async def child(error):
        raise error

    async def flow():
        seen = []
        for error in (SystemExit, KeyboardInterrupt):
            try:
                await asyncio.create_task(child(error))
            except error as caught:
                seen.append(type(caught).__name__)
        return seen

    lab = Lab(flow).begin()
    assert lab.result == ["SystemExit", "KeyboardInterrupt"]
    assert lab.logs == []


def test_a_result_that_cannot_be_encoded_fails_the_run_and_names_the_path():
    async def flow():
        return {"items": [1, {"owner": object()}]}

    lab = Lab(flow).begin()
    assert lab.failure.type_name == "continuum.errors.CodecError"
    assert "owner" in lab.failure.message
    lab.replays()


def test_tasks_left_over_are_ended_and_their_commands_withdrawn():
    async def background():
        try:
            await act("b")
        finally:
            await asyncio.sleep(1)

    async def flow():
        asyncio.create_task(background())  # noqa: RUF006
        await act("a")
        return "done"

    lab = Lab(flow).begin()
    decision = lab.complete(0)
    assert decision.cancelled == [1]
    assert [str(e.type) for e in decision.events] == ["activity_completed", "run_completed"]
    lab.replays()


def test_what_background_tasks_ask_for_in_the_last_drain_is_recorded_but_not_ordered():
    async def background(event):
        await event.wait()
        await act("late")

    async def flow():
        event = asyncio.Event()
        asyncio.create_task(background(event))  # noqa: RUF006
        await act("a")
        event.set()
        return "done"

    lab = Lab(flow).begin()
    decision = lab.complete(0)
    assert lab.result == "done"
    assert decision.orders == []
    assert decision.cancelled == []
    lab.replays()


def test_an_ended_history_replays_to_ended():
    async def flow():
        act("never awaited")
        return 5

    lab = Lab(flow).begin()
    execution = Execution(entry=entry_of(flow), run=RUN)
    execution.replay(lab.history)
    assert execution.ended
    assert execution.last_seq == len(lab.history)
    decision = execution.decide()
    assert (decision.events, decision.cancelled, decision.state) == ([], [], "completed")


# -- live after replay


def test_a_replayed_run_numbers_on_where_its_history_ends():
    async def flow():
        await act("a")
        await act("b")
        await act("c")

    lab = Lab(flow).begin()
    lab.complete(0)
    resumed = Lab(flow, history=lab.history)
    decision = resumed.complete(1)
    assert [(e.seq, e.command) for e in decision.events] == [(6, 1), (7, 2)]
    assert [o.command for o in decision.orders] == [2]
    lab.close()
    resumed.close()


def test_replay_orders_nothing_that_was_ordered_before():
    async def flow():
        act("a")
        await act("b")

    lab = Lab(flow).begin()
    decision = replay(flow, lab.history)
    assert (decision.orders, decision.cancelled, decision.events) == ([], [], [])
    assert decision.state is RunState.RUNNING
    lab.close()


def test_what_is_open_after_replay_is_what_was_open_before():
    async def flow():
        act("a")
        act("b").cancel()
        asyncio.get_running_loop().call_later(5, print)
        asyncio.get_running_loop().call_later(3, print).cancel()
        await waits()

    lab = Lab(flow).begin()
    again = Lab(flow, history=lab.history)
    for one in (lab.execution, again.execution):
        assert [one.expects(n) for n in range(5)] == [True, False, True, False, False]
        assert set(one.open_activities) == {0}
        assert one.due_timers(1 << 60) == [2]
        assert one.earliest_timer == lab.clock + 5_000_000
    lab.close()
    again.close()
