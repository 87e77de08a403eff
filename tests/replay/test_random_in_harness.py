"""Random programs in the harness: restarts, crashes and losses change nothing of what they do."""

import random as chance
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum import PermanentError, pure, workflow
from continuum.declare.registry import REGISTRY, Registry
from continuum.model.codec import decode, encode
from continuum.model.events import COMMANDS
from continuum.model.runs import RunState
from continuum.testing import Faults, Harness, TestRun
from tests.replay import programs, sagas
from tests.replay.lab import POLICY

seeds = st.integers(0, 2**32)
often = settings(max_examples=25, deadline=None)

# Items of this length hold values that come from each start's own seed.
_PERSONAL = 3


class AnyActivity:
    """An activity by any name, as the programs call them. Some fail, always the same ones."""

    policy = POLICY
    is_async = gives_up = False
    place = location = "here"

    def __init__(self, name: str) -> None:
        self.name = name

    def function(self, *_args: Any) -> str:
        if zlib.crc32(self.name.encode()) % 5 == 0:
            raise PermanentError(self.name)
        return self.name

    def decode_arguments(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(decode(payload)), {}

    def encode_result(self, value: Any) -> str:
        return encode(value)


class Anything(Registry):
    """Knows every activity, and the workflows of the decorators."""

    def find_activity(self, name: str) -> Any:
        return AnyActivity(name)

    def activities(self) -> list[Any]:
        return []

    def workflows(self) -> list[Any]:
        return [play, play_saga]

    def find_workflow(self, name: str, version: int | None = None) -> Any:
        return REGISTRY.find_workflow(name, version)


@pure  # it is about constructs that the scanner would say something about
async def _play(seed: int, trace: list[Any]) -> None:
    await programs.program(seed, trace)()


@pure
async def _play_saga(seed: int) -> None:
    await sagas.program(seed, bool(seed % 2))


@workflow(name="random_in_harness.play")
async def play(seed: int) -> str:
    trace: list[Any] = []
    await _play(seed, trace)
    return repr([item for item in trace if not (isinstance(item, tuple) and len(item) == _PERSONAL)])


@workflow(name="random_in_harness.play_saga")
async def play_saga(seed: int) -> None:
    await _play_saga(seed)


def came_to(flow: Any, seed: int, **options: Any) -> tuple[Any, ...]:
    """Run a program as far as it comes; return where it stands, its result, and what it asked for."""
    dice = chance.Random(seed)
    with Harness(registry=Anything(), now=datetime(2030, 1, 1, tzinfo=UTC), **options) as harness:
        signals = [(dice.choice("ab"), number) for number in range(dice.randint(0, 30))]
        run: TestRun[Any] = harness.begin(flow, (seed,), {}, signals)
        run.run_until_blocked()
        state = run.state
        asked = [(str(event.type), event.command, event.name) for event in run.history if event.type in COMMANDS]
        result = run.outcome() if state is RunState.COMPLETED else None
        return state, result, asked, run.elapsed


def ways(seed: int) -> list[dict[str, Any]]:
    dice = chance.Random(seed)
    points = [
        "commit.sending",
        "commit.sent",
        "commit.answered",
        "commit.settled",
        "attempt.returned",
        "claim.answered",
    ]
    crashes = [f"{dice.choice(points)}:{dice.randint(1, 12)}" for _ in range(dice.randint(1, 3))]
    return [
        {"restart_always": True},
        {"faults": Faults(crash_at=crashes)},
        {"faults": Faults(crash_at=crashes, lose_hints=True), "restart_always": True},
    ]


@often
@given(seeds)
def test_a_random_program_comes_to_the_same_however_often_it_is_restarted(seed):
    expected = came_to(play, seed)
    for options in ways(seed):
        assert came_to(play, seed, **options) == expected, options


@often
@given(seeds)
def test_a_random_saga_comes_to_the_same_however_often_it_is_restarted(seed):
    expected = came_to(play_saga, seed)
    for options in ways(seed):
        assert came_to(play_saga, seed, **options) == expected, options


@pytest.mark.parametrize("seed", [2, 3])
def test_lost_answers_change_nothing_either(seed):
    expected = came_to(play, seed)
    assert came_to(play, seed, faults=Faults(lose_answers=True)) == expected


def test_the_programs_end_in_every_way_and_do_something():
    """The comparison is worth something only if they do."""
    found = [came_to(play, seed) for seed in range(40)]
    assert {state for state, *_ in found} >= {RunState.COMPLETED, RunState.SUSPENDED}
    assert sum(len(asked) for _, _, asked, _ in found) > 300
