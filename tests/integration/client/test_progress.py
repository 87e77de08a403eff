"""What a workflow publishes and sets, read from outside while it runs, after it, and along a chain."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest

from continuum import Continuum, continue_as_new, publish, set_attributes, wait_signal, workflow
from continuum.errors import RunNotFound
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20.0


@dataclass(frozen=True)
class Step:
    done: int
    cost: Decimal


@workflow(name="progress.steps")
async def steps(count: int) -> None:
    for number in range(count):
        publish("step", Step(number, Decimal("1.50")))
        publish("left", timedelta(minutes=count - number))
        await wait_signal("next")
    publish("step", None)


@workflow(name="progress.rounds")
async def rounds(number: int) -> None:
    set_attributes({"round": number})
    if number:
        publish("round", number)
    await wait_signal("next")
    continue_as_new(number + 1)


@workflow(name="progress.marked")
async def marked(count: int) -> None:
    for number in range(count):
        set_attributes({f"inside{number}": number})
        await wait_signal("next")


def test_a_run_that_publishes_nothing_has_no_progress(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    assert handle.progress() == continuum.progress(handle.id) == {}


def test_the_last_value_of_each_name_is_read_as_what_it_was(continuum: Continuum) -> None:
    handle = continuum.start(steps, 2)
    with continuum.running():
        eventually(handle.progress, WAIT)
        assert handle.progress() == {"step": Step(0, Decimal("1.50")), "left": timedelta(minutes=2)}
        handle.signal("next")
        eventually(lambda: handle.progress()["step"].done == 1, WAIT)
        handle.signal("next")
        handle.result(timeout=WAIT)
    assert continuum.progress(handle.id) == {"step": None, "left": timedelta(minutes=1)}


def test_progress_and_attributes_are_those_of_the_tip(continuum: Continuum) -> None:
    handle = continuum.start(rounds, 0, attributes={"a": 1})
    with continuum.running():
        eventually(lambda: handle.refresh().attributes == {"a": 1, "round": 0}, WAIT)
        assert handle.progress() == {}
        handle.set_attributes({"outside": True})
        handle.signal("next")
        eventually(lambda: handle.progress() == {"round": 1}, WAIT)
        assert handle.refresh().attributes == {"a": 1, "round": 1, "outside": True}
        [found] = continuum.search({"attributes.round": 1, "is_tip": True}).runs
        assert found.chain_id == handle.id
        handle.terminate()


def test_a_workflow_and_an_outsider_that_set_attributes_at_once_keep_both(continuum: Continuum) -> None:
    count = 20
    handle = continuum.start(marked, count)
    with continuum.running():
        for number in range(count):
            handle.signal("next")
            handle.set_attributes({f"outside{number}": number})
        handle.result(timeout=WAIT)
    attributes = continuum.get(handle.id).attributes
    assert {f"{side}{number}" for side in ("inside", "outside") for number in range(count)} == attributes.keys()


def test_progress_is_bound_to_the_namespace_if_one_is_given(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever, namespace="eu")
    for ask in (
        lambda: continuum.progress(handle.id, namespace="us"),
        lambda: continuum.handle(handle.id, namespace="us").progress(),
        lambda: continuum.progress("0190a6f0-0000-7000-8000-000000000001"),
        lambda: continuum.progress("order-1"),
    ):
        with pytest.raises(RunNotFound):
            ask()
    assert continuum.progress(handle.id, namespace="eu") == {}
