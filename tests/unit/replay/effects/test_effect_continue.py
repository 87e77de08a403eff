"""A run that continues as new ends, and its successor has all that was not used up."""

import asyncio
import contextlib

import msgspec
import pytest

from continuum.errors import CodecError, CompensationError, NotInWorkflow, ReplayDriftError, ReplayError
from continuum.model.codec import decode, encode_arguments
from continuum.model.decisions import Letter
from continuum.model.events import EventType
from continuum.model.ids import derive_run_id
from continuum.model.runs import LOOP_VERSION, RunState, Started
from continuum.replay.effects import continue_as_new as module
from continuum.replay.effects.attributes import set_attributes
from continuum.replay.effects.continue_as_new import ContinueAsNew, continue_as_new
from continuum.replay.effects.signal import wait_signal
from continuum.replay.effects.values import side_effect, uuid4
from continuum.replay.entry import Entry
from continuum.replay.execution import Execution
from tests.replay.lab import RUN, SEED, Lab, act, entry_of, kid, loaded, replay, started


def successor_of(lab):
    return Started.parse(lab.decisions[-1].successor.started)


def history_of(successor):
    """What the journal writes for a successor, as the run's whole history."""
    payload = successor.started
    return [msgspec.structs.replace(started(), payload=payload)]


def test_it_ends_the_run_with_the_next_input():
    async def flow(n):
        await act("a")
        continue_as_new(n + 1, [n])
        raise AssertionError

    lab = Lab(flow, 1).begin()
    decision = lab.complete(0)
    assert lab.history[-1].type == EventType.RUN_CONTINUED
    assert lab.history[-1].payload == "[2,[1]]"
    assert lab.ended
    assert (decision.state, decision.wake_at, decision.cascade, decision.letters) == (
        RunState.CONTINUED,
        None,
        None,
        (),
    )
    assert decision.successor.id == derive_run_id(lab.clock, RUN.run_id, "continued")
    child = successor_of(lab)
    assert (bytes(child.input), child.loop_version, child.family, child.signals) == (
        b"[2,[1]]",
        LOOP_VERSION,
        False,
        (),
    )
    assert child.seed != SEED
    assert len(child.seed) == 32
    lab.replays()


def test_the_successor_has_the_limits_of_the_run_before():
    async def flow():
        continue_as_new()

    lab = Lab(flow, history=[started(depth=2, max_depth=5, max_payload=700)]).begin()
    child = successor_of(lab)
    assert (child.depth, child.max_depth, child.max_payload) == (2, 5, 700)


def test_it_is_no_error_to_catch():
    async def flow():
        try:
            continue_as_new(1)
        except Exception as error:
            raise AssertionError from error
        finally:
            act("recorded, and withdrawn with the run")

    lab = Lab(flow).begin()
    assert lab.decisions[-1].state is RunState.CONTINUED
    assert lab.types == ["run_began", "activity_scheduled", "run_continued"]
    assert lab.decisions[-1].orders == []
    lab.replays()


def test_cleanup_on_the_way_out_runs_before_the_end():
    """Like after `return`: the run ends once the function has been left."""

    async def flow():
        try:
            continue_as_new(1)
        finally:
            child = kid("c", close="abandon")
            child.signal("hello")
            set_attributes({"a": 1})
            await act("cleanup")

    lab = Lab(flow).begin()
    assert not lab.ended
    assert len(lab.decisions[-1].children) == 1
    assert lab.decisions[-1].attributes == '{"a":1}'
    decision = lab.complete(3)
    assert decision.state is RunState.CONTINUED
    assert successor_of(lab).family
    lab.replays()


def test_swallowing_it_takes_it_back():
    async def flow():
        with contextlib.suppress(BaseException):
            continue_as_new(1)
        return await act("a")

    lab = Lab(flow).begin()
    lab.complete(0, 7)
    assert lab.result == 7
    assert lab.decisions[-1].successor is None
    lab.replays()


def test_it_passes_through_a_task_group():
    async def background():
        await asyncio.sleep(60)

    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(background())
            async with asyncio.TaskGroup() as inner:
                inner.create_task(background())
                await act("a")
                continue_as_new("next")

    lab = Lab(flow).begin()
    decision = lab.complete(0)
    assert decision.state is RunState.CONTINUED
    assert decode(lab.history[-1].payload) == ["next"]
    lab.replays()


