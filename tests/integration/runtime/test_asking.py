"""Asking a run and waiting for its answer; and tasks that handle signals beside the main one."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from continuum import (
    Continuum,
    DeclarationError,
    ResultTimeout,
    RunFailed,
    RunNotFound,
    RunState,
    RunTerminal,
    Signal,
    SignalRefused,
    wait_signal,
    wait_until,
    workflow,
)
from continuum.declare.registry import Registry
from continuum.errors import JournalUnavailable
from continuum.replay.effects.continue_as_new import continue_as_new
from tests.support.eventually import eventually

WAIT = 20


@dataclass
class Quote:
    item: str
    price: Decimal


quote = Signal("quote", str, reply=Quote)
order = Signal("order", Quote)


@workflow(name="asking.shop", signals=[quote, order, "stop"])
async def shop(price: Decimal) -> int:
    answered = 0

    async def clerk() -> None:
        nonlocal answered
        while True:
            request = await quote.receive()
            request.answer(Quote(request.value, price))
            answered += 1

    desk = asyncio.create_task(clerk())
    await wait_signal("stop")
    desk.cancel()
    return answered


@workflow(name="asking.open")
async def open_shop() -> Any:
    first = await quote.receive()
    assert not first.asked
    first.answer(Quote("nobody listens", Decimal(0)))
    value = await quote.wait()
    return [first.value, value]


@workflow(name="asking.careless")
async def careless() -> str:
    request = await quote.receive(timeout=60)
    try:
        request.answer({"item": 3})  # type: ignore[arg-type]
    except Exception as error:
        first = type(error).__name__
    request.answer(Quote("a", Decimal(1)))
    try:
        request.answer(Quote("b", Decimal(2)))
    except RuntimeError as error:
        return f"{first}, {error}"
    return "answered twice"


@workflow(name="asking.broken")
async def broken() -> None:
    await quote.receive()
    raise ValueError("the till is empty")


@workflow(name="asking.silent")
async def silent() -> None:
    await quote.receive()


@workflow(name="asking.relay", signals=[quote, "stop"])
async def relay(generation: int, *, slow: bool = False) -> str:
    """Answer one question a run, then continue; a slow one leaves its question to the next run."""
    if slow and generation == 0:
        continue_as_new(1, slow=True)
    stop = asyncio.create_task(wait_signal("stop"))
    request = asyncio.create_task(quote.receive())
    await asyncio.wait({stop, request}, return_when=asyncio.FIRST_COMPLETED)
    if request.done():
        request.result().answer(Quote(request.result().value, Decimal(generation)))
        continue_as_new(generation + 1)
    return "stopped"


@workflow(name="asking.late")
async def late() -> None:
    await wait_signal("go")
    request = await quote.receive()
    await wait_signal("answer")
    request.answer(Quote(request.value, Decimal(5)))
    await wait_signal("end")


@pytest.fixture
def stranger(continuum: Continuum) -> Iterator[Continuum]:
    with Continuum(journal=continuum._access.journal, registry=Registry()) as instance:
        yield instance


def test_a_question_is_answered_with_the_declared_type(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(shop, Decimal("2.50"))
        assert handle.ask(quote, "tea", timeout=WAIT) == Quote("tea", Decimal("2.50"))
        assert asyncio.run(handle.aio.ask(quote, "milk", timeout=WAIT)) == Quote("milk", Decimal("2.50"))
        handle.signal("stop")
        assert handle.result(timeout=WAIT) == 2


def test_whoever_has_no_code_asks_by_name_and_gets_plain_values(continuum: Continuum, stranger: Continuum) -> None:
    with continuum.running():
        handle = stranger.handle(continuum.start(shop, Decimal("2.50")).id)
        assert handle.ask("quote", "tea", timeout=timedelta(seconds=WAIT)) == {"item": "tea", "price": "2.50"}
        with pytest.raises(SignalRefused, match="must be a text"):
            handle.ask("quote", 7)
        with pytest.raises(SignalRefused, match=r"does not answer signal 'order'.*: quote\."):
            handle.ask("order", {"item": "tea", "price": 1})
        with pytest.raises(SignalRefused, match="takes no signal 'typo'"):
            handle.ask("typo")
        with pytest.raises(DeclarationError, match="reply="):
            handle.ask(order, Quote("tea", Decimal(1)))  # type: ignore[call-overload]


def test_many_who_ask_at_once_get_each_their_own_answer(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(shop, Decimal(1))
        items = [f"item {number}" for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda item: handle.ask(quote, item, timeout=WAIT), items))
        assert [answer.item for answer in answers] == items


def test_an_answer_is_a_command_of_the_run_and_replays(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(shop, Decimal(1))
        first = handle.ask(quote, "tea", delivery_id="a", timeout=WAIT)
    kinds = [event.type for event in handle.history()]
    assert kinds.count("signal_answered") == 1
    with continuum.running():  # another dispatcher replays it
        assert handle.ask(quote, "tea", delivery_id="a", timeout=WAIT) == first
        assert handle.ask(quote, "milk", timeout=WAIT).item == "milk"
        handle.signal("stop")
        assert handle.result(timeout=WAIT) == 2


def test_the_same_delivery_id_asks_the_same_question(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(late)
        with pytest.raises(ResultTimeout, match="ask again with the same delivery_id=") as timed_out:
            handle.ask(quote, "tea", delivery_id="d", timeout=0.1)
        assert timed_out.value.run_id == handle.id
        for name in ("go", "answer"):
            handle.signal(name)
        assert handle.ask(quote, "other words", delivery_id="d", timeout=WAIT) == Quote("tea", Decimal(5))
        assert handle.ask(quote, "tea", delivery_id="d", timeout=0) == Quote("tea", Decimal(5))
        handle.signal("end")
        handle.result(timeout=WAIT)
        # The answer outlives the run.
        assert handle.ask(quote, "tea", delivery_id="d", timeout=0) == Quote("tea", Decimal(5))
        with pytest.raises(RunTerminal):
            handle.ask(quote, "tea", delivery_id="another")
        with pytest.raises(RunTerminal):
            handle.ask(quote, "tea")


def test_a_run_that_ends_without_answering_says_how(continuum: Continuum) -> None:
    with continuum.running():
        with pytest.raises(RunFailed, match="the till is empty"):
            continuum.start(broken).ask(quote, "tea", timeout=WAIT)
        with pytest.raises(RunTerminal, match=r"ended \(completed\) without answering 'quote'") as ended:
            continuum.start(silent).ask(quote, "tea", timeout=WAIT)
        assert ended.value.state == "completed"
        handle = continuum.start(late)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(handle.ask, quote, "tea", timeout=WAIT)
            eventually(lambda: any(event.name == "quote" for event in handle.history()), WAIT)
            handle.terminate("a test")
            with pytest.raises(RunTerminal, match="terminated"):
                asked.result(WAIT)
        with pytest.raises(RunNotFound):
            continuum.handle("0190a6f0-0000-7000-8000-000000000001").ask(quote, "tea")


def test_a_plain_signal_needs_no_answer_and_a_plain_wait_takes_a_question(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(open_shop)
        handle.signal(quote, "told")
        with pytest.raises(RunTerminal, match="without answering"):
            handle.ask(quote, "asked", timeout=WAIT)
        assert handle.result(timeout=WAIT) == ["told", "asked"]
        assert "signal_answered" not in [event.type for event in handle.history()]


def test_a_request_is_answered_once_and_only_with_its_type(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(careless)
        assert handle.ask(quote, "tea", timeout=WAIT) == Quote("a", Decimal(1))
        assert handle.result(timeout=WAIT).startswith("CodecError, this request of signal 'quote' has been answered")


def test_answers_come_from_whichever_run_of_the_chain(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(relay, 0)
        assert handle.ask(quote, "a", delivery_id="a", timeout=WAIT) == Quote("a", Decimal(0))
        assert handle.ask(quote, "b", timeout=WAIT) == Quote("b", Decimal(1))
        assert handle.ask(quote, "c", timeout=WAIT) == Quote("c", Decimal(2))
        # Answered by the first run, asked for again when the fourth one goes on.
        assert handle.ask(quote, "a", delivery_id="a", timeout=WAIT) == Quote("a", Decimal(0))
        handle.signal("stop")
        assert handle.result(timeout=WAIT) == "stopped"


def test_a_question_to_a_run_that_continues_is_answered_by_the_next(continuum: Continuum) -> None:
    handle = continuum.start(relay, 0, slow=True)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(handle.ask, quote, "tea", timeout=WAIT)
        with continuum.running():
            assert asked.result(WAIT) == Quote("tea", Decimal(1))
            handle.signal("stop")
            handle.result(timeout=WAIT)


def test_a_database_that_is_away_for_a_moment_does_not_end_the_wait(
    continuum: Continuum, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = continuum.start(shop, Decimal(1))
    runs = handle._access.journal.runs
    history, failures = runs.history, [JournalUnavailable("away")] * 3

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return history(*args, **kwargs)

    monkeypatch.setattr(runs, "history", flaky)
    with continuum.running():
        assert handle.ask(quote, "tea", timeout=WAIT).item == "tea"
    assert not failures


# -- tasks that handle signals, and wait_until over what they set ------------------------------------------------------


@workflow(name="asking.gathered")
async def gathered(wanted: int, seconds: float) -> list[Any]:
    votes: dict[str, list[Any]] = {"yes": [], "no": []}

    async def listen(name: str) -> None:
        while True:
            votes[name].append(await wait_signal(name))

    async def watch() -> str:
        try:
            await wait_until(lambda: len(votes["yes"]) + len(votes["no"]) >= wanted, timeout=seconds)
        except TimeoutError:
            return "late"
        return "done"

    listeners = asyncio.gather(listen("yes"), listen("no"))
    outcome = await watch()
    listeners.cancel()
    return [outcome, votes["yes"], votes["no"]]


@workflow(name="asking.grouped")
async def grouped(wanted: int, seconds: float) -> list[Any]:
    votes: list[Any] = []

    async def listen() -> None:
        while len(votes) < wanted:
            votes.append(await wait_signal("yes"))

    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(listen())
            await wait_until(lambda: len(votes) >= wanted)
    except TimeoutError:
        return ["late", votes]
    return ["done", votes]


def test_a_main_task_waits_for_what_gathered_tasks_hear(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(gathered, 3, 60.0)
        for name, value in (("yes", 1), ("no", 2), ("yes", 3)):
            handle.signal(name, value)
        assert handle.result(timeout=WAIT) == ["done", [1, 3], [2]]


def test_a_main_task_waits_for_what_a_task_group_hears(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(grouped, 3, 60.0)
        for value in range(3):
            handle.signal("yes", value)
        assert handle.result(timeout=WAIT) == ["done", [0, 1, 2]]


@pytest.mark.parametrize("flow", [gathered, grouped])
def test_the_wait_ends_in_time_and_keeps_what_was_heard(continuum: Continuum, flow: Any) -> None:
    with continuum.running():
        handle = continuum.start(flow, 3, 1.0)
        handle.signal("yes", 1)
        assert handle.result(timeout=WAIT)[:2] == ["late", [1]]


def test_what_was_heard_is_there_after_another_dispatcher_has_taken_over(continuum: Continuum) -> None:
    handle = continuum.start(gathered, 2, 60.0)
    with continuum.running():
        handle.signal("no", 1)
        eventually(
            lambda: handle.refresh().state == RunState.SUSPENDED and "signal_received" in kinds_of(handle.history()),
            WAIT,
        )
    handle.signal("yes", 2)
    with continuum.running():
        assert handle.result(timeout=WAIT) == ["done", [2], [1]]


def kinds_of(events: Any) -> list[str]:
    return [event.type for event in events]
