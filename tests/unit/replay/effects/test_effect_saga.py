"""Sagas: what succeeded is undone, newest first, once, whoever was cancelled meanwhile."""

import asyncio
import contextlib

import pytest

from continuum.errors import ActivityFailed, CompensationError, NotInWorkflow, ReplayDriftError
from continuum.model.codec import decode
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.runs import RunState
from continuum.replay.compensations import Stage
from continuum.replay.effects.saga import compensate, compensate_all, saga
from tests.replay.lab import Lab, act, kid, replay
from tests.support.undoing import Undoes, undone

undo_a, undo_b, undo_c = Undoes("undo_a"), Undoes("undo_b"), Undoes("undo_c")


class Sold(Exception):
    pass


def done_with(name, undo, *args):
    return act(name).compensate(undo, *args)


def notes(lab):
    return [(e.type, e.command) for e in lab.history if e.type == EventType.ACTIVITY_CANCELLED]


# -- the block


async def two_and_out():
    async with saga() as undo:
        await done_with("a", undo_a, "a", 1)
        await done_with("b", undo_b)
        raise Sold(undo.outcome)


def test_what_succeeded_is_undone_newest_first_one_after_the_other():
    lab = Lab(two_and_out).begin()
    lab.complete(0)
    assert undone(lab) == []
    decision = lab.complete(1)
    assert undone(lab) == [(2, "undo_b", 1, [])]
    assert [(order.command, order.activity, order.arguments) for order in decision.orders] == [(2, "undo_b", "[]")]
    lab.complete(2)
    assert undone(lab)[1:] == [(3, "undo_a", 0, ["a", 1])]
    assert not lab.ended
    lab.complete(3)
    assert (lab.failure.type_name, lab.failure.message) == (f"{__name__}.Sold", "None")
    assert lab.logs == []
    # Also those that no line of workflow code asks for stand where the block was left.
    line = two_and_out.__code__.co_firstlineno + 1
    places = {e.location for e in lab.history if e.type == EventType.COMPENSATION_SCHEDULED}
    assert len(places) == 1 and places.pop().endswith(f"test_effect_saga.py:{line}")
    lab.replays()


def test_a_block_that_ends_well_undoes_nothing():
    async def flow():
        async with saga() as undo:
            result = await done_with("a", undo_a)
        return result, undo.outcome

    lab = Lab(flow).run("paid")
    assert lab.result == ("paid", None)
    assert lab.types == ["run_began", "activity_scheduled", "activity_completed", "run_completed"]
    lab.replays()


def test_a_parallel_rollback_asks_for_all_at_once_and_ends_after_the_last():
    async def flow():
        try:
            async with saga(parallel=True) as undo:
                for undoing in (undo_a, undo_b, undo_c):
                    await done_with(undoing.name, undoing)
                raise Sold  # noqa: TRY301 - what is caught is the point
        except Sold:
            return [(step.activity, step.command, step.result) for step in undo.outcome.steps], undo.outcome.ok

    lab = Lab(flow).begin()
    for command in range(2):
        lab.complete(command)
    decision = lab.complete(2)
    assert [(order.command, order.activity) for order in decision.orders] == [
        (3, "undo_c"),
        (4, "undo_b"),
        (5, "undo_a"),
    ]
    lab.complete(5, 5)
    lab.complete(3, 3)
    assert not lab.ended
    lab.complete(4, 4)
    assert lab.result == ([("undo_c", 2, 3), ("undo_b", 1, 4), ("undo_a", 0, 5)], True)
    lab.replays()


@pytest.mark.parametrize("parallel", [True, False])
def test_a_compensation_that_fails_is_told_and_keeps_no_other_from_running(parallel):
    async def flow():
        try:
            async with saga(parallel=parallel) as undo:
                await done_with("a", undo_a)
                await done_with("b", undo_b)
                raise Sold("out")  # noqa: TRY301
        except Sold as error:
            outcome = undo.outcome
            failed = [(step.activity, step.target, step.command, step.error.type_name) for step in outcome.failed]
            return failed, [step.activity for step in outcome.undone], outcome.ok, error.__notes__

    lab = Lab(flow).begin()
    for command in range(2):
        lab.complete(command)
    lab.fail(2)
    lab.complete(3)
    failed, undone_, ok, said = lab.result
    assert (failed, undone_, ok) == ([("undo_b", "b", 1, "ValueError")], ["undo_a"], False)
    message = "compensation undo_b of b (command 1) failed: "
    assert said == [message + "activity undo_b failed (3 attempts): ValueError: no"]
    assert [line.message.startswith(message) for line in lab.logs] == [True]
    lab.replays()


