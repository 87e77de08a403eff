"""patched(): which code a run takes, PATCH-01 to PATCH-10 of the original."""

import asyncio

import pytest

from continuum.errors import ReplayDriftError
from continuum.model.events import Event, EventType
from continuum.replay.effects.patch import patched
from continuum.replay.effects.signal import wait_signal
from continuum.replay.effects.values import side_effect
from tests.replay.lab import Lab, act, replay


def old():
    return "old"


def new():
    return "new"


async def waits():
    await wait_signal("go")


async def unpatched():
    value = side_effect(old)
    await waits()
    return value


async def patched_code():
    value = side_effect(new) if patched("p") else side_effect(old)
    await waits()
    return value


def run(flow):
    lab = Lab(flow).begin()
    lab.signal("go")
    return lab


def resumed(lab, flow, cut=None):
    """Go on with other code from where a run waited."""
    return Lab(flow, history=lab.history[: cut or len(lab.history)])


def with_name(event, name):
    return Event(event.seq, event.type, event.command, name, event.payload, event.at, event.location)


def test_a_fresh_run_marks_the_patch_and_takes_the_new_code():
    """PATCH-01, PATCH-06."""
    lab = run(patched_code)
    assert lab.result == "new"
    assert lab.types[:3] == ["run_began", "patch_marked", "value_recorded"]
    assert [(e.command, e.name) for e in lab.history if e.type == EventType.PATCH_MARKED] == [(0, "p")]
    lab.replays()


def test_a_history_from_before_the_patch_takes_the_old_code():
    """PATCH-02: the next recorded command is another one, and stays the next."""
    lab = Lab(unpatched).begin()
    decision = replay(patched_code, lab.history)
    assert (decision.events, decision.orders) == ([], [])
    again = resumed(lab, patched_code)
    again.signal("go")
    assert again.result == "old"
    again.replays(patched_code)
    lab.close()


def test_several_patches_over_an_old_history_are_all_false_and_consume_nothing():
    """PATCH-03: and the effect behind them takes its value from the record, without calling its function."""
    called = []

    def produce():
        called.append(1)
        return len(called)

    async def before():
        value = side_effect(produce)
        await waits()
        return value

    async def after():
        answers = [patched("one"), patched("two")]
        value = side_effect(produce)
        await waits()
        return [value, answers]

    lab = Lab(before).begin()
    again = resumed(lab, after)
    again.signal("go")
    assert again.result == [1, [False, False]]
    assert called == [1]
    lab.close()


def test_the_marker_is_written_once_however_often_it_is_asked_for():
    """PATCH-06."""

    async def flow():
        answers = [patched("p") for _ in range(3)]
        await waits()
        return [*answers, patched("p")]

    lab = run(flow)
    assert lab.result == [True] * 4
    assert lab.types.count("patch_marked") == 1
    lab.replays()


def test_the_first_answer_holds_for_the_whole_run():
    """PATCH-07, PATCH-09: False at a place the history had passed stays False at the live tip."""

    async def before():
        side_effect(old)
        await waits()

    async def after():
        first = patched("p")
        side_effect(old)
        await waits()
        return [first, patched("p")]

    lab = Lab(before).begin()
    again = resumed(lab, after)
    again.signal("go")
    assert again.result == [False, False]
    assert "patch_marked" not in again.types
    again.replays(after)
    lab.close()


def test_a_marker_recorded_later_does_not_change_the_first_answer():
    """PATCH-08: the marker at another line is consumed, the answer stays."""

    async def before():
        side_effect(old)
        answer = patched("p")
        await waits()
        return answer

    async def after():
        first = patched("p")
        side_effect(old)
        second = patched("p")
        await waits()
        return [first, second]

    lab = Lab(before).begin()
    assert lab.types == ["run_began", "value_recorded", "patch_marked", "signal_awaited"]
    again = resumed(lab, after)
    again.signal("go")
    assert again.result == [False, False]
    lab.close()


def test_a_marker_with_a_changed_id_drifts_where_the_branches_differ():
    """PATCH-10."""
    lab = Lab(patched_code).begin()
    tampered = [with_name(e, "q") if e.type == EventType.PATCH_MARKED else e for e in lab.history]
    with pytest.raises(ReplayDriftError, match="side effect new"):
        replay(patched_code, tampered)
    lab.close()


def test_a_patch_that_is_no_longer_asked_for_is_skipped():
    async def cleaned_up():
        value = side_effect(new)
        await waits()
        return value

    lab = run(patched_code)
    assert replay(cleaned_up, lab.history).events == []

    async def marked_last():
        await waits()
        patched("p")
        await asyncio.Event().wait()

    async def forgotten():
        await waits()
        await asyncio.Event().wait()

    lab = run(marked_last)
    again = resumed(lab, forgotten)
    again.signal("go")
    again.close()
    lab.close()


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a"), ("a",), ("b",)])
def test_markers_in_a_row_may_be_asked_for_in_any_order_or_not_at_all(order):
    async def before():
        both = [patched("a"), patched("b")]
        side_effect(new)
        await waits()
        return both

    async def after():
        answers = [patched(name) for name in order]
        side_effect(new)
        await waits()
        return answers

    lab = Lab(before).begin()
    again = resumed(lab, after)
    again.signal("go")
    assert again.result == [True] * len(order)
    lab.close()


def test_a_patch_moved_behind_another_command_is_a_new_place():
    async def moved():
        value = side_effect(new)
        answer = patched("p")
        await waits()
        return [value, answer]

    lab = Lab(patched_code).begin()
    again = resumed(lab, moved)
    again.signal("go")
    assert again.result == ["new", False]
    lab.close()


def test_at_the_tip_a_patch_is_new_even_if_the_history_was_recorded_without_it():
    async def before():
        await waits()
        await asyncio.Event().wait()

    async def after():
        await waits()
        answer = patched("p")
        await act("new" if answer else "old")

    lab = Lab(before).begin()
    lab.signal("go")
    decision = replay(after, lab.history)
    assert [order.activity for order in decision.orders] == ["new"]
    lab.close()


def test_where_the_history_went_on_without_commands_the_answer_is_false():
    """The run passed this place under code without the patch: nothing was recorded, but completions came after."""

    async def before():
        await asyncio.Event().wait()

    async def after():
        if patched("p"):
            await act("new")
        await asyncio.Event().wait()

    lab = Lab(before).begin()
    lab.signal("x")
    assert replay(after, lab.history).events == []
    lab.close()


def test_a_history_that_has_ended_answers_false():
    async def before():
        return 1

    async def after():
        return 1 if not patched("p") else 2

    lab = Lab(before).begin()
    assert replay(after, lab.history).events == []


def test_patches_are_pinned_by_id_and_need_one():
    async def flow():
        for wrong in ("", None, 7):
            with pytest.raises(TypeError, match="names the change"):
                patched(wrong)
        return [patched("a"), patched("b")]

    assert Lab(flow).begin().result == [True, True]


def test_outside_of_workflows_the_answer_is_false():
    assert patched("p") is False

    async def host():
        return patched("p")

    assert asyncio.run(host()) is False
