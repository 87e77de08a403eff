"""Signalling, cancelling, terminating, listing; and that a namespace is a wall."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from continuum import CodecError, ConfigError, Continuum, RunNotFound, RunState, RunTerminal, Signal
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20


def test_a_typed_signal_refuses_another_type_before_anything_is_written(continuum: Continuum) -> None:
    handle = continuum.start(flows.wait_for_approval)
    with pytest.raises(CodecError, match=r"client\.approval"):
        handle.signal(flows.approval, {"not": "text"})
    handle.signal(flows.approval, "yes")
    with continuum.running():
        assert handle.result(timeout=WAIT) == "yes"


def test_a_signal_may_be_named_and_carry_anything(continuum: Continuum) -> None:
    handle = continuum.start(flows.first_signal, "s")
    assert continuum.signal(handle.id, "s", {"a": (1, 2)}) == "delivered"
    with continuum.running():
        assert handle.result(timeout=WAIT) == {"a": (1, 2)}


def test_a_delivery_id_is_good_once_per_signal_and_run(continuum: Continuum) -> None:
    handle, other = continuum.start(flows.first_signal, "s"), continuum.start(flows.first_signal, "s")
    assert handle.signal("s", 1, delivery_id="d") == "delivered"
    assert handle.signal("s", 2, delivery_id="d") == "duplicate"
    assert handle.signal("t", 3, delivery_id="d") == "delivered"
    assert other.signal("s", 4, delivery_id="d") == "delivered"
    assert [handle.signal("s", 5) for _ in range(3)] == ["delivered"] * 3


@pytest.mark.parametrize("name", ["", "a\0b", 7, None, "\ud800", "x" * 501])
def test_a_signal_needs_a_name(continuum: Continuum, name: Any) -> None:
    handle = continuum.start(flows.forever)
    with pytest.raises(Exception, match="name") as refused:
        handle.signal(name)
    assert type(refused.value).__module__ == "continuum.errors"


def test_an_ended_run_takes_nothing_any_more_and_says_how_it_ended(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    ended = handle.terminate("a test")
    assert ended == [handle.id]
    for send in (lambda: handle.signal("s"), handle.cancel, handle.terminate):
        with pytest.raises(RunTerminal, match="terminated") as refused:
            send()
        assert refused.value.state == "terminated"
        assert refused.value.run_id == handle.id


def test_a_reason_is_short_text(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    for reason in (7, "x" * 5000, "a\0b"):
        with pytest.raises(ConfigError, match="reason"):
            handle.terminate(reason)  # type: ignore[arg-type]
    assert handle.refresh().state == RunState.PENDING


@pytest.mark.parametrize(
    "ask",
    [
        lambda c, run, ns: c.get(run, namespace=ns),
        lambda c, run, ns: c.history(run, namespace=ns),
        lambda c, run, ns: c.tasks(run, namespace=ns),
        lambda c, run, ns: c.signal(run, "s", namespace=ns),
        lambda c, run, ns: c.cancel(run, namespace=ns),
        lambda c, run, ns: c.terminate(run, namespace=ns),
        lambda c, run, ns: c.handle(run, namespace=ns).result(timeout=0),
        lambda c, run, ns: c.handle(run, namespace=ns).refresh(),
        lambda c, run, ns: c.handle(run, namespace=ns).history(),
        lambda c, run, ns: c.handle(run, namespace=ns).signal("s"),
        lambda c, run, ns: c.handle(run, namespace=ns).cancel(),
        lambda c, run, ns: c.handle(run, namespace=ns).terminate(),
    ],
)
def test_nothing_passes_from_one_namespace_to_another(
    continuum: Continuum, ask: Callable[[Continuum, str, str], Any]
) -> None:
    handle = continuum.start(flows.forever, namespace="tenant-a")
    before = handle.refresh()
    with pytest.raises(RunNotFound):
        ask(continuum, handle.id, "tenant-b")
    assert handle.refresh() == before
    with pytest.raises(ConfigError, match="namespace"):
        ask(continuum, handle.id, "")
    with suppress(TimeoutError):  # it was found, and goes on
        ask(continuum, handle.id, "tenant-a")


def test_a_cancel_in_the_right_namespace_cancels(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever, namespace="tenant-a")
    continuum.handle(handle.id, namespace="tenant-a").cancel()
    with continuum.running():
        eventually(lambda: handle.refresh().state == RunState.CANCELLED, WAIT)


def test_runs_are_listed_newest_first_page_by_page(continuum: Continuum) -> None:
    ids = [continuum.start(flows.forever).id for _ in range(5)]
    seen: list[str] = []
    cursor = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = continuum.search(limit=2, cursor=cursor)
        seen += [run.id for run in page.runs]
        cursor, pages = page.cursor, pages + 1
    assert seen == ids[::-1]
    assert pages == 3


def test_a_signal_contract_is_as_good_as_its_name(continuum: Continuum) -> None:
    handle = continuum.start(flows.first_signal, "count")
    with pytest.raises(CodecError):
        handle.signal(Signal("count", int), "many")
    handle.signal(Signal("count", int), 3)
    with continuum.running():
        assert handle.result(timeout=WAIT) == 3


def test_a_history_is_read_after_any_number(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    assert handle.history(after=2**31) == []
    assert len(handle.history(after=-1)) == 1
    for wrong in ("1", 1.5, True, None):
        with pytest.raises(ConfigError, match="after="):
            handle.history(after=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["\ud800", "a\0b", 7])
def test_a_reason_that_cannot_be_stored_is_refused(continuum: Continuum, reason: Any) -> None:
    handle = continuum.start(flows.forever)
    with pytest.raises(ConfigError, match="reason="):
        handle.terminate(reason)
    assert not handle.refresh().ended
