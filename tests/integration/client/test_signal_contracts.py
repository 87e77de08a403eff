"""Senders keep to what a workflow declares: with its code, without it, and in a transaction of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from continuum import CodecError, Continuum, RunNotFound, Signal, SignalRefused, wait_signal, workflow
from continuum.declare.registry import Registry
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20


@dataclass
class Offer:
    id: UUID
    price: Decimal
    until: datetime
    lines: tuple[str, ...] = ()
    note: str | None = None


offer = Signal("offer", Offer)
count = Signal("count", int)
OFFER = Offer(UUID(int=7), Decimal("9.90"), datetime(2026, 1, 2, tzinfo=UTC), ("a", "b"))


@workflow(name="contracts.typed", signals=[offer, count, "anything"])
async def typed() -> Offer:
    return await offer.wait()


@workflow(name="contracts.any", signals=[count, "anything"])
async def takes_anything() -> Any:
    return await wait_signal("anything")


@workflow(name="contracts.deaf", signals=[])
async def deaf() -> None:
    await Signal("never").wait()


@pytest.fixture
def stranger(continuum: Continuum) -> Iterator[Continuum]:
    """Yield an instance on the same journal that has no code loaded."""
    journal = continuum._access.journal
    with Continuum(journal=journal, registry=Registry(), poll_interval=timedelta(milliseconds=200)) as instance:
        yield instance


def never_sent(continuum: Continuum, run_id: str) -> None:
    """Assert that nothing waits in the run's inbox, by what it takes next."""
    continuum.signal(run_id, offer, OFFER)
    assert continuum.handle(run_id).result(timeout=WAIT) == OFFER
    assert [event.type for event in continuum.history(run_id)].count("signal_received") == 1


def test_an_undeclared_signal_is_refused_and_the_declared_ones_are_named(
    continuum: Continuum, stranger: Continuum
) -> None:
    with continuum.running():
        handle = continuum.start(typed)
        for sender in (continuum, stranger):
            with pytest.raises(SignalRefused, match=r"'typo'.*declares: anything, count, offer\. Nothing") as refused:
                sender.signal(handle.id, "typo", 1)
            assert (refused.value.run_id, refused.value.signal) == (handle.id, "typo")
        never_sent(continuum, handle.id)


def test_a_value_of_another_type_is_refused_with_its_place(continuum: Continuum, stranger: Continuum) -> None:
    good = {"id": str(OFFER.id), "price": "9.90", "until": "2026-01-02T00:00:00Z"}
    with continuum.running():
        handle = continuum.start(typed)
        for sender in (continuum, stranger):
            for name, value, message in [
                ("count", "3", "must be a whole number"),
                ("offer", {**good, "until": "soon"}, "until: must be a date with a time"),
                ("offer", {**good, "lines": ["a", 1]}, r"lines\[1\]: must be a text"),
                ("offer", {"id": "x"}, "must have 'price'"),
                ("offer", None, "must be an object"),
            ]:
                with pytest.raises(SignalRefused, match=message):
                    sender.signal(handle.id, name, value)
        with pytest.raises(CodecError):
            handle.signal(offer, {**good, "price": "dear"})  # type: ignore[arg-type]
        never_sent(continuum, handle.id)


@pytest.mark.parametrize(
    "value",
    [
        {"id": str(OFFER.id), "price": "9.90", "until": "2026-01-02T00:00:00Z", "lines": ["a", "b"]},
        {"id": OFFER.id, "price": OFFER.price, "until": OFFER.until, "lines": ("a", "b"), "note": None},
        {"id": str(OFFER.id), "price": 9.9, "until": "2026-01-02T00:00:00+00:00", "lines": ["a", "b"], "more": 1},
        OFFER,
    ],
    ids=["as JSON", "as values", "as numbers", "as the class"],
)
def test_plain_values_of_whoever_has_no_code_arrive_as_the_type(
    continuum: Continuum, stranger: Continuum, value: Any
) -> None:
    with continuum.running():
        handle = continuum.start(typed)
        eventually_stored(stranger, handle.id)
        assert stranger.signal(handle.id, "offer", value) == "delivered"
        assert handle.result(timeout=WAIT) == OFFER


def eventually_stored(stranger: Continuum, run_id: str) -> None:
    """A running dispatcher stored the contract before it took its first run."""
    assert stranger._access.journal.runs.contract(stranger.handle(run_id).id) is not None


