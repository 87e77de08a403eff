"""Paranoid mode: what a replay would not repeat never reaches the journal. In real dispatchers, on both wings."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from continuum import (
    ConfigError,
    Continuum,
    Event,
    EventType,
    continue_as_new,
    now,
    patched,
    pure,
    random,
    uuid4,
    wait_signal,
)
from continuum.declare.activities import activity
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import Journal
from continuum.model.decisions import Decision
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import RunState, Started
from continuum.replay import paranoid
from continuum.replay.entry import RunInfo
from continuum.replay.execution import Execution
from continuum.replay.paranoid import ParanoidExecution
from continuum.testing import RunStuck, run
from tests.integration.runtime import flows
from tests.support.eventually import eventually

WAIT = 20
ticks: list[int] = []


@pure
def tick() -> int:
    """Something that a replay sees otherwise, and that no scanner is told of."""
    ticks.append(1)
    return len(ticks)


@activity(name="paranoid.echo")
def echo(value: Any) -> Any:
    return value


def flow_of(function: Any) -> Workflow[..., Any]:
    return Workflow(function, name="paranoid.flow", version=1)


def registry_of(flow: Workflow[..., Any]) -> Registry:
    registry = Registry()
    registry.register_workflow(flow)
    registry.register_activity(echo)
    return registry


async def faithful() -> list[Any]:
    out = [str(uuid4()), random(), now().isoformat(), patched("p")]
    out += await asyncio.gather(echo(1), echo(2))
    try:
        out.append(await wait_signal("never", timeout=0.01))
    except TimeoutError:
        out.append("late")
    return [*out, await wait_signal("go")]


async def counting() -> Any:
    await echo("first")
    return await echo(tick())


async def drawing() -> Any:
    if tick() % 2:
        random()
    await wait_signal("go")


async def ends_otherwise() -> int:
    await echo(1)
    return tick()


@pytest.fixture
def paranoid_mode(journal: Journal) -> dict[str, Any]:
    ticks.clear()
    return {"journal": journal, "paranoid": True, "poll_interval": timedelta(milliseconds=50)}


def stuck(instance: Continuum, run_id: str) -> str:
    found = eventually(lambda: (run := instance.get(run_id)).state == RunState.STUCK and run, WAIT)
    return str(found.stuck_reason)


def test_a_faithful_run_is_not_disturbed(paranoid_mode: dict[str, Any]) -> None:
    flow = flow_of(faithful)
    with Continuum(registry=registry_of(flow), **paranoid_mode) as instance, instance.running():
        handle: Any = instance.start(flow)
        handle.signal("go", "on")
        result = handle.result(timeout=WAIT)
        assert result[3:] == [True, 1, 2, "late", "on"]
        assert handle.refresh().stuck_reason is None


@pytest.mark.parametrize(
    ("function", "told", "written"),
    [
        (counting, "in the replay (arguments[0]: 1 → 2). ", "activity_scheduled"),
        (drawing, "uuid4() and random()", "run_started"),
        (ends_otherwise, "the end of the run (run_completed", "activity_scheduled"),
    ],
)
def test_a_run_that_a_replay_would_not_repeat_is_stuck_and_nothing_of_that_turn_is_written(
    paranoid_mode: dict[str, Any], function: Any, told: str, written: str
) -> None:
    flow = flow_of(function)
    with Continuum(registry=registry_of(flow), **paranoid_mode) as instance, instance.running():
        handle: Any = instance.start(flow)
        reason = stuck(instance, handle.id)
        assert reason.startswith("ReplayMismatch: paranoid mode: ")
        assert told in reason
        assert "side_effect()" in reason
        assert "Deploy" not in reason  # nobody has edited anything
        # The turn before is the last one; its outcome waits to be delivered again.
        assert handle.history()[-1].type == written
        with Continuum(journal=paranoid_mode["journal"], registry=registry_of(flow), paranoid=False) as trusting:
            assert trusting.settings.is_paranoid() is False


def test_without_it_the_same_run_ends_and_only_a_replay_finds_out(journal: Journal) -> None:
    flow = flow_of(counting)
    with Continuum(registry=registry_of(flow), journal=journal, paranoid=False) as instance, instance.running():
        assert isinstance(instance.start(flow).result(timeout=WAIT), int)


def test_a_recorded_continuation_is_compared_and_not_skipped(paranoid_mode: dict[str, Any]) -> None:
    async def chain(left: int) -> str:
        await echo(left)
        if left:
            continue_as_new(left - 1)
        return "done"

    async def jumping(left: int) -> str:
        await echo(left)
        continue_as_new(tick())
        return "never"

    flow = flow_of(chain)
    with Continuum(registry=registry_of(flow), **paranoid_mode) as instance, instance.running():
        assert instance.start(flow, 2).result(timeout=WAIT) == "done"
    flow = flow_of(jumping)
    with Continuum(registry=registry_of(flow), **paranoid_mode) as instance, instance.running():
        handle: Any = instance.start(flow, 2)
        assert "run_continued" in stuck(instance, handle.id)
        assert EventType.RUN_CONTINUED not in [event.type for event in handle.history()]


def test_the_variable_makes_every_engine_paranoid_and_the_option_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for word, meant in (("1", True), ("true", True), (" YES ", True), ("0", False), ("", False), ("off", False)):
        monkeypatch.setenv("CONTINUUM_PARANOID", word)
        assert Continuum("memory://").settings.is_paranoid() is meant
        assert Continuum("memory://", paranoid=False).settings.is_paranoid() is False
        assert Continuum("memory://", paranoid=True).settings.is_paranoid() is True
    monkeypatch.delenv("CONTINUUM_PARANOID")
    assert Continuum("memory://").settings.is_paranoid() is False


def test_a_value_that_nobody_can_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"paranoid='on' is not valid: write True, False, or None for what CONTINUUM"):
        Continuum("memory://", paranoid="on")  # type: ignore[arg-type]
    monkeypatch.setenv("CONTINUUM_PARANOID", "maybe")
    with (
        Continuum("memory://") as instance,
        pytest.raises(ConfigError, match="CONTINUUM_PARANOID='maybe' is not valid"),
    ):
        instance.dispatcher()


def test_the_harness_is_paranoid_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks.clear()
    monkeypatch.setenv("CONTINUUM_PARANOID", "1")
    assert run(flow_of(faithful), signals={"go": 1}, registry=registry_of(flow_of(faithful)))[-1] == 1
    with pytest.raises(RunStuck, match="paranoid mode"):
        run(flow_of(counting), registry=registry_of(flow_of(counting)))
    monkeypatch.delenv("CONTINUUM_PARANOID")
    assert run(flow_of(counting), registry=registry_of(flow_of(counting)))


# -- the execution itself ------------------------------------------------------------------------------


def began(function: Any) -> ParanoidExecution:
    flow = flow_of(function)
    run_id = "018f0000-0000-7000-8000-000000000001"
    info = RunInfo(RunId(run_id), ChainId(run_id), "default", flow.name, 1)
    execution = ParanoidExecution(entry=flow.entry, run=info)
    started = Started(input=msgspec.Raw(b"[]"), seed="00").encode()
    execution.replay([Event(1, EventType.RUN_STARTED, None, None, started, 1_000)])
    execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, 2_000))
    return execution


def test_a_snapshot_that_lost_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def waits() -> None:
        await wait_signal("go")

    execution = began(waits)
    assert isinstance(execution.decide(), Decision)
    execution.deliver(Event(0, EventType.SIGNAL_RECEIVED, None, "other", "1", 3_000))
    monkeypatch.setattr(paranoid, "decode_snapshot", lambda _snapshot: [])
    with pytest.raises(paranoid.ReplayMismatch, match="its snapshot does not hold") as caught:
        execution.decide()
    assert caught.value.difference == "its snapshot does not hold the events it was made of"
    execution.evict()


def test_code_that_is_ahead_of_its_history_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def eager() -> None:
        await echo(1)

    execution = began(eager)

    def forgetful(self: Execution) -> Decision:
        decision = original(self)
        kept = [event for event in decision.events if event.type != "activity_scheduled"]
        return decision if not isinstance(self, ParanoidExecution) else _with(decision, kept)

    original = Execution.decide
    monkeypatch.setattr(Execution, "decide", forgetful)
    with pytest.raises(paranoid.ReplayMismatch, match=r"a replay asks for more: activity_scheduled paranoid\.echo"):
        execution.decide()
    execution.evict()


def _with(decision: Decision, events: list[Event]) -> Decision:
    return msgspec.structs.replace(decision, events=events)


def test_off_it_costs_nothing() -> None:
    """The engine makes plain executions then: there is nothing in them to ask."""
    registry = registry_of(flow_of(faithful))
    with Continuum("memory://", registry=registry, paranoid=False) as trusting:
        assert trusting.dispatcher()._turns._turner._execution is Execution
    with Continuum("memory://", registry=registry, paranoid=True) as doubting:
        assert doubting.dispatcher()._turns._turner._execution is ParanoidExecution


def test_ordinary_flows_pass_it(paranoid_mode: dict[str, Any]) -> None:
    with Continuum(**paranoid_mode) as instance, instance.running():
        assert instance.start(flows.sequence, 5).result(timeout=WAIT) == 5
