"""What `@workflow` accepts, and what it hands to replay and to clients."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from continuum.declare.activities import activity
from continuum.declare.registry import REGISTRY
from continuum.declare.workflows import workflow
from continuum.errors import CodecError, DeclarationError, DuplicateName
from continuum.model.runs import ParentClose
from tests.support.first_turn import first_turn

if TYPE_CHECKING:
    from fractions import Fraction


@activity
def price(items: list[str]) -> int:
    return len(items)


@workflow(version=3, retention=timedelta(days=1))
async def order_flow(order: "Order", items: list[str], *, rush: bool = False) -> "Order":
    total = await price(items)
    return Order(order.id, total + rush)


@dataclass
class Order:  # below its user: hints are looked up late
    id: str
    total: int = 0


def test_a_plain_call_runs_the_code_under_plain_asyncio_with_async_activities() -> None:
    @activity
    async def hello(name: str) -> str:
        return f"hello {name}"

    @workflow
    async def greet(name: str) -> str:
        return await hello(name)

    assert asyncio.run(greet("you")) == "hello you"


def test_the_entry_is_all_that_replay_needs() -> None:
    entry = order_flow.entry
    assert (entry.name, entry.version, entry.hash) == ("order_flow", 3, order_flow.hash)
    assert entry.retention_us == 86_400_000_000
    assert entry.function is order_flow.function
    payload = order_flow.encode_input((Order("o"), ["a"]), {"rush": True})
    assert entry.decode_input(payload) == ((Order("o"), ["a"]), {"rush": True})
    assert order_flow.decode_result(entry.encode_result(Order("o", 2))) == Order("o", 2)


def test_input_that_does_not_fit_the_signature_is_a_type_error_naming_the_workflow() -> None:
    with pytest.raises(TypeError, match=r"order_flow\(\) missing a required argument: 'items'"):
        order_flow.encode_input((Order("o"),), {})


def test_input_that_cannot_be_recorded_is_named_by_its_path() -> None:
    with pytest.raises(CodecError) as caught:
        order_flow.encode_input((Order("o"), ["a", object()]), {})
    assert caught.value.path == "input[1][1]"


def test_a_workflow_called_in_a_workflow_is_a_child() -> None:
    @workflow
    async def parent() -> None:
        await order_flow(Order("o"), ["a"], rush=True)

    [order] = first_turn(parent).children
    assert (order.workflow, order.version, order.version_hash) == ("order_flow", 3, order_flow.hash)
    assert order.close is ParentClose.CANCEL


def test_the_function_of_another_workflow_can_be_part_of_this_one() -> None:
    @workflow
    async def parent() -> "Order":
        return await order_flow.function(Order("o"), ["a"])

    [order] = first_turn(parent).orders
    assert order.activity == price.name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": 0}, "version=0"),
        ({"version": True}, "version=True"),
        ({"version": "2"}, "version='2'"),
        ({"version": 2**31}, "version="),
        ({"name": ""}, "name=''"),
        ({"retention": 3}, "retention=3"),
        ({"retention": timedelta(0)}, "retention="),
        ({"snapshots": 0}, "snapshots=0 is not valid: write a whole number of events"),
        ({"snapshots": -1}, "snapshots=-1"),
        ({"snapshots": True}, "snapshots=True"),
        ({"snapshots": 1.5}, "snapshots=1.5"),
    ],
)
def test_an_invalid_option_is_refused_at_declaration(options: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):

        @workflow(**options)
        async def refused() -> None: ...


@pytest.mark.parametrize("snapshots", [None, False, 1, 5_000])
def test_a_workflow_keeps_its_own_threshold_of_snapshots(snapshots: Any) -> None:
    @workflow(snapshots=snapshots, name=f"snapshots.{snapshots}")
    async def flow() -> None: ...

    assert flow.snapshots is snapshots


def test_the_threshold_of_snapshots_is_no_part_of_the_code() -> None:
    async def flow() -> None: ...

    hashes = {workflow(snapshots=number, name=f"threshold.{number}")(flow).hash for number in (None, 1, 2)}
    assert len(hashes) == 1


def test_only_an_async_def_can_be_a_workflow() -> None:
    def plain() -> None: ...

    async def stream() -> Any:
        yield 1

    for function, words in [
        (plain, "async def"),
        (stream, "generator"),
        (lambda: 1, "lambda"),
        (3, "needs a function"),
    ]:
        with pytest.raises(DeclarationError, match=words):
            workflow(function)  # type: ignore[call-overload]


def test_versions_live_side_by_side_and_the_highest_is_the_default() -> None:
    @workflow(name="tests.versions", version=1)
    async def versions_old() -> int:
        return 1

    @workflow(name="tests.versions", version=2)
    async def versions_new() -> int:
        return 2

    assert REGISTRY.get_workflow("tests.versions") is versions_new
    assert REGISTRY.get_workflow("tests.versions", 1) is versions_old
    with pytest.raises(DuplicateName, match="version 2"):

        @workflow(name="tests.versions", version=2)
        async def versions_third() -> int:
            return 3


def test_hints_that_only_type_checkers_know_are_no_hints() -> None:
    @workflow
    async def flow(n: "Fraction") -> "Fraction":
        return n

    assert flow.entry.decode_input(flow.encode_input((3,), {})) == ((3,), {})