def test_what_belongs_to_no_call_can_be_added():
    async def flow():
        async with saga() as undo:
            undo.add(undo_a, 1)
            await done_with("b", undo_b)
            undo.add(undo_c)
            raise Sold

    lab = Lab(flow).run()
    assert undone(lab) == [(1, "undo_c", None, []), (2, "undo_b", 0, []), (3, "undo_a", None, [1])]
    lab.replays()


def test_what_is_added_to_a_block_that_is_not_open_is_refused():
    async def flow():
        said = []
        undo = saga()
        for _ in range(2):
            try:
                undo.add(undo_a)
            except CompensationError as error:
                said.append((str(error), error.activity))
            if undo.outcome is None and len(said) == 1:
                async with undo:
                    pass
        try:
            async with undo:
                pass
        except RuntimeError as error:
            return said, str(error)

    lab = Lab(flow).run()
    said, again = lab.result
    assert [text for text, _ in said] == ["undo.add() works inside of its `async with saga() as undo:` block only."] * 2
    assert "entered once" in again


def test_calls_that_failed_are_not_undone():
    async def flow():
        async with saga():
            await done_with("a", undo_a)
            await done_with("b", undo_b)

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.fail(1)
    assert undone(lab) == [(2, "undo_a", 0, [])]
    lab.complete(2)
    assert lab.failure.type_name == "continuum.errors.ActivityFailed"
    lab.replays()


def test_compensations_are_armed_in_the_order_of_their_outcomes():
    async def flow():
        async with saga():
            await asyncio.gather(done_with("a", undo_a), done_with("b", undo_b), done_with("c", undo_c))
            raise Sold

    lab = Lab(flow).begin()
    for command in (2, 0, 1):
        lab.complete(command)
    lab.run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b", "undo_a", "undo_c"]
    lab.replays()


def test_an_empty_rollback_asks_for_nothing_and_does_not_wait():
    async def flow():
        async with saga():
            raise Sold

    lab = Lab(flow).begin()
    assert lab.types == ["run_began", "run_failed"]
    lab.replays()


# -- what is in flight


def test_a_rollback_waits_for_calls_in_flight_and_undoes_those_that_succeed():
    async def flow():
        async with saga():
            await asyncio.gather(done_with("a", undo_a), done_with("b", undo_b), done_with("c", undo_c))

    lab = Lab(flow).begin()
    lab.complete(1)
    lab.fail(0)
    assert undone(lab) == [] and lab.decisions[-1].state == RunState.RUNNING
    lab.complete(2)
    assert [name for _, name, _, _ in undone(lab)] == ["undo_c"]
    lab.run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_c", "undo_b"]
    assert notes(lab) == []
    lab.replays()


def test_a_call_that_is_awaited_while_a_rollback_waits_for_it_is_not_handed_out_inline():
    async def flow():
        out = []
        call = done_with("a", undo_a)

        async def reader():
            await act("gate")
            out.append(await call)
            await act("after")

        task = asyncio.create_task(reader())
        rolled = await compensate_all()
        out.append(len(rolled.steps))
        await task
        return out

    lab = Lab(flow).begin()
    lab.complete(1)
    lab.complete(0, "x")
    lab.run()
    lab.replays()


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_cancelled_call_stays_open_and_is_undone_if_it_succeeded(succeeds):
    async def flow():
        async with saga():
            async with asyncio.timeout(10):
                await done_with("a", undo_a)

    lab = Lab(flow).begin()
    decision = lab.fire()
    assert decision.cancelled == [] and notes(lab) == []
    assert decision.state == RunState.RUNNING
    assert set(lab.execution.open_activities) == {1} and lab.execution.expects(1)
    assert not lab.execution.is_waiting_outside
    if succeeds:
        lab.complete(1)
        assert undone(lab) == [(2, "undo_a", 1, [])]
        lab.complete(2)
    else:
        lab.fail(1)
        assert undone(lab) == []
    assert lab.failure.type_name == "TimeoutError"
    lab.replays()


def test_a_task_group_that_aborts_undoes_what_succeeds_afterwards():
    async def flow():
        async with saga():
            async with asyncio.TaskGroup() as group:
                for name, undo in (("a", undo_a), ("b", undo_b), ("c", undo_c)):
                    group.create_task(done_with(name, undo))

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.fail(1)
    assert undone(lab) == []
    lab.complete(2)
    lab.run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_c", "undo_a"]
    assert lab.failure.type_name == "ExceptionGroup"
    lab.replays()


