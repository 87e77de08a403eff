"""What a workflow that declares its signals stores, and what its own code may wait for."""

import asyncio
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from continuum.declare.signals import Question, Signal
from continuum.declare.workflows import workflow
from continuum.errors import CodecError, DeclarationError, NotInWorkflow
from continuum.model.events import EventType
from continuum.model.runs import RunState
from continuum.replay.effects.signal import wait_signal
from tests.support.first_turn import failure_of, first_turn

price = Signal("price_of", str, reply=Decimal)


@dataclass
class Review:
    verdict: str
    score: float = 0.0


def test_the_contract_holds_names_types_and_replies() -> None:
    @workflow(signals=[Signal("review", Review), price, "stop"])
    async def contract_flow() -> None: ...

    stored = json.loads(contract_flow.contract or "")
    assert sorted(stored["signals"]) == ["price_of", "review", "stop"]
    assert stored["signals"]["stop"] is True
    assert list(stored["replies"]) == ["price_of"]


def test_a_workflow_that_declares_nothing_has_no_contract_and_one_that_takes_nothing_has() -> None:
    @workflow
    async def open_flow() -> None: ...

    @workflow(signals=[])
    async def deaf_flow() -> None: ...

    assert open_flow.contract is None and open_flow.entry.signals is None
    assert json.loads(deaf_flow.contract or "")["signals"] == {}
    assert deaf_flow.entry.signals == frozenset()


def test_the_contract_is_part_of_what_tells_two_versions_apart() -> None:
    def declare(signals: Any) -> str:
        @workflow(name=f"hashed {signals}", signals=signals)
        async def hashed_flow() -> None: ...

        return hashed_flow.hash

    given = [None, [], ["a"], [Signal("a", int)], [Signal("a", str)], [Signal("a", str, reply=int)], ["a", "b"]]
    assert len({declare(signals) for signals in given}) == len(given)
    assert declare([Signal("a", int), "b"]) == declare(["b", Signal("a", int)])


@pytest.mark.parametrize("signals", ["review", 3, [3], [None], [Signal("a"), Signal("a", int)], ["a", "a"], [""]])
def test_a_wrong_declaration_is_refused(signals: Any) -> None:
    with pytest.raises(DeclarationError):

        @workflow(signals=signals)
        async def wrong_flow() -> None: ...


@pytest.mark.parametrize("wait", [lambda: wait_signal("typo"), lambda: Signal("typo", str).wait()])
def test_waiting_for_an_undeclared_signal_fails_at_the_wait(wait: Any) -> None:
    @workflow(name=f"waits {wait}", signals=[Signal("review", str), "stop"])
    async def waiting_flow() -> None:
        await wait()

    decision = first_turn(waiting_flow)
    assert [event.type for event in decision.events] == [EventType.RUN_BEGAN, EventType.RUN_FAILED]
    failure = failure_of(decision)
    assert failure.type_name.endswith("DeclarationError")
    assert "'typo'" in failure.message and "review, stop" in failure.message


def test_receiving_an_undeclared_question_fails_as_well() -> None:
    @workflow(signals=[])
    async def receiving_flow() -> None:
        await price.receive()  # continuum: allow[CT601] what the scanner does not see fails at run time

    assert failure_of(first_turn(receiving_flow)).type_name.endswith("DeclarationError")


def test_a_declared_signal_is_waited_for_as_ever_by_name_too() -> None:
    @workflow(signals=[Signal("review", str), price])
    async def good_flow() -> None:
        await asyncio.gather(wait_signal("review"), Signal("review", str).wait(), price.receive(), price.wait())

    decision = first_turn(good_flow)
    assert decision.state is RunState.SUSPENDED
    assert [event.name for event in decision.events[1:]] == ["review", "review", "price_of", "price_of"]


# -- questions ---------------------------------------------------------------------------------------------------------


def test_a_signal_with_a_reply_is_a_question() -> None:
    assert type(price) is Question
    assert repr(price) == "Signal('price_of', <class 'str'>, reply=<class 'decimal.Decimal'>)"
    assert type(Signal("other", reply=Any)) is Question
    assert type(Signal("other", str)) is Signal


def test_a_question_is_not_received_elsewhere() -> None:
    with pytest.raises(NotInWorkflow):
        price.receive()


# -- values of another type --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "payload"),
    [
        (int, '"abc"'),
        (str, "5"),
        (str, '{"$decimal":"3"}'),
        (Review, '{"score":1}'),
        (Review, '{"$tuple":[1]}'),
        (list[int], '["a"]'),
        (Decimal, '"x"'),
    ],
)
def test_a_value_of_another_type_is_an_error_of_the_waiter(hint: Any, payload: str) -> None:
    with pytest.raises(CodecError, match="signal s"):
        Signal("s", hint)._decode(payload)


@pytest.mark.parametrize(
    ("hint", "payload", "value"),
    [
        (float, "3", 3.0),
        (Decimal, '"3.50"', Decimal("3.50")),
        (Decimal, '{"$decimal":"3.50"}', Decimal("3.50")),
        (Review, '{"verdict":"ok"}', Review("ok")),
        (Review, '{"$class":["gone:Review",{"verdict":"ok"}]}', Review("ok")),
        (Any, '{"$tuple":[1]}', (1,)),
    ],
)
def test_a_value_of_the_type_is_read_whoever_wrote_it(hint: Any, payload: str, value: Any) -> None:
    assert Signal("s", hint)._decode(payload) == value
