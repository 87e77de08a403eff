"""Time, chance and side effects: the same on every replay, and what passes through the codec."""

import asyncio
import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest

from continuum.errors import ActivityFailed, NotInWorkflow
from continuum.model.codec import decode
from continuum.model.events import EventType
from continuum.replay.effects.log import log
from continuum.replay.effects.signal import wait_until
from continuum.replay.effects.values import now, random, side_effect, today, uuid4
from tests.replay.lab import BEGAN_AT, SEED, Lab, act, replay


def test_now_is_the_time_of_what_was_delivered_and_stands_still():
    async def flow():
        moments = [now(), now()]
        await act("a")
        return [*moments, now(), today()]

    lab = Lab(flow).begin()
    lab.complete(0)
    began = datetime.fromtimestamp(BEGAN_AT / 1e6, UTC) + timedelta(milliseconds=1)
    later = began + timedelta(milliseconds=1)
    assert lab.result == [began, began, later, later.date()]
    assert lab.result[0].tzinfo is UTC
    lab.replays()


def test_now_is_exact_to_the_microsecond():
    async def flow():
        return now()

    lab = Lab(flow)
    lab.clock = 1_999_999_999_999_999 - 1_000
    assert lab.begin().result == datetime(2033, 5, 18, 3, 33, 19, 999_999, UTC)


def test_time_never_goes_back():
    async def flow():
        first = now()
        await act("a")
        return now() - first

    lab = Lab(flow).begin()
    lab.clock -= 5_000_000
    lab.complete(0)
    assert lab.result == timedelta(0)
    assert [e.at for e in lab.history] == sorted(e.at for e in lab.history)
    lab.replays()


def test_random_numbers_follow_from_the_seed_on_every_python():
    async def flow():
        return [str(uuid4()), random(), str(uuid4())]

    # Written down: a change of these numbers would make every recorded history drift.
    assert Lab(flow, seed=SEED).begin().result == [
        "66daf0a8-9c5a-4816-b453-bef105de804f",
        0.860049524518298,
        "a6b8b98e-fecc-456f-8702-4ed678bfd07f",
    ]
    assert Lab(flow, seed="ff" * 16).begin().result[0] != "66daf0a8-9c5a-4816-b453-bef105de804f"


def test_random_values_are_well_formed_and_cost_no_event():
    async def flow():
        return [[uuid4() for _ in range(200)], [random() for _ in range(200)]]

    lab = Lab(flow).begin()
    ids, numbers = lab.result
    assert all(isinstance(i, UUID) and i.version == 4 and i.variant == "specified in RFC 4122" for i in ids)
    assert len(set(ids)) == 200
    assert all(0 <= n < 1 for n in numbers)
    assert 0.4 < sum(numbers) / 200 < 0.6
    assert lab.types == ["run_began", "run_completed"]
    lab.replays()


def test_any_seed_will_do():
    async def flow():
        return random()

    for seed in ("", "x" * 500, "ü"):
        lab = Lab(flow, seed=seed).begin()
        assert 0 <= lab.result < 1
        lab.replays()


# -- side effects


def test_a_side_effect_runs_once():
    """REP-01, REP-03, RPROP-01."""
    called = []

    def produce(*args, **kwargs):
        called.append((args, kwargs))
        return len(called)

    async def flow():
        one = side_effect(produce, 1, key=2)
        await act("a")
        return [one, side_effect(produce)]

    lab = Lab(flow).begin()
    lab.complete(1)
    assert lab.result == [1, 2]
    assert called == [((1,), {"key": 2}), ((), {})]
    lab.replays()
    assert len(called) == 2


class Color(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int
    y: Decimal


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: "a", (1, 2): "b"},
        {"b": 1, "a": 2},
        Decimal("1.50"),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        timedelta(days=1, microseconds=3),
        b"\0\xff",
        {3, 1, 2},
        Color.RED,
        Point(1, Decimal("2.5")),
        None,
        [1.5, float("1e300")],
        "ü\n\u2028",
    ],
    ids=repr,
)
def test_the_value_seen_live_is_the_value_seen_on_replay(value):
    """X-009."""
    seen = []

    async def flow():
        got = side_effect(lambda: value)
        seen.append((type(got), got, list(got) if isinstance(got, dict) else None))
        await act("a")

    lab = Lab(flow).begin()
    replay(flow, lab.history)
    assert seen[0] == seen[1]
    assert seen[0][1] == value
    assert seen[0][1] is not value or value is None or isinstance(value, enum.Enum | str)
    lab.close()


def test_a_failure_is_recorded_too():
    called = []

    def produce():
        called.append(1)
        raise KeyError("missing")

    async def flow():
        try:
            side_effect(produce)
        except ActivityFailed as error:
            await act("fallback")
            return [error.type_name, error.activity, str(error), error.attempts]

    lab = Lab(flow).begin()
    lab.complete(1)
    name = produce.__qualname__
    assert lab.result == ["KeyError", name, f"side effect {name} raised KeyError: 'missing'", 1]
    lab.replays()
    assert len(called) == 1


