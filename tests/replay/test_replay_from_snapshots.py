"""Replay from a snapshot is replay: the same drift, the same patches, the same tip, wherever it was folded."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from continuum import continue_as_new, patched
from continuum.errors import HistoryError, ReplayDriftError
from continuum.model.events import Event, EventType
from continuum.model.snapshots import encode_snapshot
from continuum.replay.effects.values import side_effect
from tests.replay.lab import Lab, act, kid, refolded

Flow = Callable[..., Any]


async def six_values() -> int:
    for number in range(6):
        side_effect(lambda number=number: number)
    return int(await act("last"))


def resumed(function: Flow, history: list[Event], through: int) -> Lab:
    """Return a lab that goes on, live, from a history whose beginning came from a snapshot."""
    return Lab(function, history=refolded(history, through))


def everywhere(history: list[Event]) -> range:
    return range(1, len(history) + 1)


def test_a_run_goes_on_from_every_snapshot_of_its_history() -> None:
    lab = Lab(six_values).begin()
    for through in everywhere(lab.history):
        again = resumed(six_values, lab.history, through)
        assert again.execution.open_activities == {6}
        again.complete(6, 7)
        assert again.result == 7
        again.close()
    lab.close()


def test_a_command_that_the_code_does_not_ask_for_drifts_inside_of_the_snapshot_and_behind_it() -> None:
    async def one(name: str) -> None:
        await act(name)
        await act("second")

    lab = Lab(one, "first").begin()
    lab.complete(0)

    async def other(_name: str) -> None:
        await act("something else")

    for through in everywhere(lab.history):
        with pytest.raises(ReplayDriftError, match="something else"):
            resumed(other, lab.history, through)
    lab.close()


def test_code_that_asks_for_less_than_a_snapshot_holds_drifts() -> None:
    """No cursor is below the snapshot: there is one history, and nothing of it is taken for new."""
    lab = Lab(six_values).begin()

    async def fewer() -> int:
        side_effect(lambda: 0)
        return int(await act("last"))

    for through in everywhere(lab.history):
        with pytest.raises(ReplayDriftError):
            resumed(fewer, lab.history, through)
    lab.close()


def test_the_input_of_a_child_is_compared_inside_of_a_snapshot() -> None:
    async def parent(value: int) -> Any:
        return await kid("child", value)

    lab = Lab(parent, 1).begin()

    async def changed(value: int) -> Any:
        return await kid("child", value + 1)

    for through in everywhere(lab.history):
        resumed(parent, lab.history, through).close()
        with pytest.raises(ReplayDriftError):
            resumed(changed, lab.history, through)
    lab.close()


def test_the_input_of_the_next_run_is_compared_inside_of_a_snapshot() -> None:
    async def goes_on(value: int) -> None:
        await act("step")
        continue_as_new(value + 1)

    lab = Lab(goes_on, 1).begin()
    lab.complete(0)
    assert lab.history[-1].type == EventType.RUN_CONTINUED

    async def changed(value: int) -> None:
        await act("step")
        continue_as_new(value + 2)

    for through in everywhere(lab.history):
        assert resumed(goes_on, lab.history, through).ended
        with pytest.raises(ReplayDriftError):
            resumed(changed, lab.history, through)


# ------------------------------------------------------------------ patched


async def asks(*ids: str) -> list[bool]:
    answers = []
    for one in ids:
        await act("step")
        answers.append(patched(one))
    await act("rest")
    return answers


def test_a_folded_marker_of_another_patch_answers_false_and_is_not_passed() -> None:
    lab = Lab(asks, "b").begin()
    lab.complete(0)

    async def both(*_ids: str) -> list[bool]:
        await act("step")
        answers = [patched("a"), patched("b")]
        await act("rest")
        return answers

    for through in everywhere(lab.history):
        again = resumed(both, lab.history, through)
        again.complete(2)
        assert again.result == [False, True]
        again.close()
    lab.close()


def test_a_folded_marker_with_its_name_changed_is_another_patch() -> None:
    """In the original it was drift; here the history has no marker of that name, so the run takes the old branch."""
    lab = Lab(asks, "a").begin()
    lab.complete(0)
    [at] = [index for index, event in enumerate(lab.history) if event.type == EventType.PATCH_MARKED]
    history = list(lab.history)
    history[at] = msgspec.structs.replace(history[at], name="renamed")
    for through in everywhere(history):
        again = resumed(asks, history, through)
        again.complete(2)
        assert again.result == [False]
        again.close()
    lab.close()


def test_a_folded_answer_holds_for_what_is_asked_after_it() -> None:
    async def before() -> None:
        await act("step")
        await act("step")

    async def since() -> list[bool]:
        await act("step")
        answers = [patched("a")]
        await act("step")
        answers.append(patched("a"))
        await act("rest")
        return answers

    lab = Lab(before).begin()
    lab.complete(0)
    for through in everywhere(lab.history):
        again = resumed(since, lab.history, through)
        again.complete(1)
        # At the tip, where the first answer would be True and a marker be written.
        assert EventType.PATCH_MARKED not in [event.type for event in again.history]
        again.complete(2)
        assert again.result == [False, False]
        again.close()
    lab.close()


# ------------------------------------------------------------------ what is folded


@pytest.mark.parametrize("through", range(1, 8))
def test_any_beginning_can_be_folded_also_between_a_request_and_its_outcome(through: int) -> None:
    async def parallel() -> list[Any]:
        calls = [act("a"), act("b"), act("c")]
        return [await call for call in calls]

    lab = Lab(parallel).begin()
    lab.complete(1, 1)
    lab.complete(0, 0)
    again = resumed(parallel, lab.history, through)
    assert again.execution.open_activities == {2}
    again.complete(2, 2)
    assert again.result == [0, 1, 2]
    for one in (lab, again):
        one.close()


def test_events_out_of_order_are_never_folded() -> None:
    lab = Lab(six_values).begin()
    with pytest.raises(HistoryError, match="have a gap"):
        encode_snapshot([lab.history[0], lab.history[2]])
    with pytest.raises(HistoryError, match="begins with run_started"):
        encode_snapshot(lab.history[1:])
    lab.close()