def test_a_task_group_in_which_something_fails_as_well_fails():
    async def failing():
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("cleanup")

    async def flow():
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            await act("a")
            continue_as_new("next")

    lab = Lab(flow).begin()
    lab.complete(0)
    assert lab.failure.type_name == "BaseExceptionGroup"
    lab.replays()


@pytest.mark.parametrize("start", ["task", "gather", "group", "callback"])
def test_only_the_main_task_continues_the_run(start):
    seen = []

    async def sub():
        try:
            continue_as_new(1)
        except RuntimeError as error:
            seen.append(str(error))

    def callback():
        with contextlib.suppress(RuntimeError):
            continue_as_new(1)

    async def flow():
        match start:
            case "task":
                await asyncio.create_task(sub())
            case "gather":
                await asyncio.gather(sub(), act("a"))
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(sub())
            case _:
                asyncio.get_running_loop().call_soon(callback)
                await asyncio.sleep(0)

    lab = Lab(flow).run()
    assert lab.decisions[-1].state is RunState.COMPLETED
    assert all("main task" in message for message in seen)
    assert len(seen) == (start != "callback")


def test_arguments_that_cannot_be_the_next_input_are_refused_where_it_is_called():
    async def flow():
        seen = []
        for value in (object(), "x" * 500):
            try:
                continue_as_new(value)
            except CodecError as error:
                seen.append(error.path)
        return seen

    lab = Lab(flow, history=[started(max_payload=300)]).begin()
    assert lab.result == ["input[0]", "input"]
    lab.replays()


def test_the_signature_of_the_workflow_is_what_counts():
    def encode_input(args, kwargs):
        if len(args) != 1:
            raise TypeError("flow() missing a required argument: 'n'")
        return encode_arguments(args, kwargs)

    async def flow():
        try:
            continue_as_new()
        except TypeError:
            continue_as_new(5)

    lab_entry = entry_of(flow)
    entry = Entry("lab", 1, "hash", flow, lab_entry.decode_input, lab_entry.encode_result, encode_input=encode_input)
    execution = Execution(entry=entry, run=RUN)
    execution.replay(loaded([started()]))
    execution.deliver(msgspec.structs.replace(started(), seq=0, type=EventType.RUN_BEGAN, payload=None))
    decision = execution.decide()
    assert decision.events[-1].payload == "[5]"


def test_with_something_left_to_undo_it_is_refused(monkeypatch):
    monkeypatch.setattr(module, "left_to_undo", lambda loop: True)

    async def flow():
        try:
            continue_as_new(1)
        except CompensationError as error:
            return str(error)

    assert "compensate_all()" in Lab(flow).begin().result


def test_outside_of_workflows_there_is_nothing_to_continue():
    with pytest.raises(NotInWorkflow, match=r"continue_as_new\(\)"):
        continue_as_new(1)


def test_a_side_effect_cannot_continue_the_run():
    def inside():
        with contextlib.suppress(ReplayError):
            continue_as_new(1)

    async def flow():
        side_effect(inside)
        return "went on"

    lab = Lab(flow).begin()
    assert lab.result == "went on"


# -- what the successor inherits


def test_signals_that_nobody_took_go_with_it_in_their_order():
    async def flow():
        await wait_signal("a")
        await wait_signal("go")
        continue_as_new()

    lab = Lab(flow)
    lab.signal("a", 0)
    lab.signal("b", {"early": True})
    lab.begin()
    lab.signal("a", 1)
    lab.signal("b", 2)
    lab.signal("a", 3, decide=False)
    lab.signal("go")
    assert [(name, bytes(value)) for name, value in successor_of(lab).signals] == [
        ("a", b"1"),
        ("a", b"3"),
        ("b", b'{"early":true}'),
        ("b", b"2"),
    ]
    lab.replays()

    async def taker():
        return [await wait_signal("a"), await wait_signal("b"), await wait_signal("a"), await wait_signal("a")]

    after = Lab(taker, history=history_of(lab.decisions[-1].successor))
    after.signal("a", 4)
    after.begin()
    assert after.result == [1, {"early": True}, 3, 4]
    after.replays()


