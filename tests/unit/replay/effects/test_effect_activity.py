"""Activity calls: scheduled at once, awaited in every way, withdrawn once."""

import asyncio

import pytest

from continuum.errors import ActivityCancelled, ActivityFailed, ActivityTimedOut, CodecError, NotInWorkflow
from continuum.model.codec import encode
from continuum.model.events import EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.policies import ActivityPolicy
from continuum.replay.effects.activity import schedule
from tests.replay.lab import POLICY, POLICY_TEXT, Lab, act, replay


def waits():
    return asyncio.Event().wait()


def test_a_call_is_scheduled_at_once_awaited_or_not():
    async def flow():
        act("a", 1, key="k")
        act("b", [2])
        await waits()

    lab = Lab(flow)
    decision = lab.begin().decisions[-1]
    assert [(o.command, o.activity, o.arguments, o.idempotency_key) for o in decision.orders] == [
        (0, "a", "[1]", "k"),
        (1, "b", "[[2]]", None),
    ]
    assert decision.orders[0].policy is POLICY
    assert decision.orders[0].policy_text is POLICY_TEXT
    scheduled = [e for e in decision.events if e.type == EventType.ACTIVITY_SCHEDULED]
    assert [(e.seq, e.command, e.name, e.payload) for e in scheduled] == [(3, 0, "a", "[1]"), (4, 1, "b", "[[2]]")]
    assert decision.state == "running"
    assert set(lab.execution.open_activities) == {0, 1}
    lab.close()


def test_orders_are_given_once():
    async def flow():
        await act("a")
        await act("b")
        await waits()

    lab = Lab(flow).begin()
    assert [o.activity for o in lab.complete(0).orders] == ["b"]
    assert lab.complete(1).orders == []
    assert lab.decisions[-1].state == "suspended"
    lab.replays()
    lab.close()


def test_a_result_may_be_awaited_again_and_by_many():
    async def flow():
        future = act("a")

        async def reader():
            return await future

        values = await asyncio.gather(reader(), reader(), future)
        return [*values, await future, future.result(), future.done()]

    lab = Lab(flow).begin()
    lab.complete(0, {"x": 1})
    assert lab.result == [{"x": 1}] * 5 + [True]
    lab.replays()


def test_results_arrive_in_the_order_they_were_delivered():
    async def flow():
        seen = []
        futures = [act(str(i)) for i in range(4)]
        for i, future in enumerate(futures):
            future.add_done_callback(lambda _, i=i: seen.append(i))
        await asyncio.wait(futures)
        return seen

    lab = Lab(flow).begin()
    for command in (2, 0, 3, 1):
        lab.complete(command)
    assert lab.result == [2, 0, 3, 1]
    lab.replays()


FAILURES = {
    FailureKind.RAISED: ActivityFailed,
    FailureKind.WORKER_DIED: ActivityFailed,
    FailureKind.TIMED_OUT: ActivityTimedOut,
    FailureKind.HEARTBEAT_TIMED_OUT: ActivityTimedOut,
    FailureKind.CANCELLED: ActivityCancelled,
}


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize("awaited", ["suspended", "gathered"])
def test_a_failure_is_raised_as_what_it_is(kind, awaited):
    """MEM-01, MEM-02: the error is journaled, and the same on replay."""

    async def flow():
        try:
            if awaited == "gathered":
                await asyncio.gather(act("charge"))
            else:
                await act("charge")
        except FAILURES[kind] as error:
            return [type(error).__name__, error.activity, error.attempts, str(error)]

    lab = Lab(flow).begin()
    lab.fail(0, Failure("shop.Declined", "no money", "Traceback…", kind=kind, attempts=3))
    name, activity, attempts, text = lab.result
    assert (name, activity, attempts) == (FAILURES[kind].__name__, "charge", 3)
    assert "charge" in text
    assert "no money" in text
    lab.replays()