def test_a_call_cancelled_in_a_block_that_ends_well_is_withdrawn_with_it():
    async def flow():
        async with saga():
            slow, left = done_with("a", undo_a), done_with("b", undo_b)
            await asyncio.wait([slow], timeout=1)
            slow.cancel()
            await done_with("c", undo_c)
        assert left.undo is None and not left.done()
        await asyncio.wait([left], timeout=1)
        left.cancel()
        await act("d")

    lab = Lab(flow).begin()
    assert lab.fire().cancelled == [] and notes(lab) == []
    assert lab.complete(3).cancelled == [0]
    assert notes(lab) == [("activity_cancelled", 0)]
    # The one still under way is an ordinary call again.
    assert lab.fire().cancelled == [1]
    lab.run()
    assert lab.ended and undone(lab) == []
    lab.replays()


def test_the_end_of_the_run_withdraws_cancelled_calls_outside_of_sagas():
    async def flow():
        call = done_with("a", undo_a)
        call.cancel()
        await act("b")

    lab = Lab(flow).begin()
    assert set(lab.execution.open_activities) == {0, 1}
    lab.complete(1)
    assert lab.ended and lab.decisions[-1].cancelled == [0]
    assert notes(lab) == []
    lab.replays()


# -- cancellation


async def one_and_wait():
    async with saga():
        await done_with("a", undo_a)
        await asyncio.Event().wait()


def test_a_cancelled_run_is_rolled_back_before_it_ends():
    lab = Lab(one_and_wait).begin()
    lab.complete(0)
    lab.cancel()
    assert undone(lab) == [(1, "undo_a", 0, [])] and not lab.ended
    assert lab.decisions[-1].state == RunState.RUNNING
    lab.complete(1)
    assert lab.history[-1].type == EventType.RUN_CANCELLED
    lab.replays()


def test_whoever_is_cancelled_while_rolling_back_goes_and_the_run_ends_after_the_rollback():
    async def flow():
        try:
            async with saga():
                await done_with("a", undo_a)
                await done_with("b", undo_b)
                raise Sold
        finally:
            await act("c")

    lab = Lab(flow).begin()
    for command in range(2):
        lab.complete(command)
    lab.cancel()
    assert [e.name for e in lab.decisions[-1].events if e.command is not None] == ["c"]
    lab.complete(3)
    assert not lab.ended
    lab.cancel()
    assert not lab.ended
    lab.complete(2)
    assert undone(lab) == [(2, "undo_b", 1, []), (4, "undo_a", 0, [])]
    lab.complete(4)
    assert lab.history[-1].type == EventType.RUN_CANCELLED
    lab.replays()


def test_nothing_in_the_run_can_cancel_a_rollback():
    async def flow():
        async def rolls():
            async with saga():
                await done_with("a", undo_a)
                await done_with("b", undo_b)
                raise Sold

        task = asyncio.create_task(rolls())
        await act("c")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        return task.cancelled(), len(asyncio.all_tasks())

    lab = Lab(flow).begin()
    lab.complete(1)
    lab.complete(2)
    lab.complete(0)
    assert not lab.ended
    lab.run()
    assert lab.result == (True, 1)
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b", "undo_a"]
    lab.replays()


# -- blocks in blocks, and tasks


def test_an_inner_block_that_ended_well_is_undone_with_the_outer_one():
    async def flow():
        async with saga():
            await done_with("a", undo_a)
            async with saga():
                await done_with("b", undo_b)
            await done_with("c", undo_c)
            raise Sold

    lab = Lab(flow).run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_c", "undo_b", "undo_a"]
    lab.replays()


def test_an_inner_block_is_rolled_back_first_and_alone():
    async def flow():
        async with saga():
            await done_with("a", undo_a)
            with contextlib.suppress(Sold):
                async with saga():
                    await done_with("b", undo_b)
                    raise Sold
            await done_with("c", undo_c)
        return "kept"

    lab = Lab(flow).run()
    assert lab.result == "kept"
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b"]
    lab.replays()


def test_an_exception_through_both_undoes_both():
    async def flow():
        async with saga():
            await done_with("a", undo_a)
            async with saga(parallel=True):
                await done_with("b", undo_b)
                raise Sold

    lab = Lab(flow).run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b", "undo_a"]
    lab.replays()


