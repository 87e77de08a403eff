"""What happens to a run reaches its children: a request to cancel, its end, and an order to end without code."""

import asyncio

import pytest

from continuum.model.decisions import Cascade, Letter
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.runs import RunState
from continuum.replay.effects.attributes import set_attributes
from continuum.replay.effects.continue_as_new import continue_as_new
from continuum.replay.effects.signal import wait_signal
from continuum.replay.execution import Execution
from tests.replay.lab import RUN, Lab, act, entry_of, kid, loaded, replay, started

POLICIES = ("cancel", "terminate", "abandon")


def waits():
    return asyncio.Event().wait()


def started_children(lab):
    return [order.id for decision in lab.decisions for order in decision.children]


def asked(run_id):
    return Letter(run_id, EventType.CANCEL_REQUESTED)


def ended(run_id):
    failure = Failure("Terminated", f"its parent {RUN.run_id} ended")
    return Letter(run_id, EventType.RUN_TERMINATED, None, failure.encode())


async def three():
    for policy in POLICIES:
        kid(policy, close=policy)
    await cleanup()


async def cleanup():
    try:
        await wait_signal("go")
    except asyncio.CancelledError:
        await act("cleanup")
        raise


# -- a request to cancel


def test_a_request_goes_to_the_children_of_earlier_turns_by_cascade():
    lab = Lab(three).begin()
    decision = lab.cancel()
    assert (decision.cascade, decision.letters) == (Cascade.CANCEL, ())
    assert "child_cancel_requested" not in lab.types
    lab.replays()
    lab.close()


def test_a_request_goes_to_the_children_of_the_same_turn_by_letter():
    lab = Lab(three)
    lab.begin(decide=False)
    decision = lab.cancel()
    ids = [order.id for order in decision.children]
    assert (decision.cascade, list(decision.letters)) == (None, [asked(ids[0]), asked(ids[1])])
    lab.replays()
    lab.close()


def test_a_request_goes_to_both_kinds():
    async def flow():
        kid("old")
        await wait_signal("more")
        kid("new")
        await cleanup()

    lab = Lab(flow).begin()
    lab.signal("more", decide=False)
    decision = lab.cancel()
    assert (decision.cascade, list(decision.letters)) == (Cascade.CANCEL, [asked(decision.children[0].id)])
    lab.replays()
    lab.close()


def test_where_turns_are_cut_does_not_change_the_history():
    async def flow():
        kid("old")
        await wait_signal("more")
        new = kid("new")
        try:
            await new
        except asyncio.CancelledError:
            await act("cleanup")
            raise

    histories = []
    for cuts in (True, False):
        lab = Lab(flow)
        lab.begin(decide=cuts)
        lab.signal("more", decide=cuts)
        lab.cancel(decide=cuts)
        lab.complete(3)
        histories.append(lab.history)
        lab.replays()
    assert histories[0] == histories[1]


def test_a_child_that_was_asked_by_the_cascade_is_not_asked_again():
    """Its handle is cancelled by the same request, since the run awaits it: no note and no letter follow."""

    async def flow():
        children = [kid("awaited"), kid("other"), kid("abandoned", close="abandon")]
        try:
            await asyncio.gather(*children)
        except asyncio.CancelledError:
            assert not any(child.cancel() or child.request_cancel() for child in children[:2])
            await act("cleanup")
            raise

    for together in (False, True):
        lab = Lab(flow)
        lab.begin(decide=not together)
        decision = lab.cancel()
        assert "child_cancel_requested" not in lab.types
        assert len(decision.letters) == (2 if together else 0)
        lab.replays()
        lab.complete(3)
        assert lab.types[-1] == "run_cancelled"
        lab.replays()


def test_a_child_asked_before_gets_no_second_letter():
    async def flow():
        kid("c").request_cancel()
        await cleanup()

    lab = Lab(flow)
    lab.begin(decide=False)
    decision = lab.cancel()
    assert list(decision.letters) == [asked(decision.children[0].id)]
    lab.replays()
    lab.close()


def test_a_child_started_after_the_request_is_not_asked():
    async def flow():
        try:
            await waits()
        except asyncio.CancelledError:
            return await kid("undo")

    lab = Lab(flow).begin()
    decision = lab.cancel()
    assert (decision.cascade, decision.letters, len(decision.children)) == (None, (), 1)
    lab.child_done(0, "undone")
    assert lab.result == "undone"
    assert lab.decisions[-1].cascade is None
    lab.replays()


