"""A child is started by a command, awaited as a future, signalled and cancelled through its handle."""

import asyncio
import json

import msgspec
import pytest

from continuum.errors import ChildCancelled, ChildDepthExceeded, ChildFailed, CodecError, NotInWorkflow, ReplayError
from continuum.model.codec import encode
from continuum.model.decisions import Letter
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import derive_run_id
from continuum.model.runs import ParentClose, RunState, Started
from continuum.replay.effects.patch import patched
from continuum.replay.effects.signal import wait_signal, wait_until
from continuum.replay.effects.values import random, side_effect
from continuum.replay.execution import Execution
from tests.replay.lab import RUN, Lab, act, entry_of, kid, loaded, replay, started


def asked(child):
    return Letter(child.id, EventType.CANCEL_REQUESTED)


def waits():
    return asyncio.Event().wait()


class Keeper:
    """Keeps the handles that workflow code gets, for the test to look at; the last execution's."""

    def __init__(self):
        self.child = None


# -- starting


def test_starting_is_a_command_and_an_order():
    async def flow():
        await kid("ship", "o1", 3, key="parcel", close="abandon", attributes='{"a":1}')

    lab = Lab(flow).begin()
    [command] = [e for e in lab.history if e.command is not None]
    run_id = derive_run_id(lab.clock, RUN.run_id, "0")
    assert (command.type, command.name) == (EventType.CHILD_STARTED, "ship")
    assert command.payload == f'{{"id":"{run_id}","key":"parcel","input":["o1",3]}}'
    assert command.location
    decision = lab.decisions[-1]
    [order] = decision.children
    assert (order.id, order.command, order.workflow, order.version) == (run_id, 0, "ship", 1)
    assert (order.version_hash, order.close, order.attributes) == ("hash of ship", ParentClose.ABANDON, '{"a":1}')
    assert (decision.state, decision.letters, decision.cascade) == (RunState.SUSPENDED, (), None)
    assert lab.execution.expects(0)
    lab.replays()
    lab.close()


def test_a_child_without_a_key_has_none_in_its_command():
    async def flow():
        kid("ship")
        await waits()

    lab = Lab(flow).begin()
    assert list(json.loads(lab.commands[0][2])) == ["id", "input"]
    lab.close()


def test_what_a_child_is_started_with_descends_from_its_parent():
    async def flow():
        kid("one")
        kid("two")
        random()
        await waits()

    lab = Lab(flow, history=[started(depth=3, max_depth=7, max_payload=5_000)]).begin()
    one, two = (Started.parse(order.started) for order in lab.decisions[-1].children)
    assert (one.depth, one.max_depth, one.max_payload, one.family, one.signals) == (4, 7, 5_000, False, ())
    assert bytes(one.input) == b"[]"
    assert len({one.seed, two.seed, Started.parse(lab.history[0].payload).seed}) == 3
    assert len(one.seed) == 32
    again = Lab(flow, history=lab.history[:1])
    again.begin()
    assert again.decisions[-1].children == lab.decisions[-1].children
    lab.close()
    again.close()


def test_a_child_runs_whether_awaited_or_not_also_if_its_parent_ends_at_once():
    async def flow():
        kid("fire and forget", close="abandon")
        kid("to be ended", close="terminate")
        kid("to be asked")
        act("never begun")
        return "done"

    lab = Lab(flow).begin()
    decision = lab.decisions[-1]
    assert decision.state is RunState.COMPLETED
    assert [order.workflow for order in decision.children] == ["fire and forget", "to be ended", "to be asked"]
    assert decision.orders == []
    ids = [order.id for order in decision.children]
    failure = Failure("Terminated", f"its parent {RUN.run_id} ended").encode()
    assert list(decision.letters) == [
        Letter(ids[1], EventType.RUN_TERMINATED, None, failure),
        Letter(ids[2], EventType.CANCEL_REQUESTED),
    ]
    assert decision.cascade is None
    lab.replays()