def test_a_call_cancelled_in_an_inner_block_is_the_outer_ones_concern():
    async def flow():
        async with saga():
            async with saga():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await done_with("a", undo_a)
            await act("b")
            raise Sold

    lab = Lab(flow).begin()
    lab.fire()
    lab.complete(2)
    assert undone(lab) == [] and not lab.ended
    lab.complete(0)
    lab.run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_a"]
    lab.replays()


def test_tasks_begun_in_a_block_register_in_it():
    async def flow():
        async def part(name, undo):
            await asyncio.sleep(1)
            await done_with(name, undo)

        async with saga():
            async with asyncio.TaskGroup() as group:
                group.create_task(part("a", undo_a))
                group.create_task(part("b", undo_b))
            raise Sold

    lab = Lab(flow).run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b", "undo_a"]
    lab.replays()


def test_sagas_of_siblings_do_not_meet():
    async def flow():
        async def part(name, undo, fails):
            async with saga():
                await done_with(name, undo)
                if fails:
                    raise Sold

        await asyncio.gather(part("a", undo_a, False), part("b", undo_b, True), return_exceptions=True)
        return "both"

    lab = Lab(flow).run()
    assert lab.result == "both"
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b"]
    lab.replays()


def test_a_rollback_makes_tasks_leave_blocks_that_are_in_its_block_first():
    async def flow():
        async def part(name, undo):
            async with saga():
                await done_with(name, undo)
                await asyncio.Event().wait()

        async with saga():
            await done_with("a", undo_a)
            await asyncio.gather(part("b", undo_b), act("c"))

    lab = Lab(flow).begin()
    lab.complete(0)
    order = {e.name: e.command for e in lab.history if e.type == EventType.ACTIVITY_SCHEDULED}
    lab.complete(order["b"])
    lab.fail(order["c"])
    lab.run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b", "undo_a"]
    assert lab.failure.type_name == "continuum.errors.ActivityFailed"
    lab.replays()


@pytest.mark.parametrize("fails", [True, False])
def test_a_task_that_outlives_its_block_cannot_add_to_it(fails):
    async def flow():
        said = []

        async def part():
            await act("gate")
            try:
                await done_with("a", undo_a)
            except CompensationError as error:
                said.append(str(error))
            try:
                await compensate_all()
            except CompensationError as error:
                said.append(str(error))
            try:
                async with saga():
                    await done_with("b", undo_b)
            except CompensationError as error:
                said.append(str(error))
            try:
                await compensate_all()
            except CompensationError as error:
                said.append(str(error))

        with contextlib.suppress(Sold):
            async with saga():
                task = asyncio.create_task(part())
                await asyncio.sleep(0)
                if fails:
                    raise Sold
        await task
        return said

    lab = Lab(flow).begin()
    assert lab.complete(0).orders == ([] if fails else lab.decisions[-1].orders)
    lab.run()
    how = "is rolled back" if fails else "has ended"
    begun = f"the saga that this task was started in {how}, so nothing more can be added to it."
    assert [text.split(" Await")[0] for text in lab.result[:2]] == [begun, begun]
    # It may do something of its own, if the block ended well; back outside of that, nothing has changed.
    assert len(lab.result) == (4 if fails else 3)
    assert lab.result[-1] == lab.result[0]
    assert notes(lab) == [("activity_cancelled", 1)]
    lab.replays()


# -- by hand


def test_a_call_is_compensated_once():
    async def flow():
        said = []
        async with saga() as undo:
            first, second = done_with("a", undo_a), done_with("b", undo_b)
            await asyncio.gather(first, second)
            said.append(await compensate(first))
            try:
                await compensate(first)
            except CompensationError as error:
                said.append(str(error))
            said += [step.activity for step in (await compensate_all()).steps]
            said += [step.activity for step in (await compensate_all()).steps]
            raise Sold(said, undo.outcome)

    lab = Lab(flow).run("back")
    assert [name for _, name, _, _ in undone(lab)] == ["undo_a", "undo_b"]
    again = "a (command 0) cannot be compensated: it has been compensated already, or is being."
    assert lab.failure.message == str((["back", again, "undo_b"], None))
    lab.replays()