def test_a_shielded_child_is_asked_too_and_still_awaited():
    async def flow():
        child = kid("c")
        try:
            await asyncio.shield(child)
        except asyncio.CancelledError:
            return await child

    lab = Lab(flow).begin()
    assert lab.cancel().cascade is Cascade.CANCEL
    assert lab.execution.expects(0)
    lab.child_done(0, "in spite of it")
    assert lab.result == "in spite of it"
    lab.replays()


def test_a_second_request_reaches_nobody():
    lab = Lab(three).begin()
    lab.cancel()
    assert not lab.cancel().reaches_out
    lab.replays()
    lab.close()


def test_a_run_without_children_asks_nobody():
    lab = Lab(cleanup).begin()
    assert not lab.cancel().reaches_out
    assert not lab.complete(1).reaches_out
    lab.replays()


def test_a_replayed_run_asks_those_it_started_before():
    lab = Lab(three).begin()
    resumed = Lab(three, history=lab.history)
    assert resumed.cancel().cascade is Cascade.CANCEL
    again = Lab(three, history=resumed.history)
    assert not again.decide().reaches_out
    assert again.complete(4).cascade is Cascade.CLOSE
    for each in (lab, resumed, again):
        each.close()


# -- the end


def test_the_end_closes_the_children_of_earlier_turns_by_cascade():
    for ends in (Lab.cancel, lambda lab: lab.signal("go")):
        lab = Lab(three).begin()
        ends(lab)
        if not lab.ended:
            lab.complete(4)
        decision = lab.decisions[-1]
        assert (decision.cascade, decision.letters) == (Cascade.CLOSE, ())
        lab.replays()


def test_the_end_replaces_a_request_of_the_same_turn():
    async def flow():
        for policy in POLICIES:
            kid(policy, close=policy)
        await waits()

    lab = Lab(flow).begin()
    decision = lab.cancel()
    assert (decision.state, decision.cascade, decision.letters) == (RunState.CANCELLED, Cascade.CLOSE, ())
    lab.replays()
    lab = Lab(flow)
    lab.begin(decide=False)
    decision = lab.cancel()
    one, two, _ = (order.id for order in decision.children)
    assert list(decision.letters) == [asked(one), asked(two), ended(two)]
    assert decision.cascade is None
    lab.replays()


def test_a_failure_closes_as_a_result_does():
    async def flow():
        kid("old")
        await act("a")
        kid("new", close="terminate")
        raise ValueError

    lab = Lab(flow).begin()
    decision = lab.complete(1)
    assert decision.state is RunState.FAILED
    assert (decision.cascade, list(decision.letters)) == (Cascade.CLOSE, [ended(decision.children[0].id)])
    lab.replays()


def test_a_run_whose_children_have_all_ended_has_nobody_to_close():
    async def flow():
        await kid("a")
        try:
            await kid("b")
        finally:
            return await kid("c")  # noqa: B012

    lab = Lab(flow).begin()
    lab.child_done(0)
    lab.child_failed(1)
    decision = lab.child_cancelled(2)
    assert lab.ended
    assert not decision.reaches_out
    lab.replays()


def test_a_child_whose_handle_was_cancelled_may_still_be_there_at_the_end():
    async def flow():
        kid("a").cancel()
        await kid("b")

    lab = Lab(flow).begin()
    assert lab.child_done(1).cascade is Cascade.CLOSE
    lab.replays()


def test_the_children_of_earlier_runs_of_the_chain_count():
    async def flow():
        await wait_signal("go")

    history = [started(family=True)]
    for ends in ("cancel", "signal"):
        lab = Lab(flow, history=history).begin()
        decision = lab.cancel() if ends == "cancel" else lab.signal("go")
        assert decision.cascade is Cascade.CLOSE
        lab.replays()
    # Also if the run ends before any of its code ran.
    lab = Lab(flow, history=history)
    decision = lab.cancel()
    assert (decision.state, decision.cascade) == (RunState.CANCELLED, Cascade.CLOSE)
    lab.replays()