def test_a_failure_tells_all_that_is_known():
    async def flow():
        try:
            await act("charge")
        except ActivityFailed as error:
            return [error.type_name, error.error_message, error.remote_traceback, error.cause.type_name]

    lab = Lab(flow).begin()
    lab.fail(0, Failure("E", "m", "tb", attempts=1, cause=Failure("C", "c")))
    assert lab.result == ["E", "m", "tb", "C"]

    async def timed_out():
        try:
            await act("charge")
        except TimeoutError as error:
            return error.limit

    lab = Lab(timed_out).begin()
    lab.fail(0, Failure("E", "m", kind=FailureKind.HEARTBEAT_TIMED_OUT))
    assert lab.result == "heartbeat_timeout"


def test_an_uncaught_failure_fails_the_run():
    async def flow():
        await act("charge")

    lab = Lab(flow).begin()
    lab.fail(0)
    assert lab.failure.type_name == "continuum.errors.ActivityFailed"
    assert lab.decisions[-1].state == "failed"
    lab.replays()


def test_a_failure_nobody_awaited_is_told_when_the_run_ends():
    async def flow(read):
        future = act("a")
        await asyncio.sleep(1)
        if read:
            future.exception()
        return "done"

    for read, told in ((False, 1), (True, 0)):
        lab = Lab(flow, read).begin()
        lab.fail(0)
        assert lab.logs == []
        lab.fire()
        assert [line.level for line in lab.logs] == [40] * told
        assert all("activity a" in line.message and "nobody was awaiting" in line.message for line in lab.logs)


def test_a_result_that_cannot_be_decoded_stops_the_run_and_cannot_be_caught():
    async def flow():
        try:
            await act("a")
        except Exception:
            return "caught"

    for gathered in (False, True):

        async def gathers():
            try:
                await asyncio.gather(act("a"))
            except Exception:
                return "caught"

        lab = Lab(gathers if gathered else flow).begin()
        with pytest.raises(CodecError, match=r"activity a \(command 0\)"):
            lab.deliver(EventType.ACTIVITY_COMPLETED, 0, "a", "{")
        assert not lab.ended


def test_a_failure_that_cannot_be_decoded_stops_the_run_too():
    async def flow():
        await act("a")

    for payload in ("{", "[]", None):
        lab = Lab(flow).begin()
        with pytest.raises(CodecError, match="outcome of activity a"):
            lab.deliver(EventType.ACTIVITY_FAILED, 0, "a", payload)


def test_a_decoder_may_raise_anything():
    def decode(payload):
        raise ZeroDivisionError(payload)

    async def flow():
        return await schedule("a", "[]", policy=ActivityPolicy(), policy_text="{}", decode=decode)

    lab = Lab(flow).begin()
    with pytest.raises(CodecError, match="ZeroDivisionError|division|cannot be decoded"):
        lab.complete(0, 1)


def test_a_completion_without_a_payload_is_none():
    async def flow():
        return [await act("a")]

    lab = Lab(flow).begin()
    lab.deliver(EventType.ACTIVITY_COMPLETED, 0, "a", None)
    assert lab.result == [None]


# -- withdrawing


def cancelled_notes(lab):
    return [e.command for e in lab.history if e.type == EventType.ACTIVITY_CANCELLED]


CANCELS = {
    "future": lambda future, task: future.cancel(),
    "task": lambda future, task: task.cancel(),
    "both": lambda future, task: (future.cancel(), task.cancel(), future.cancel()),
}


@pytest.mark.parametrize("how", CANCELS)
def test_a_withdrawn_activity_is_noted_once_and_its_task_goes(how):
    async def flow():
        future = act("a")

        async def reader():
            await future

        task = asyncio.create_task(reader())
        await asyncio.sleep(1)
        CANCELS[how](future, task)
        await asyncio.wait([task])
        assert task.cancelled()
        await waits()

    lab = Lab(flow).begin()
    decision = lab.fire()
    assert decision.cancelled == [0]
    assert cancelled_notes(lab) == [0]
    assert not lab.execution.expects(0)
    assert decision.state == "suspended"
    lab.replays()
    lab.close()


def test_an_activity_withdrawn_in_the_turn_that_asked_for_it_is_never_ordered():
    async def flow():
        act("a").cancel()
        act("b")
        await waits()

    lab = Lab(flow).begin()
    decision = lab.decisions[-1]
    assert [o.activity for o in decision.orders] == ["b"]
    assert decision.cancelled == []
    assert lab.types == ["run_began", "activity_scheduled", "activity_cancelled", "activity_scheduled"]
    lab.replays()
    lab.close()