def test_everything_in_the_run_is_compensated_by_hand_in_an_except_block():
    async def flow():
        try:
            await done_with("a", undo_a)
            await done_with("b", undo_b)
            raise Sold  # noqa: TRY301
        except Sold as error:
            rollback = await compensate_all()
            return [step.activity for step in rollback.steps], error.__notes__

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.complete(1)
    lab.fail(2)
    lab.complete(3)
    assert lab.result[0] == ["undo_b", "undo_a"]
    assert lab.result[1] == [line.message.replace("ActivityFailed: ", "") for line in lab.logs]
    lab.replays()


def test_a_run_that_fails_outside_of_sagas_undoes_nothing_by_itself():
    async def flow():
        await done_with("a", undo_a)
        raise Sold

    lab = Lab(flow).run()
    assert undone(lab) == []
    lab.replays()


def test_the_failure_of_a_compensation_by_hand_is_raised_and_not_logged():
    async def flow():
        call = done_with("a", undo_a)
        await call
        try:
            await compensate(call)
        except ActivityFailed as error:
            return error.activity

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.fail(1)
    assert lab.result == "undo_a" and lab.logs == []
    lab.replays()


def test_a_cancelled_call_is_waited_for_and_then_compensated():
    async def flow():
        a, b = done_with("a", undo_a), done_with("b", undo_b)
        a.cancel()
        b.cancel()
        out = [await compensate(a)]
        try:
            await compensate(b)
        except CompensationError as error:
            out.append(str(error))
        return out

    lab = Lab(flow).begin()
    lab.fail(1)
    lab.complete(0)
    lab.complete(2, "back")
    failed = "b (command 1) cannot be compensated: it did not succeed, so there is nothing to undo."
    assert lab.result == ["back", failed]
    lab.replays()


def test_compensating_goes_on_without_those_who_waited_and_the_run_waits_for_it():
    async def flow():
        call = done_with("a", undo_a)
        await call
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await compensate(call)
        return "left"

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.fire()
    assert not lab.ended
    lab.fail(2)
    assert lab.result == "left"
    assert [line.message.split(":")[0] for line in lab.logs] == ["compensation undo_a of a (command 0) failed"]
    lab.replays()


def test_a_rollback_waits_for_what_is_being_compensated_by_hand():
    async def flow():
        async with saga():
            await done_with("a", undo_a)
            call = done_with("b", undo_b)
            await call
            async with asyncio.timeout(1):
                await compensate(call)

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.complete(1)
    lab.fire()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b"]
    lab.run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_b", "undo_a"]
    assert lab.failure.type_name == "TimeoutError"
    lab.replays()


def test_compensating_all_leaves_the_block_open():
    async def flow():
        async with saga():
            await done_with("a", undo_a)
            await compensate_all(parallel=True)
            await done_with("b", undo_b)
            raise Sold

    lab = Lab(flow).run()
    assert [name for _, name, _, _ in undone(lab)] == ["undo_a", "undo_b"]
    lab.replays()


def test_what_cannot_be_compensated_says_why():
    async def flow():
        out = []

        async def ask(call):
            try:
                await compensate(call)
            except CompensationError as error:
                out.append((str(error), error.activity, error.attempts))

        plain, pending, failed = act("plain"), done_with("pending", undo_a), done_with("failed", undo_a)
        await ask(plain)
        await ask(pending)
        await asyncio.wait([failed])
        await ask(failed)
        async with saga():
            kept = done_with("kept", undo_b)
            await kept
        await ask(kept)
        return out

    lab = Lab(flow).begin()
    lab.fail(2)
    lab.complete(3)
    said = lab.result
    assert [each[1:] for each in said] == [("plain", 0), ("pending", 0), ("failed", 0), ("kept", 0)]
    assert [each[0] for each in said] == [
        "<activity plain (command 0) pending> has no compensation: give it one with .compensate(undo, ...).",
        "pending (command 1) cannot be compensated: it has no outcome yet: await it first, or cancel it.",
        "failed (command 2) cannot be compensated: it did not succeed, so there is nothing to undo.",
        f"kept (command 3) cannot be compensated: it {Stage.DROPPED.value}.",
    ]
    lab.replays()


def test_only_calls_and_only_booleans():
    async def flow():
        out = []
        for wrong in (lambda: compensate("a"), lambda: compensate_all(parallel="yes"), lambda: saga(parallel=1)):
            try:
                wrong()
            except TypeError as error:
                out.append(str(error))
        return out

    assert Lab(flow).run().result == [
        "compensate() takes a call, not 'a': keep what `charge(...).compensate(refund)` returns",
        "compensate_all(parallel='yes') is not valid: write True or False",
        "saga(parallel=1) is not valid: write True or False",
    ]