def test_a_failure_that_ends_the_run_replays():
    def produce():
        raise ValueError("no")

    async def flow():
        side_effect(produce)

    lab = Lab(flow).begin()
    assert lab.failure.type_name.endswith("ActivityFailed")
    lab.replays()


def test_a_value_that_looks_like_a_recorded_failure_is_a_value():
    async def flow():
        return side_effect(lambda: {"$failure": {"type_name": "x", "message": "y"}})

    lab = Lab(flow).begin()
    assert lab.result == {"$failure": {"type_name": "x", "message": "y"}}
    lab.replays()


def test_a_value_that_cannot_be_stored_is_recorded_as_a_failure_with_its_path():
    """Otherwise code that catches the error would call the function again on replay."""
    called = []

    def produce():
        called.append(1)
        return {"a": [1, object()]}

    async def flow():
        try:
            side_effect(produce)
        except ActivityFailed as error:
            await act("fallback")
            return [error.type_name, error.error_message]

    lab = Lab(flow).begin()
    lab.complete(1)
    kind, message = lab.result
    assert kind == "continuum.errors.CodecError"
    assert '["a"][1]' in message
    lab.replays()
    assert len(called) == 1


class Caller:
    def __call__(self):
        return 1

    def method(self):
        return 2


def test_its_name_is_the_functions_and_never_an_address():
    """REP-04."""

    async def flow():
        side_effect(Caller())
        side_effect(Caller().method)
        side_effect(partial(partial(Caller().method)))
        side_effect(lambda: 3)
        side_effect(len, "abc")

    lab = Lab(flow).begin()
    names = [e.name for e in lab.history if e.type == EventType.VALUE_RECORDED]
    here = "test_its_name_is_the_functions_and_never_an_address.<locals>.flow.<locals>"
    assert names == ["Caller", "Caller.method", "Caller.method", f"{here}.<lambda>", "len"]
    lab.replays()


async def asynchronous():
    raise AssertionError


@pytest.mark.parametrize(
    "function",
    [asynchronous, lambda: asynchronous()],  # noqa: PLW0108 - a plain function that returns a coroutine
    ids=["async def", "returns a coroutine"],
)
def test_an_async_function_is_refused_and_nothing_is_left_unawaited(function):
    async def flow():
        with pytest.raises((TypeError, ActivityFailed), match="make it an activity"):
            side_effect(function)
        return "refused"

    lab = Lab(flow).begin()
    assert lab.result == "refused"
    lab.replays()


NESTED = {
    "activity": lambda: act("a"),
    "side_effect": lambda: side_effect(int),
    "uuid4": uuid4,
    "random": random,
    "timer": lambda: asyncio.get_running_loop().call_later(1, print),
    "task": lambda: asyncio.create_task(asyncio.sleep(0)),
}


@pytest.mark.parametrize("effect", NESTED)
def test_effects_inside_a_side_effect_are_refused(effect):
    """They would not happen again on replay."""

    async def flow():
        try:
            side_effect(NESTED[effect])
        except ActivityFailed as error:
            return [error.type_name, error.error_message]

    lab = Lab(flow).begin()
    kind, message = lab.result
    assert kind == "continuum.errors.ReplayError"
    assert "side_effect(" in message
    assert "pass the value in" in message
    lab.replays()


def test_reading_the_time_and_logging_inside_a_side_effect_is_fine():
    async def flow():
        def function():
            log.info("inside")
            return now()

        return side_effect(function) == now()

    lab = Lab(flow).begin()
    assert lab.result is True
    assert [line.message for line in lab.logs] == ["inside"]


def test_effects_work_again_after_a_side_effect_that_failed():
    async def flow():
        try:
            side_effect(lambda: 1 / 0)
        except ActivityFailed:
            return side_effect(int)

    assert Lab(flow).begin().result == 0


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_is_no_ordinary_exception_passes_through_a_side_effect(error):
    def produce():
        raise error

    async def flow():
        try:
            side_effect(produce)
        except error:
            return uuid4().version

    assert Lab(flow).begin().result == 4


def test_effects_inside_a_predicate_are_refused():
    async def flow():
        await wait_until(lambda: act("a"))

    lab = Lab(flow).begin()
    assert lab.failure.type_name == "continuum.errors.ReplayError"
    assert "predicate" in lab.failure.message


@pytest.mark.parametrize("effect", [now, today, uuid4, random, lambda: side_effect(int)])
def test_outside_of_workflows_they_say_so(effect):
    with pytest.raises(NotInWorkflow, match="no workflow is running"):
        effect()

    async def host():
        effect()

    with pytest.raises(NotInWorkflow):
        asyncio.run(host())


def test_recorded_payloads_are_what_the_codec_wrote():
    async def flow():
        side_effect(lambda: (1, "a"))

    lab = Lab(flow).begin()
    recorded = next(e for e in lab.history if e.type == EventType.VALUE_RECORDED)
    assert decode(recorded.payload) == (1, "a")
    assert "test_effect_values.py:" in recorded.location