def test_what_tasks_left_over_ask_for_while_they_are_ended_reaches_nobody():
    async def background():
        child = kid("c")
        try:
            await child
        finally:
            child.request_cancel()
            kid("late")

    async def flow():
        task = asyncio.create_task(background())
        await act("a")
        return task.done()

    lab = Lab(flow).begin()
    decision = lab.complete(0)
    assert (decision.children, decision.letters, decision.cascade) == ((), (), Cascade.CLOSE)
    lab.replays()


def test_an_end_that_only_new_code_reaches_closes_children_too():
    async def before():
        kid("c")
        await act("a")
        await waits()

    async def after():
        kid("c")
        await act("a")

    lab = Lab(before).begin()
    lab.complete(1)
    decision = replay(after, lab.history)
    assert (decision.state, decision.cascade) == (RunState.COMPLETED, Cascade.CLOSE)
    lab.close()


# -- terminated


FAILURE = Failure("Terminated", "its parent ended")


def test_a_termination_ends_the_run_without_its_code():
    ran = []

    async def flow():
        kid("c")
        act("a")
        try:
            await wait_signal("go")
        finally:
            ran.append("finally")
            act("undo")

    lab = Lab(flow).begin()
    decision = lab.terminate(FAILURE)
    [event] = decision.events
    assert (event.type, Failure.parse(event.payload), event.at) == (EventType.RUN_TERMINATED, FAILURE, lab.clock)
    assert (decision.state, decision.cascade, decision.cancelled) == (RunState.TERMINATED, Cascade.CLOSE, [1])
    assert (decision.wake_at, decision.orders) == (None, [])
    assert ran == ["finally"]
    assert lab.ended
    with pytest.raises(RuntimeError, match="run_terminated cannot be delivered"):
        lab.terminate()
    lab.replays()


def test_a_run_can_be_terminated_before_it_begins():
    ran = []

    async def flow():
        ran.append(1)

    lab = Lab(flow, history=[started(family=True)])
    decision = lab.terminate(FAILURE)
    assert (decision.state, decision.cascade) == (RunState.TERMINATED, Cascade.CLOSE)
    assert lab.types == ["run_terminated"]
    assert ran == []
    lab.replays()


def test_a_termination_in_a_turn_of_its_children_tells_them_by_letter():
    async def flow():
        set_attributes({"a": 1})
        kid("c", close="terminate")
        await waits()

    lab = Lab(flow)
    lab.begin(decide=False)
    decision = lab.terminate(FAILURE)
    [order] = decision.children
    assert (list(decision.letters), decision.cascade) == ([ended(order.id)], None)
    assert decision.attributes == '{"a":1}'
    lab.replays()


def test_a_termination_is_never_stamped_before_what_came_before():
    lab = Lab(waits).begin()
    lab.execution.terminate(FAILURE.encode(), 5)
    assert lab.decide().events[-1].at == lab.history[-2].at
    lab.replays()


def test_a_termination_during_the_cleanup_of_a_cancelled_run():
    lab = Lab(three).begin()
    lab.cancel()
    decision = lab.terminate(FAILURE)
    assert (decision.state, decision.cancelled, decision.cascade) == (RunState.TERMINATED, [4], Cascade.CLOSE)
    lab.replays()


def test_a_run_that_was_not_replayed_cannot_be_terminated():
    execution = Execution(entry=entry_of(waits), run=RUN)
    with pytest.raises(RuntimeError, match="not replayed"):
        execution.terminate(None, 1)
    execution.replay(loaded([started()]))
    execution.evict()
    with pytest.raises(RuntimeError):
        execution.terminate(None, 1)


# -- continuing as new


def test_a_run_that_continues_closes_nobody():
    async def flow(n):
        kid("old")
        await wait_signal("go")
        kid("new")
        continue_as_new(n + 1)

    lab = Lab(flow, 1).begin()
    decision = lab.signal("go")
    assert (decision.state, decision.cascade, decision.letters) == (RunState.CONTINUED, None, ())
    assert len(decision.children) == 1
    lab.replays()


def test_a_request_in_the_turn_in_which_a_run_continues_is_passed_on_to_children_and_successor():
    async def flow():
        kid("old")
        try:
            await waits()
        except asyncio.CancelledError:
            continue_as_new()

    lab = Lab(flow).begin()
    decision = lab.cancel()
    assert (decision.state, decision.cascade) == (RunState.CONTINUED, Cascade.CANCEL)
    assert list(decision.letters) == [asked(RUN.chain_id)]
    lab.replays()