def test_nothing_is_ordered_a_second_time_after_a_replay():
    async def flow():
        one = kid("one")
        one.signal("s", 1)
        one.request_cancel()
        kid("two").cancel()
        await act("a")
        await act("b")

    lab = Lab(flow).begin()
    lab.replays()
    resumed = Lab(flow, history=lab.history)
    decision = resumed.complete(3)
    assert not decision.reaches_out
    assert [o.activity for o in decision.orders] == ["b"]
    lab.close()
    resumed.close()


def test_a_marker_that_nobody_asks_for_any_more_does_not_change_the_id_of_a_child():
    async def before():
        patched("gone")
        await kid("c")

    async def after():
        await kid("c")

    lab = Lab(before).begin()
    assert lab.decisions[-1].children[0].command == 1
    assert replay(after, lab.history).events == []
    lab.close()


@pytest.mark.parametrize(
    ("key", "error"), [("", TypeError), (7, TypeError), ("x" * 201, ValueError), ("a\0", ValueError)]
)
def test_a_key_that_cannot_be_one_starts_nothing(key, error):
    async def flow():
        try:
            kid("c", key=key)
        except error as refused:
            return str(refused)

    lab = Lab(flow).begin()
    assert "the key of the child" in lab.result
    assert lab.commands == []
    assert lab.decisions[-1].children == ()


def test_two_children_of_a_run_cannot_have_one_key():
    async def flow():
        kid("c", key="k")
        await act("a")
        try:
            kid("other", key="k")
        except ValueError as refused:
            kid("other", key="l")
            await waits()
            return str(refused)

    lab = Lab(flow).begin()
    lab.complete(1)
    assert [name for _, name, _ in lab.commands] == ["c", "a", "other"]
    lab.replays()
    lab.close()


def test_a_child_that_would_be_too_deep_is_not_started():
    async def flow():
        try:
            kid("c")
        except ChildDepthExceeded as refused:
            return [refused.activity, str(refused)]

    lab = Lab(flow, history=[started(depth=2, max_depth=2)]).begin()
    name, message = lab.result
    assert name == "c"
    assert "3 deep" in message
    assert "max_child_depth is 2" in message
    assert lab.commands == []
    lab.replays()
    lab = Lab(flow, history=[started(depth=1, max_depth=2)]).begin()
    assert len(lab.commands) == 1


def test_an_input_that_is_too_large_starts_nothing():
    async def flow():
        with pytest.raises(CodecError, match=r"input of child c takes 104 bytes"):
            kid("c", "x" * 100)
        # With its id around it, the command has to fit as well.
        with pytest.raises(CodecError, match="limit of 100"):
            kid("c", "x" * 90, key="k")
        await kid("c", "x" * 10, key="k")

    lab = Lab(flow, history=[started(max_payload=100)]).begin()
    assert [name for _, name, _ in lab.commands] == ["c"]
    lab.replays()
    lab.close()


def test_children_are_for_workflows_only():
    with pytest.raises(NotInWorkflow, match="child workflow c"):
        kid("c")


def test_a_side_effect_may_not_start_or_ask_children():
    async def flow():
        child = kid("c")
        seen = []
        for forbidden in (lambda: kid("d"), lambda: child.signal("s"), child.request_cancel):

            def refused(forbidden=forbidden):
                try:
                    forbidden()
                except ReplayError as error:
                    return type(error).__name__

            seen.append(side_effect(refused))
        return seen

    lab = Lab(flow).begin()
    assert lab.result == ["ReplayError"] * 3
    assert len(lab.decisions[-1].children) == 1
    lab.replays()


# -- awaiting


def test_awaiting_gives_the_result_as_often_as_one_asks():
    async def flow():
        child = kid("c")
        return [await child, await child, child.result(), child.done()]

    lab = Lab(flow).begin()
    lab.child_done(0, {"a": (1, 2)})
    assert lab.result == [{"a": (1, 2)}] * 3 + [True]
    assert lab.decisions[-1].cascade is None
    lab.replays()


def test_a_failed_child_raises_what_it_failed_with():
    async def flow():
        child = kid("c")
        seen = []
        for _ in range(2):
            try:
                await child
            except ChildCancelled:
                raise
            except ChildFailed as error:
                seen.append([error.activity, error.run_id, error.type_name, error.error_message, error.attempts])
        assert child.id == seen[0][1]
        return seen

    lab = Lab(flow).begin()
    # The error's name says nothing about how the run ended: its state does.
    lab.child_failed(0, Failure("CancelledError", "because", traceback="tb"))
    child_id = json.loads(lab.commands[0][2])["id"]
    assert lab.result == [["c", child_id, "CancelledError", "because", 1]] * 2
    lab.replays()


