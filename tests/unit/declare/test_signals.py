"""The contract of a signal."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from continuum.declare.signals import Signal, signal_name
from continuum.declare.workflows import workflow
from continuum.errors import CodecError, DeclarationError, NotInWorkflow
from continuum.model.events import EventType
from tests.support.first_turn import first_turn


@dataclass
class Review:
    verdict: str
    score: float = 0.0


def test_waiting_is_a_command_of_its_name_only() -> None:
    @workflow
    async def flow() -> None:
        await Signal("review", Review).wait()

    last = first_turn(flow).events[-1]
    assert (last.type, last.name, last.payload) == (EventType.SIGNAL_AWAITED, "review", None)


def test_waiting_elsewhere_is_refused() -> None:
    with pytest.raises(NotInWorkflow):
        Signal("review").wait()


@pytest.mark.parametrize(
    ("hint", "value", "payload"),
    [
        (str, "ok", '"ok"'),
        (Review, Review("ok", 1.5), '{"verdict":"ok","score":1.5}'),
        (Review, {"verdict": "ok"}, '{"verdict":"ok","score":0.0}'),
        (float, 3, "3.0"),
        (list[Review], [Review("a")], '[{"verdict":"a","score":0.0}]'),
        (str | None, None, "null"),
        (Any, {"a": 1}, '{"a":1}'),
    ],
)
def test_a_value_of_the_type_is_encoded(hint: Any, value: Any, payload: str) -> None:
    assert Signal("s", hint).encode(value) == payload


@pytest.mark.parametrize(
    ("hint", "value"),
    [(str, 5), (int, True), (Review, "ok"), (Review, {"score": 1}), (list[int], ["a"]), (datetime, "soon")],
)
def test_a_value_of_another_type_is_refused_at_the_sender(hint: Any, value: Any) -> None:
    with pytest.raises(CodecError, match="signal 's' carries") as caught:
        Signal("s", hint).encode(value)
    assert caught.value.path == "signal s"


def test_what_cannot_be_recorded_is_refused_also_without_a_type() -> None:
    with pytest.raises(CodecError):
        Signal("s").encode(object())


def test_a_signal_may_be_named_by_its_contract_or_plainly() -> None:
    assert signal_name(Signal("review", str)) == signal_name("review") == "review"
    for wrong in ("", 3, "x" * 201):
        with pytest.raises(DeclarationError):
            signal_name(wrong)  # type: ignore[arg-type]
        with pytest.raises(DeclarationError):
            Signal(wrong)  # type: ignore[arg-type]