def test_signals_pass_through_runs_that_take_none():
    async def flow():
        continue_as_new()

    first = Lab(flow)
    first.signal("x", 1)
    first.begin()
    second = Lab(flow, history=history_of(first.decisions[-1].successor))
    second.signal("x", 2)
    second.begin()
    assert [(name, bytes(value)) for name, value in successor_of(second).signals] == [("x", b"1"), ("x", b"2")]
    second.replays()


def test_a_waiter_that_was_cancelled_leaves_its_signal_to_the_successor():
    async def flow():
        waiter = asyncio.create_task(wait_signal("x"))
        await wait_signal("go")
        waiter.cancel()
        continue_as_new()

    lab = Lab(flow).begin()
    lab.signal("go", decide=False)
    assert lab.ended
    lab.decide()
    lab.replays()
    lab = Lab(flow).begin()
    assert lab.signal("x", 5).successor is None
    lab.signal("go")
    # The background task took it: it is used up.
    assert successor_of(lab).signals == ()
    lab.replays()


def test_children_that_may_live_make_a_family_and_those_that_ended_do_not():
    async def flow(again):
        child = kid("c")
        if again == "awaited":
            await child
        await wait_signal("go")
        continue_as_new()

    for again, expected in (("awaited", False), ("left", True)):
        lab = Lab(flow, again).begin()
        if again == "awaited":
            lab.child_done(0)
        lab.signal("go")
        assert successor_of(lab).family is expected
        lab.replays()

    async def childless():
        continue_as_new()

    assert successor_of(Lab(childless, history=[started(family=True)]).begin()).family


def test_a_cancelled_run_passes_the_request_on():
    async def flow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await act("cleanup")
            continue_as_new()

    lab = Lab(flow).begin()
    assert lab.cancel().letters == ()
    decision = lab.complete(0)
    assert list(decision.letters) == [Letter(RUN.chain_id, EventType.CANCEL_REQUESTED)]
    lab.replays()


def test_what_was_open_ends_with_the_run():
    async def flow():
        act("a")
        asyncio.create_task(asyncio.sleep(60))  # noqa: RUF006
        await wait_signal("go")
        continue_as_new()

    lab = Lab(flow).begin()
    decision = lab.signal("go")
    assert (decision.cancelled, decision.wake_at) == ([0], None)
    lab.replays()


def test_attributes_of_the_last_turn_are_set():
    async def flow():
        set_attributes({"round": 1})
        continue_as_new()

    assert Lab(flow).begin().decisions[-1].attributes == '{"round":1}'


def test_chance_begins_afresh():
    drawn = []

    async def flow():
        drawn.append(uuid4())
        continue_as_new()

    first = Lab(flow).begin()
    second = Lab(flow, history=history_of(first.decisions[-1].successor)).begin()
    assert len(set(drawn)) == 2
    assert successor_of(first).seed != successor_of(second).seed
    first.replays()
    assert len(set(drawn)) == 2


# -- drift


def continuing(value):
    async def flow():
        await act("a")
        continue_as_new(value)

    return flow


async def returns():
    await act("a")
    return 1


async def swallows():
    await act("a")
    with contextlib.suppress(ContinueAsNew):
        continue_as_new({"n": 1})
    await asyncio.Event().wait()


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("after", "words"),
    [
        (continuing({"n": 2}), r"run_continued with \[\{\"n\":2"),
        (returns, "run_completed"),
        (swallows, "still waiting"),
    ],
)
def test_another_end_is_drift(after, words, inline):
    lab = Lab(continuing({"n": 1})).begin()
    lab.complete(0)
    with pytest.raises(ReplayDriftError, match=words):
        replay(after, lab.history, inline=inline)


def test_a_continuation_in_place_of_a_result_is_drift():
    lab = Lab(returns).begin()
    lab.complete(0)
    with pytest.raises(ReplayDriftError, match="run_continued"):
        replay(continuing(1), lab.history)


def test_the_next_input_is_compared_by_meaning():
    lab = Lab(continuing({"n": 1, "m": (1, 2)})).begin()
    lab.complete(0)
    again = replay(continuing({"n": 1, "m": [1, 2]}), lab.history)
    assert (again.events, again.successor, again.state) == ([], None, RunState.CONTINUED)