@pytest.mark.parametrize(
    ("failure", "state", "words"),
    [(None, "cancelled", "was cancelled"), (Failure("Terminated", "by hand"), "terminated", "by hand")],
)
def test_a_child_that_was_cancelled_or_terminated_raises_so(failure, state, words):
    async def flow():
        try:
            await kid("c")
        except ChildCancelled as error:
            return [error.state, str(error), error.type_name.lower()]

    lab = Lab(flow).begin()
    lab.child_cancelled(0, failure)
    assert lab.result[0] == lab.result[2] == state
    assert words in lab.result[1]
    lab.replays()


def test_an_uncaught_failure_of_a_child_fails_the_parent_and_not_as_cancelled():
    async def flow():
        await kid("c")

    for deliver in (Lab.child_failed, Lab.child_cancelled):
        lab = Lab(flow).begin()
        deliver(lab, 0)
        assert lab.decisions[-1].state is RunState.FAILED
        lab.replays()


def test_a_result_that_cannot_be_decoded_stops_the_run():
    def broken(payload):
        raise ValueError("no such class")

    async def flow():
        await kid("c", decode=broken)

    lab = Lab(flow).begin()
    with pytest.raises(CodecError, match=r"child c \(command 0\) cannot be decoded: no such class"):
        lab.child_done(0)


def test_a_failure_that_nobody_awaits_is_logged_when_the_run_ends():
    async def flow():
        kid("c")
        await wait_signal("go")

    lab = Lab(flow).begin()
    lab.child_failed(0)
    assert lab.logs == []
    lab.signal("go")
    [line] = lab.logs
    assert "child c (command 0)" in line.message
    assert "nobody was awaiting it" in line.message
    lab.replays()


def test_a_cancellation_that_was_asked_for_is_no_failure_to_log():
    async def flow():
        kid("c").request_cancel()
        await wait_signal("go")

    lab = Lab(flow).begin()
    lab.child_cancelled(0)
    lab.signal("go")
    assert lab.logs == []
    lab.replays()


async def gathered(*names):
    return await asyncio.gather(*[kid(name) for name in names])


async def grouped(*names):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(kid(name)) for name in names]
    return [task.result() for task in tasks]


async def waited(*names):
    children = [kid(name) for name in names]
    done, pending = await asyncio.wait(children)
    assert not pending
    return [child.result() for child in children if child in done]


async def one_by_one(*names):
    children = [kid(name) for name in names]
    return [await child for child in children]


async def as_they_come(*names):
    return sorted([await each for each in asyncio.as_completed([kid(name) for name in names])])


@pytest.mark.parametrize("flow", [gathered, grouped, waited, one_by_one, as_they_come])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_children_come_back_in_any_order_through_any_construct(flow, order):
    lab = Lab(flow, "a", "b", "c").begin()
    for command in order:
        lab.child_done(command, command)
    assert lab.result == [0, 1, 2]
    lab.replays()


def test_activities_and_children_mix():
    async def flow():
        first, second = await asyncio.gather(act("a"), kid("c"))
        await wait_until(lambda: first == 1)
        return [first, second, await kid("d"), await act("b")]

    lab = Lab(flow).begin()
    lab.child_done(1, 2)
    assert lab.decisions[-1].state is RunState.RUNNING
    lab.complete(0, 1)
    assert lab.decisions[-1].state is RunState.SUSPENDED
    lab.child_done(2, 3)
    lab.complete(3, 4)
    assert lab.result == [1, 2, 3, 4]
    lab.replays()


# -- signalling


class Contract:
    name = "review"

    def encode(self, value):
        if not isinstance(value, str):
            raise CodecError("review carries str", path="signal review")
        return encode(value.upper())


