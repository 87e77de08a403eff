"""Crashes, restarts, lost hints and lost answers change nothing but how often something was tried."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from continuum import RunFailed, Signal, activity, continue_as_new, saga, sleep, start_child, workflow
from continuum.errors import ConfigError
from continuum.telemetry import probes
from continuum.telemetry.probes import probe
from continuum.testing import Faults, Harness, run, start

approved = Signal("approved", bool)

POINTS = [
    "claim.answered",
    "commit.sending",
    "commit.sent",
    "commit.answered",
    "commit.settled",
    "attempt.returned",
    "attempt.posted",
    "attempt.retried",
]


@activity(retry=5)
def add(one: int, other: int) -> int:
    return one + other


@activity(idempotency_key=lambda order_id: f"ship:{order_id}")
def ship(order_id: str) -> str:
    return order_id


@activity(retry=1)
def fragile() -> str:
    return "whole"


@activity
def undo(what: int) -> None:
    del what


@workflow(name="test_faults.child_flow")
async def child_flow(number: int) -> int:
    await sleep(10)
    return await add(number, number)


@workflow(name="test_faults.long_flow")
async def long_flow(left: int, seen: list[int]) -> list[int]:
    async with saga():
        first = await add(left, 1).compensate(undo, left)
        second, third = await asyncio.gather(add(first, 1), start_child(child_flow, first))
        await sleep(timedelta(days=3))
        try:
            if await approved.wait(timeout=60):
                await ship(f"o{left}")
        except TimeoutError:
            seen = [*seen, -left]
    seen = [*seen, first, second, third]
    if left:
        continue_as_new(left - 1, seen)
    return seen


@workflow(name="test_faults.fragile_flow")
async def fragile_flow() -> str:
    return await fragile()


EXPECTED = [3, 4, 6, 2, 3, 4, 0, 1, 2, 2]


def result_of(**options):
    running = start(long_flow, 2, [], signals=[(approved, True), (approved, False)], **options)
    return running, running.result()


def test_it_is_as_it_is_without_faults():
    running, result = result_of()
    assert result == EXPECTED
    assert all(call.attempts == 1 for call in running.calls())


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_anywhere_changes_no_result(point, count):
    running, result = result_of(faults=Faults(crash_at=f"{point}:{count}"))
    assert result == EXPECTED
    assert running.calls(ship)[0].arguments == {"order_id": "o2"}


def test_crashes_come_one_after_the_other():
    assert result_of(faults=Faults(crash_at=[f"commit.sent:{count}" for count in range(1, 9)]))[1] == EXPECTED


@pytest.mark.parametrize(
    "options",
    [
        {"restart_always": True},
        {"faults": Faults(lose_hints=True)},
        {"faults": Faults(lose_answers=True)},
        {"faults": Faults(lose_hints=True, lose_answers=True), "restart_always": True},
        {
            "faults": Faults(crash_at=["commit.settled:3", "attempt.returned:4"], lose_hints=True),
            "restart_always": True,
        },
    ],
    ids=str,
)
def test_restarts_and_losses_change_no_result(options):
    assert result_of(**options)[1] == EXPECTED


def test_a_restart_costs_no_attempt():
    running, _ = result_of(restart_always=True)
    assert all(call.attempts == 1 for call in running.calls())


def test_an_attempt_that_was_under_way_counts_when_the_process_dies():
    running, _ = result_of(faults=Faults(crash_at="attempt.returned"))
    assert running.calls(add)[0].attempts == 2
    with pytest.raises(RunFailed, match="the worker died during attempt 1 of 1"):
        run(fragile_flow, faults=Faults(crash_at="attempt.returned"))
    assert run(fragile_flow, restart_always=True) == "whole"


def test_the_result_under_a_key_outlives_a_crash_after_it_was_kept():
    running, result = result_of(faults=Faults(crash_at="attempt.posted"))
    assert result == EXPECTED
    assert running.calls(ship)[0].attempts == 1


@pytest.mark.parametrize("wrong", ["commit.send", "commit.sent:0", "commit.sent:x", ":1"])
def test_a_point_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"write one of attempt\.posted, .*, and perhaps the number"):
        Faults(crash_at=wrong)


def test_probes_strike_only_while_the_harness_works():
    running = start(long_flow, 2, [], faults=Faults(crash_at="commit.sent:1000"), restart_always=True)
    probe("commit.settled")
    assert running.result() == [-2, 3, 4, 6, -1, 2, 3, 4, 0, 1, 2, 2]


def test_a_harness_with_many_runs_is_restarted_as_one():
    with Harness(restart_always=True, faults=Faults(crash_at=["commit.sent:7", "commit.sending:20"])) as harness:
        runs = [harness.start(child_flow, number) for number in range(20)]
        assert [one.result() for one in runs] == [2 * number for number in range(20)]


def test_harnesses_of_one_process_do_not_strike_each_other():
    def crash(number: int) -> int:
        return run(child_flow, number, faults=Faults(crash_at="commit.sent:2"), restart_always=True)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(crash, range(20))) == [2 * number for number in range(20)]
    faults = Faults(crash_at="commit.sent:2")
    assert run(child_flow, 4, activities={add: lambda one, other: crash((one + other) // 2)}, faults=faults) == 8
    assert not probes._actions