def test_outside_of_workflows_there_is_nothing_to_undo():
    for effect in (saga, compensate_all, lambda: compensate(None)):
        with pytest.raises(NotInWorkflow):
            effect()


# -- replay


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload.replace('"undoes":1', '"undoes":0'),
        lambda payload: payload.replace('"undoes":1', '"undoes":null'),
        lambda payload: payload.replace('"arguments":[]', '"arguments":[1]'),
    ],
)
def test_a_history_that_undoes_something_else_is_drift(change):
    lab = Lab(two_and_out).begin()
    lab.complete(0)
    lab.complete(1)
    history = list(lab.history)
    at = next(i for i, e in enumerate(history) if e.type == EventType.COMPENSATION_SCHEDULED)
    fields = {name: getattr(history[at], name) for name in history[at].__struct_fields__}
    history[at] = type(history[at])(**{**fields, "payload": change(history[at].payload)})
    assert history[at].payload != lab.history[at].payload
    with pytest.raises(ReplayDriftError, match="compensation undo_b"):
        replay(two_and_out, history)
    lab.close()


def test_code_that_undoes_in_another_order_is_drift():
    async def other():
        async with saga():
            await done_with("a", undo_a, "a", 1)
            await done_with("b", undo_b)
            await compensate_all()

    async def forgets():
        await act("a")
        await act("b")
        raise Sold

    lab = Lab(two_and_out).begin()
    for command in range(3):
        lab.complete(command)
    for code in (other, forgets):
        with pytest.raises(ReplayDriftError):
            replay(code, [*lab.history, *lab.complete(3).events] if code is other else lab.history)


def test_drift_in_the_middle_of_a_rollback_is_a_fault():
    async def shorter():
        async with saga():
            await act("a")
            await done_with("b", undo_b)
            raise Sold

    lab = Lab(two_and_out).begin()
    for command in range(3):
        lab.complete(command)
    with pytest.raises(ReplayDriftError):
        replay(shorter, lab.history)
    lab.close()


def test_eviction_undoes_nothing():
    lab = Lab(two_and_out).begin()
    while not lab.ended:
        Lab(two_and_out, history=lab.history).close()
        again = Lab(two_and_out, history=lab.history)
        again.execution.evict()
        assert again.decide().events == []
        lab.complete(min(lab.execution.open_activities))


def test_eviction_ends_code_that_will_not_stop_compensating():
    async def flow():
        call = done_with("a", undo_a)
        while True:
            try:
                await compensate_all()
                await compensate(call)
                await act("b").compensate(undo_b)
            except BaseException:
                continue

    lab = Lab(flow).begin()
    lab.complete(0)
    lab.close()


# -- children


def test_a_child_is_undone_like_an_activity():
    async def flow():
        async with saga():
            await kid("ship").compensate(undo_a, "parcel")
            raise Sold

    lab = Lab(flow).begin()
    lab.deliver(EventType.CHILD_COMPLETED, 0, None, "1")
    assert undone(lab) == [(1, "undo_a", 0, ["parcel"])]
    lab.run()
    lab.replays()


@pytest.mark.parametrize("kind", [EventType.CHILD_COMPLETED, EventType.CHILD_CANCELLED])
def test_a_cancelled_child_is_asked_to_stop_and_undone_if_it_completes_all_the_same(kind):
    async def flow():
        async with saga():
            async with asyncio.timeout(1):
                await kid("ship").compensate(undo_a)

    lab = Lab(flow).begin()
    assert [letter.kind for letter in lab.fire().letters] == [EventType.CANCEL_REQUESTED]
    assert lab.execution.expects(1) and not lab.ended
    lab.deliver(kind, 1, None, "1" if kind == EventType.CHILD_COMPLETED else None)
    assert [name for _, name, _, _ in undone(lab)] == (["undo_a"] if kind == EventType.CHILD_COMPLETED else [])
    lab.run()
    assert lab.failure.type_name == "TimeoutError"
    lab.replays()


def test_a_failure_payload_reaches_the_outcome():
    async def flow():
        async with saga() as undo:
            undo.add(undo_a)
            try:
                raise Sold
            finally:
                rollback = await compensate_all()
                raise ActivityFailed(str(rollback.failed[0].error), activity="x", attempts=1)

    lab = Lab(flow).begin()
    lab.fail(0, Failure("Gone", "away", attempts=1))
    assert "Gone: away" in lab.failure.message
    assert decode(lab.history[3].payload)["message"] == "away"
    lab.replays()