def test_a_signal_is_a_command_and_a_letter():
    async def flow():
        child = kid("c")
        child.signal("go", {"a": 1})
        child.signal("go")
        child.signal(Contract(), "yes")
        await child

    lab = Lab(flow).begin()
    decision = lab.decisions[-1]
    [order] = decision.children
    assert [(c[0], c[1], json.loads(c[2])) for c in lab.commands[1:]] == [
        ("signal_sent", "go", {"to": order.id, "value": {"a": 1}}),
        ("signal_sent", "go", {"to": order.id, "value": None}),
        ("signal_sent", "review", {"to": order.id, "value": "YES"}),
    ]
    assert list(decision.letters) == [
        Letter(order.id, EventType.SIGNAL_RECEIVED, "go", '{"a":1}'),
        Letter(order.id, EventType.SIGNAL_RECEIVED, "go", "null"),
        Letter(order.id, EventType.SIGNAL_RECEIVED, "review", '"YES"'),
    ]
    lab.replays()
    lab.close()


def test_a_signal_that_cannot_be_sent_is_no_command():
    async def flow():
        child = kid("c")
        seen = []
        for signal, value in ((Contract(), 7), ("s", object()), ("", 1), ("x" * 201, 1), ("big", "x" * 500)):
            try:
                child.signal(signal, value)
            except (CodecError, TypeError, ValueError) as error:
                seen.append(type(error).__name__)
        return seen

    lab = Lab(flow, history=[started(max_payload=300)]).begin()
    assert lab.result == ["CodecError", "CodecError", "TypeError", "ValueError", "CodecError"]
    assert len(lab.commands) == 1
    lab.replays()


# -- cancelling


def test_cancelling_the_handle_stops_waiting_and_asks_the_child():
    async def flow():
        child = kid("c")
        await act("a")
        assert child.cancel()
        assert not child.cancel()
        assert not child.request_cancel()
        try:
            await child
        except asyncio.CancelledError:
            return await act("b")

    lab = Lab(flow).begin()
    child_id = lab.decisions[-1].children[0].id
    decision = lab.complete(1)
    assert [(str(e.type), e.command, e.name) for e in decision.events[1:3]] == [
        ("child_cancel_requested", 0, "c"),
        ("activity_scheduled", 2, "b"),
    ]
    assert list(decision.letters) == [Letter(child_id, EventType.CANCEL_REQUESTED)]
    assert not lab.execution.expects(0)
    lab.replays()
    lab.complete(2, 5)
    assert lab.result == 5
    lab.replays()


def test_the_end_of_a_child_that_nobody_waits_for_is_ignored():
    async def flow():
        child = kid("c")
        child.cancel()
        await wait_signal("go")
        return child.cancelled()

    lab = Lab(flow).begin()
    assert not lab.execution.expects(0)
    # The runtime consumes it unread; a journal that holds it all the same replays.
    lab.child_done(0, "late")
    lab.signal("go")
    assert lab.result is True
    lab.replays()


def test_asking_goes_on_waiting():
    async def flow():
        child = kid("c")
        await act("a")
        assert [child.request_cancel(), child.request_cancel()] == [True, False]
        try:
            return await child
        except ChildCancelled as error:
            return [error.state, child.request_cancel(), child.cancel()]

    lab = Lab(flow).begin()
    decision = lab.complete(1)
    assert [letter.kind for letter in decision.letters] == [EventType.CANCEL_REQUESTED]
    assert lab.types.count("child_cancel_requested") == 1
    lab.replays()
    lab.child_cancelled(0)
    assert lab.result == ["cancelled", False, False]
    lab.replays()


def test_a_child_may_complete_although_it_was_asked():
    async def flow():
        child = kid("c")
        child.request_cancel()
        return await child

    lab = Lab(flow).begin()
    assert [letter.chain_id for letter in lab.decisions[-1].letters] == [lab.decisions[-1].children[0].id]
    lab.child_done(0, "anyway")
    assert lab.result == "anyway"
    lab.replays()


def test_asked_and_then_cancelled_it_gets_one_letter():
    async def flow():
        child = kid("c")
        await act("a")
        child.request_cancel()
        child.cancel()
        await wait_signal("go")

    lab = Lab(flow).begin()
    decision = lab.complete(1)
    assert len(decision.letters) == 1
    assert lab.types.count("child_cancel_requested") == 1
    lab.replays()
    lab.close()