def test_cancelling_what_has_its_outcome_changes_nothing():
    async def flow():
        future = act("a")
        await future
        return [future.cancel(), future.cancelled()]

    lab = Lab(flow).begin()
    lab.complete(0)
    assert lab.result == [False, False]
    assert cancelled_notes(lab) == []


def test_a_late_outcome_of_a_withdrawn_activity_is_ignored_live_and_on_replay():
    async def flow():
        future = act("a")
        await asyncio.sleep(1)
        future.cancel()
        await asyncio.sleep(1)
        return future.cancelled()

    lab = Lab(flow).begin()
    lab.fire(decide=False)
    lab.complete(0, "late", decide=False)
    lab.fire()
    assert lab.result is True
    lab.replays()


@pytest.mark.parametrize("construct", ["timeout", "wait_for", "gather", "task group", "wait"])
def test_constructs_that_cancel_withdraw_what_they_waited_for(construct):
    async def flow():
        try:
            match construct:
                case "timeout":
                    async with asyncio.timeout(1):
                        await act("a")
                case "wait_for":
                    await asyncio.wait_for(act("a"), 1)
                case "gather":
                    group = asyncio.gather(act("a"), asyncio.sleep(50))
                    asyncio.get_running_loop().call_later(1, group.cancel)
                    await group
                case "task group":
                    async with asyncio.TaskGroup() as tasks:

                        async def wait():
                            await act("a")

                        tasks.create_task(wait())
                        await asyncio.sleep(1)
                        raise ValueError
                case "wait":
                    _, pending = await asyncio.wait([act("a")], timeout=1)
                    pending.pop().cancel()
        except (TimeoutError, asyncio.CancelledError, ExceptionGroup):
            pass
        await waits()

    lab = Lab(flow).begin()
    waited_for = list(lab.execution.open_activities)
    assert len(waited_for) == 1
    assert lab.fire().cancelled == waited_for
    lab.replays()
    lab.close()


def test_a_shielded_activity_goes_on():
    async def flow():
        future = act("a")
        try:
            async with asyncio.timeout(1):
                await asyncio.shield(future)
        except TimeoutError:
            return [await future]

    lab = Lab(flow).begin()
    assert lab.fire().cancelled == []
    lab.complete(0, 5)
    assert lab.result == [5]
    lab.replays()


def test_a_withdrawal_that_changed_code_adds_reaches_the_task():
    """The history says nothing of it, so the next decision does."""

    async def before():
        act("a")
        await waits()

    async def after():
        act("a").cancel()
        await waits()

    lab = Lab(before).begin()
    decision = replay(after, lab.history)
    assert decision.cancelled == [0]
    assert [str(e.type) for e in decision.events] == ["activity_cancelled"]
    lab.close()


def test_activities_still_open_when_the_run_ends_are_withdrawn():
    async def flow():
        act("a")
        await asyncio.sleep(1)
        act("b")
        return "done"

    lab = Lab(flow).begin()
    decision = lab.fire()
    assert decision.cancelled == [0]
    assert decision.orders == []
    assert decision.wake_at is None
    assert lab.types[-2:] == ["activity_scheduled", "run_completed"]
    lab.replays()


# -- elsewhere


def test_outside_of_workflows_scheduling_says_so():
    with pytest.raises(NotInWorkflow, match="activity a"):
        act("a")


def test_a_future_shows_what_it_is_of():
    async def flow():
        future = act("charge")
        return repr(future)

    assert Lab(flow).begin().result == "<activity charge (command 0) pending>"


def test_arguments_are_compared_as_values_where_their_text_differs():
    """A release whose encoder writes the same value in another way must not drift."""

    async def before():
        await schedule("a", '{"args": [1.0], "kwargs": {}}', policy=POLICY, policy_text="{}", decode=encode)

    async def after():
        await schedule("a", '{"args":[1.0],"kwargs":{}}', policy=POLICY, policy_text="{}", decode=encode)

    lab = Lab(before).begin()
    assert replay(after, lab.history).events == []
    lab.close()