def test_what_is_declared_as_anything_keeps_its_types(continuum: Continuum, stranger: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(takes_anything)
        stranger.signal(handle.id, "anything", {"a": (1, Decimal(2))})
        assert handle.result(timeout=WAIT) == {"a": (1, Decimal(2))}


def test_a_workflow_that_takes_nothing_takes_nothing(continuum: Continuum, stranger: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(deaf)
        for sender in (continuum, stranger):
            with pytest.raises(SignalRefused, match="declares: none"):
                sender.signal(handle.id, "never")


def test_a_workflow_that_declares_nothing_takes_everything(continuum: Continuum, stranger: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.first_signal, "s")
        assert stranger.signal(handle.id, "other", 1) == "delivered"
        assert handle.signal("s", (1, 2)) == "delivered"
        assert handle.result(timeout=WAIT) == (1, 2)


def test_before_any_dispatcher_has_seen_the_code_the_declaration_counts(
    continuum: Continuum, stranger: Continuum
) -> None:
    handle = continuum.start(typed)
    for sender in (handle, continuum.handle(handle.id)):
        with pytest.raises(SignalRefused, match="'typo'"):
            sender.signal("typo", 1)
    # Nobody can know here what it takes; the workflow just never asks for it.
    assert stranger.signal(handle.id, "typo", 1) == "delivered"


def test_the_namespace_is_looked_at_first(continuum: Continuum) -> None:
    handle = continuum.start(typed, namespace="eu")
    with pytest.raises(RunNotFound):
        continuum.signal(handle.id, "typo", namespace="us")
    with pytest.raises(RunNotFound):
        continuum.signal("0190a6f0-0000-7000-8000-000000000001", "typo")


def versions(*declared: tuple[int, Any]) -> list[Any]:
    """Return one workflow's code under several versions, or under several contracts, each with its registry."""
    made = []
    for number, hint in declared:

        @workflow(name=f"contracts.{number}.{hint.__name__}", version=number, signals=[Signal("count", hint)])
        async def versioned(times: int) -> list[Any]:
            return [await wait_signal("count") for _ in range(times)]

        versioned.name = "contracts.versioned"
        made.append(versioned)
    return made


def instance_of(continuum: Continuum, *flows_of_it: Any) -> Continuum:
    """Return an instance on the same journal with this code alone."""
    registry = Registry()
    for flow in flows_of_it:
        registry.register_workflow(flow)
    journal = continuum._access.journal
    return Continuum(journal=journal, registry=registry, poll_interval=timedelta(milliseconds=50))


def test_a_run_is_bound_to_the_contract_of_its_own_version(continuum: Continuum, stranger: Continuum) -> None:
    first, second = versions((1, int), (2, str))
    with instance_of(continuum, first, second) as instance, instance.running():
        for flow, good, bad in ((first, 1, "one"), (second, "one", 1)):
            run = instance.start(flow, 1)
            with pytest.raises(SignalRefused, match="count"):
                stranger.signal(run.id, "count", bad)
            assert stranger.signal(run.id, "count", good) == "delivered"
            assert run.result(timeout=WAIT) == [good]


def test_a_run_that_new_code_has_taken_over_is_bound_to_its_contract(continuum: Continuum, stranger: Continuum) -> None:
    """New code takes over with the first commit that it makes for the run; until then the old contract holds."""
    old, new = versions((1, int), (1, str))
    with instance_of(continuum, old) as before, before.running():
        handle = before.start(old, 2)
        eventually(lambda: handle.history()[-1].type == "signal_awaited", WAIT)
    with instance_of(continuum, new) as after, after.running():
        with pytest.raises(SignalRefused, match="whole number"):
            stranger.signal(handle.id, "count", "one")
        stranger.signal(handle.id, "count", 1)
        eventually(lambda: handle.refresh().version_hash == new.hash, WAIT)
        with pytest.raises(SignalRefused, match="text"):
            stranger.signal(handle.id, "count", 2)
        stranger.signal(handle.id, "count", "two")
        assert after.handle(handle.id).result(timeout=WAIT) == [1, "two"]


def test_a_sender_asks_once_for_the_contract_and_never_writes_what_is_refused(
    postgres: Continuum, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    runs = postgres._access.journal.runs

    def count_calls(name: str, call: Any) -> None:
        def counted(*args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return call(*args, **kwargs)

        monkeypatch.setattr(runs, name, counted)

    for name in ("contract", "find", "post"):
        count_calls(name, getattr(runs, name))
    with postgres.running():
        declared, open_inbox = postgres.start(typed), postgres.start(flows.first_signal, "s")
        declared.signal("count", 1)
        open_inbox.signal("s", 1)
        with pytest.raises(SignalRefused):
            declared.signal("count", "1")
    assert asked == ["contract", "post", "contract", "post", "contract"]


def test_in_a_callers_transaction_the_contract_holds_as_well(postgres: Continuum, database_url: str) -> None:
    engine = create_engine(database_url, poolclass=NullPool)
    with postgres.running():
        running = postgres.start(typed)
        with engine.connect() as connection:
            with pytest.raises(SignalRefused, match="'typo'"):
                running.signal("typo", connection=connection)
            with pytest.raises(SignalRefused, match="whole number"):
                running.signal("count", "x", connection=connection)
            assert (
                running.signal(
                    "offer", {"id": str(OFFER.id), "price": 1, "until": "2026-01-02T00:00:00Z"}, connection=connection
                )
                == "delivered"
            )
            connection.commit()
        assert running.result(timeout=WAIT).price == Decimal(1)
    engine.dispose()


def test_a_run_started_in_the_same_transaction_is_checked_too(postgres: Continuum, database_url: str) -> None:
    connection = psycopg2.connect(database_url)
    handle = postgres.start(typed, connection=connection)
    with pytest.raises(SignalRefused, match="'typo'"):
        handle.signal("typo", connection=connection)
    assert handle.signal(offer, OFFER, connection=connection) == "delivered"
    connection.commit()
    connection.close()
    with postgres.running():
        assert handle.result(timeout=WAIT) == OFFER