def test_a_child_to_be_abandoned_is_asked_only_when_one_says_so():
    async def flow():
        children = [kid("c", close="abandon") for _ in range(2)]
        await act("a")
        children[0].cancel()
        children[1].request_cancel()
        await wait_signal("go")

    lab = Lab(flow).begin()
    ids = [order.id for order in lab.decisions[-1].children]
    decision = lab.complete(2)
    assert list(decision.letters) == [Letter(ids[1], EventType.CANCEL_REQUESTED)]
    assert not lab.execution.expects(0)
    assert lab.execution.expects(1)
    lab.replays()
    lab.close()


def test_a_timeout_around_a_child_asks_it_to_cancel():
    async def flow():
        try:
            async with asyncio.timeout(5):
                await kid("c")
        except TimeoutError:
            return await act("b")

    lab = Lab(flow).begin()
    decision = lab.fire()
    assert [letter.kind for letter in decision.letters] == [EventType.CANCEL_REQUESTED]
    lab.replays()
    lab.close()


def test_a_shield_keeps_a_child_from_a_timeout():
    async def flow():
        child = kid("c")
        try:
            await asyncio.wait_for(asyncio.shield(child), 5)
        except TimeoutError:
            return await child

    lab = Lab(flow).begin()
    assert not lab.fire().reaches_out
    lab.child_done(0, 3)
    assert lab.result == 3
    lab.replays()


def test_a_failing_sibling_in_a_group_asks_the_others():
    async def flow():
        try:
            await grouped("a", "b", "c")
        except* ChildFailed:
            pass
        await wait_signal("go")

    lab = Lab(flow).begin()
    ids = [order.id for order in lab.decisions[-1].children]
    decision = lab.child_failed(1)
    assert [letter.chain_id for letter in decision.letters] == [ids[0], ids[2]]
    lab.replays()
    lab.close()


def test_eviction_leaves_no_trace():
    async def flow():
        child = kid("c")
        try:
            await child
        finally:
            child.signal("never")

    lab = Lab(flow).begin()
    lab.close()
    decision = lab.execution.decide()
    assert (decision.events, decision.letters, decision.children) == ([], (), ())


def test_the_handle_says_what_it_is():
    kept = Keeper()

    async def flow():
        kept.child = kid("c", key="k", close="terminate")
        await waits()

    lab = Lab(flow).begin()
    child = kept.child
    assert (child.key, child.on_parent_close, child.id) == ("k", "terminate", lab.decisions[-1].children[0].id)
    assert repr(child) == "<child c (command 0) pending>"
    lab.close()


# -- older histories


def test_a_change_that_asks_for_what_was_not_asked_then_asks_at_the_tip():
    """Notes are not numbered: code that now cancels a child where it did not before goes on, and does so."""

    async def before():
        kid("c")
        await act("a")
        await wait_signal("go")

    async def after():
        child = kid("c")
        await act("a")
        child.cancel()
        await wait_signal("go")

    lab = Lab(before).begin()
    lab.complete(1)
    decision = replay(after, lab.history)
    assert [str(e.type) for e in decision.events] == ["child_cancel_requested"]
    assert len(decision.letters) == 1
    lab.close()


def test_a_change_to_a_run_that_has_ended_asks_nobody():
    async def before():
        kid("c")
        await act("a")

    async def after():
        child = kid("c")
        await act("a")
        child.cancel()

    lab = Lab(before).begin()
    lab.complete(1)
    decision = replay(after, lab.history)
    assert (decision.events, decision.reaches_out) == ([], False)


def test_the_input_is_compared_by_meaning():
    async def flow(value):
        await kid("c", value)

    lab = Lab(flow, {"b": 1, "a": 2}).begin()
    text = msgspec.json.format(lab.history[2].payload.encode(), indent=2).decode()
    history = [*lab.history[:2], msgspec.structs.replace(lab.history[2], payload=text)]
    execution = Execution(entry=entry_of(flow), run=RUN)
    execution.replay(loaded(history))
    assert execution.decide().events == []
    execution.evict()
    lab.close()
