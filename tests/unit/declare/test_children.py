"""What `start_child` and the call of a workflow in a workflow accept, and what they ask for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from continuum import (
    ChildCancelled,
    ChildFailed,
    ChildHandle,
    NotInWorkflow,
    ParentClose,
    Signal,
    SignalRefused,
    activity,
    start_child,
    workflow,
)
from continuum.declare.workflows import Workflow
from continuum.model.codec import encode
from continuum.model.decisions import Decision
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import RunState, Started
from continuum.replay.execution import Execution, RunInfo
from tests.support.first_turn import RUN, failure_of, first_turn

approval = Signal("approval", bool)


@dataclass
class Parcel:
    weight: int
    label: str = ""


@workflow(version=2)
async def pack(parcel: Parcel, *, fast: bool = False) -> Parcel:
    return Parcel(parcel.weight + fast, "packed")


def live(flow: Workflow[..., Any], *deliveries: tuple[EventType, int | None, str | None]) -> list[Decision]:
    """Turn a run: begin, then deliver; return its decisions."""
    execution = Execution(entry=flow.entry, run=RunInfo(RunId(RUN), ChainId(RUN), "default", flow.name, flow.version))
    started = Started(input=msgspec.Raw(b"[]"), seed="00" * 16).encode()
    execution.replay([Event(1, EventType.RUN_STARTED, None, None, started, 1)])
    decisions = []
    for kind, command, payload in ((EventType.RUN_BEGAN, None, None), *deliveries):
        execution.deliver(Event(0, kind, command, None, payload, 2))
        decisions.append(execution.decide())
    execution.evict()
    return decisions


def test_a_child_is_pinned_to_the_code_it_was_named_by_and_its_values_have_types() -> None:
    @workflow
    async def parent() -> str:
        child = start_child(pack, Parcel(3), fast=True, key="big", on_parent_close="abandon", attributes={"kind": "x"})
        assert isinstance(child, ChildHandle)
        packed = await child
        return f"{packed.weight} {packed.label}"

    done = pack.entry.encode_result(Parcel(4, "packed"))
    first, second = live(parent, (EventType.CHILD_COMPLETED, 0, done))
    [order] = first.children
    assert (order.workflow, order.version, order.version_hash) == (pack.name, 2, pack.hash)
    assert (order.close, order.attributes) == (ParentClose.ABANDON, '{"kind":"x"}')
    started = Started.parse(order.started)
    assert pack.entry.decode_input(bytes(started.input).decode()) == ((Parcel(3),), {"fast": True})
    assert second.state is RunState.COMPLETED
    assert second.events[-1].payload == '"4 packed"'


def test_a_call_is_the_same_without_options() -> None:
    @workflow
    async def called() -> None:
        await pack(Parcel(3))

    @workflow
    async def started() -> None:
        await start_child(pack, Parcel(3))

    (one,), (two,) = first_turn(called).children, first_turn(started).children
    assert one == two


def test_children_stand_in_groups_as_activities_do() -> None:
    @workflow
    async def parent() -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(pack(Parcel(n))) for n in (1, 2)]
        (third,) = await asyncio.gather(pack(Parcel(3)))
        return sum(task.result().weight for task in tasks) + third.weight

    ends = [(EventType.CHILD_COMPLETED, n, pack.entry.encode_result(Parcel(n))) for n in (1, 0, 2)]
    assert live(parent, *ends)[-1].events[-1].payload == "3"


def test_failures_are_errors_of_the_parent() -> None:
    @workflow
    async def parent() -> list[str]:
        seen = []
        for _ in range(2):
            try:
                await pack(Parcel(1))
            except ChildCancelled as error:
                seen.append(error.state)
            except ChildFailed as error:
                seen.append(f"{error.activity}: {error.error_message}")
        return seen

    failed = encode({"type_name": "ValueError", "message": "too heavy"})
    ends = ((EventType.CHILD_FAILED, 0, failed), (EventType.CHILD_CANCELLED, 1, None))
    assert live(parent, *ends)[-1].events[-1].payload == '["pack: too heavy","cancelled"]'


def test_a_signal_by_contract_is_checked_before_it_is_sent() -> None:
    @workflow
    async def parent() -> str:
        child = start_child(pack, Parcel(1))
        child.signal(approval, True)
        try:
            child.signal(approval, "perhaps")
        except Exception as error:
            return type(error).__name__
        return "sent"

    decision = first_turn(parent)
    assert decision.events[-1].payload == '"CodecError"'
    assert [letter.payload for letter in decision.letters if letter.name == "approval"] == ["true"]


untyped: Any = start_child


@workflow(signals=[approval, Signal("amount", Decimal)])
async def strict() -> None: ...


@pytest.mark.parametrize(
    ("signal", "value", "words"),
    [
        (approval, True, None),
        ("approval", True, None),
        (Signal("amount", Decimal), Decimal("1.50"), None),
        ("amount", Decimal("1.50"), None),
        ("approval", "perhaps", "declares signal 'approval' with another value"),
        ("refund", 1, "takes no signal 'refund', it declares: amount, approval"),
    ],
)
def test_a_child_that_declares_its_signals_takes_no_others(signal: Any, value: Any, words: str | None) -> None:
    @workflow
    async def parent() -> str:
        child = strict()
        try:
            child.signal(signal, value)
        except SignalRefused as refused:
            return f"{refused.run_id == child.id} {refused.signal} {refused}"
        return "sent"

    decision = first_turn(parent)
    sent = [letter for letter in decision.letters if letter.name is not None]
    result = decision.events[-1].payload or ""
    assert (words or "sent") in result
    assert words is None or result.startswith(f'"True {signal} ')
    assert bool(sent) is (words is None)
    assert len([e for e in decision.events if e.type == EventType.SIGNAL_SENT]) == len(sent)


@activity
def no_workflow() -> None: ...


@workflow
async def greedy(key: str) -> None: ...


async def plain() -> None: ...


@pytest.mark.parametrize(
    ("start", "error", "words"),
    [
        (lambda: untyped(pack), "TypeError", "pack() missing a required argument: 'parcel'"),
        (lambda: untyped(pack, 1, 2), "TypeError", "too many positional arguments"),
        (lambda: untyped(pack, object()), "CodecError", "input[0]"),
        (lambda: untyped(pack, Parcel(1), key=""), "TypeError", "the key of the child"),
        (lambda: untyped(pack, Parcel(1), on_parent_close="kill"), "ValueError", "'cancel', 'terminate', 'aban"),
        (lambda: untyped(pack, Parcel(1), on_parent_close=None), "ValueError", "on_parent_close=None"),
        (lambda: untyped(pack, Parcel(1), attributes={"a": object()}), "CodecError", "attributes.a"),
        (lambda: untyped(no_workflow), "DeclarationError", "no_workflow: is the @workflow decorator missing?"),
        (lambda: untyped(plain), "DeclarationError", "plain: is the @workflow decorator missing?"),
        (lambda: untyped("pack"), "DeclarationError", "'pack': is the @workflow decorator missing?"),
        (lambda: untyped(greedy, key="k"), "DeclarationError", "greedy(...) if you need no options"),
    ],
)  # fmt: skip
def test_what_cannot_be_started_is_refused_and_not_recorded(start: Callable[[], Any], error: str, words: str) -> None:
    @workflow
    async def parent() -> None:
        start()

    decision = first_turn(parent)
    failure = failure_of(decision)
    assert failure.type_name.rpartition(".")[2] == error
    assert words in failure.message
    assert [event.command for event in decision.events] == [None, None]
    assert decision.children == ()


def test_a_workflow_that_takes_an_options_name_is_called_without_options() -> None:
    @workflow
    async def parent() -> None:
        await greedy(key="mine")

    assert len(first_turn(parent).children) == 1


def test_outside_of_workflows_there_is_no_parent() -> None:
    with pytest.raises(NotInWorkflow, match=r"start_child\(\)"):
        start_child(pack, Parcel(1))
    assert asyncio.run(pack(Parcel(1))) == Parcel(1, "packed")
