"""Here live the workflows whose histories are kept. They are as frozen as the histories: nothing here may change.

A change of what one of them asks for makes its history drift, and the histories stay. Add to this file, only. All of
them return what they have seen, so that a result which replays differently is found.
"""

import asyncio
import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from continuum import (
    ActivityError,
    ActivityFailed,
    ChildCancelled,
    ChildFailed,
    PermanentError,
    Retry,
    Signal,
    activity,
    compensate,
    compensate_all,
    continue_as_new,
    current_attempt,
    now,
    patched,
    publish,
    random,
    run_info,
    saga,
    set_attributes,
    side_effect,
    sleep,
    start_child,
    today,
    uuid4,
    wait_signal,
    wait_until,
    workflow,
)

QUICK = Retry(max_attempts=3, base=timedelta(milliseconds=5), jitter=timedelta(0))
NEVER = timedelta(days=1)
gates: dict[str, threading.Event] = defaultdict(threading.Event)  # by name: opened by `record`


@dataclass(frozen=True)
class Order:
    item: str
    price: Decimal
    due: datetime


# ------------------------------------------------------------------ activities


@activity(name="golden.echo", retry=QUICK)
def echo(value: Any) -> Any:
    return value


@activity(name="golden.order", retry=QUICK)
def make_order(item: str, price: Decimal) -> Order:
    return Order(item, price, datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))


@activity(name="golden.refuse", retry=QUICK)
def refuse(why: str) -> None:
    raise PermanentError(why)


@activity(name="golden.flaky", retry=QUICK)
def flaky(failures: int) -> int:
    if current_attempt().number <= failures:
        raise ValueError("try again")
    return current_attempt().number


@activity(name="golden.slow", timeout=timedelta(milliseconds=50), retry=Retry(max_attempts=1))
async def slow() -> None:
    await asyncio.sleep(30)


@activity(name="golden.hold", retry=QUICK)
async def hold(gate: str) -> str:
    while not gates[gate].is_set():
        await asyncio.sleep(0.005)
    return gate


@activity(name="golden.undo", retry=QUICK)
def undo(what: str) -> str:
    if what == "stubborn":
        raise PermanentError("it stays")
    return f"{what} is undone"


# ------------------------------------------------------------------ steps


@workflow(name="golden.sequential")
async def sequential(item: str) -> list[Any]:
    order = await make_order(item, Decimal("19.90"))
    return [await echo(order), await echo({"$tricky": [1, 2.5, None, "ü"]}), await echo(order.item)]


@workflow(name="golden.activity_outcomes")
async def activity_outcomes() -> list[Any]:
    out: list[Any] = [await flaky(2)]
    for each in (lambda: refuse("no card"), slow):
        try:
            await each()
        except ActivityError as error:
            out += [type(error).__name__, error.attempts]
    return out


@workflow(name="golden.failing")
async def failing() -> None:
    await echo(1)
    await refuse("not today")


@workflow(name="golden.gather")
async def gathered(width: int) -> list[Any]:
    return await asyncio.gather(*(echo(number) for number in range(width)))


@workflow(name="golden.task_group")
async def task_group() -> list[str]:
    async def steps(gate: str) -> None:
        await echo(gate)
        await hold(gate)

    async def fails() -> None:
        await echo("first")
        await refuse("it is over")

    out: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(steps("task_group"))
            group.create_task(fails())
            group.create_task(sleep(NEVER))
    except* ActivityFailed as errors:
        out += [type(error).__name__ for error in errors.exceptions]
    return out


@workflow(name="golden.timeout")
async def timeouts() -> list[Any]:
    out: list[Any] = []
    async with asyncio.timeout(86_400):
        out.append(await echo("in time"))
    try:
        async with asyncio.timeout(0.02):
            await hold("timeout")
    except TimeoutError:
        out.append("late")
    try:
        await asyncio.wait_for(hold("timeout"), 0.02)
    except TimeoutError:
        out.append("late again")
    return out


@workflow(name="golden.sleep")
async def sleeps() -> str:
    await sleep(timedelta(milliseconds=20))
    await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    return "awake"


@workflow(name="golden.asyncio")
async def constructs() -> list[Any]:
    """The order in which asyncio's own parts let tasks run."""
    out: list[Any] = []

    async def nap(hundredths: int) -> int:
        try:
            await asyncio.sleep(hundredths / 100)
        finally:
            out.append(f"up {hundredths}")
        return hundredths

    for step in asyncio.as_completed([echo(number) for number in range(4)]):
        out += [await step]
    tasks = [asyncio.create_task(nap(hundredths)) for hundredths in (900_000, 1, 800_000, 700_000)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    out.append([task.result() for task in done])
    for task in pending:
        task.cancel()
    out += [type(error).__name__ for error in await asyncio.gather(*pending, return_exceptions=True)]
    queue: asyncio.Queue[int] = asyncio.Queue()
    lock = asyncio.Semaphore(2)

    async def worker(name: str) -> None:
        while True:
            number = await queue.get()
            async with lock:
                out.append([name, await echo(number)])
            queue.task_done()

    workers = [asyncio.create_task(worker(name)) for name in "abc"]
    for number in range(7):
        queue.put_nowait(number)
    await queue.join()
    for task in workers:
        task.cancel()
    shielded = asyncio.shield(echo("shielded"))
    out.append(await shielded)
    return out


# ------------------------------------------------------------------ outside


@workflow(name="golden.signal")
async def signals() -> list[Any]:
    out = [await wait_signal("go"), await wait_signal("go", timeout=NEVER)]
    try:
        out.append(await wait_signal("never", timeout=0.02))
    except TimeoutError:
        out.append("nobody")
    return [*out, await wait_signal("early")]


@workflow(name="golden.wait_until")
async def conditions() -> list[Any]:
    words: list[str] = []

    async def listen() -> None:
        while True:
            words.append(await wait_signal("word"))

    listener = asyncio.create_task(listen())
    await wait_until(lambda: len(words) >= 2)
    listener.cancel()
    try:
        await wait_until(lambda: len(words) >= 3, timeout=0.02)
    except TimeoutError:
        words.append("that was all")
    return words


price = Signal("price", str, reply=int)


@workflow(name="golden.asked", signals=[price, "stop"])
async def asked() -> list[str]:
    items = []
    stop = asyncio.create_task(wait_signal("stop"))
    while True:
        question = asyncio.create_task(price.receive())
        await asyncio.wait({stop, question}, return_when=asyncio.FIRST_COMPLETED)
        if not question.done():
            question.cancel()
            return items
        request = question.result()
        items.append(request.value)
        request.answer(len(request.value))


# ------------------------------------------------------------------ values


def read_setting(name: str) -> str:
    return f"{name} is blue"


def broken_setting() -> None:
    raise LookupError("no such setting")


@workflow(name="golden.values")
async def values() -> list[Any]:
    out = [str(uuid4()), random(), now(), today(), side_effect(read_setting, "the sky")]
    try:
        side_effect(broken_setting)
    except ActivityFailed as error:
        out.append(error.error_message)
    await echo("a step")
    return [*out, str(uuid4()), random(), now(), run_info().run_id]


async def before_the_patch() -> list[Any]:
    """What `patched_flow` was when ``patched_before`` was recorded."""
    out = [await echo("the old way")]
    await wait_signal("go")
    return [*out, await echo("the end")]


@workflow(name="golden.patched")
async def patched_flow() -> list[Any]:
    out = [await echo("the new way") if patched("new-way") else await echo("the old way")]
    await wait_signal("go")
    if patched("new-way"):
        out.append(await echo("and more"))
    return [*out, await echo("the end")]


@workflow(name="golden.attributes")
async def attributes() -> str:
    set_attributes({"customer": 7, "tags": ["b", "a"], "ready": False})
    publish("progress", {"done": 0, "of": 2})
    await echo(1)
    set_attributes({"ready": True})
    publish("progress", {"done": 1, "of": 2})
    await echo(2)
    publish("progress", {"done": 2, "of": 2})
    return "published"


async def loop_before_the_patch(items: list[str]) -> list[Any]:
    """What `patched_loop` was when ``patched_loop_before`` was recorded."""
    out = []
    for item in items:
        out.append(await echo(item))
        await wait_signal("next")
    return out


@workflow(name="golden.patched_loop")
async def patched_loop(items: list[str]) -> list[Any]:
    out = []
    for item in items:
        if patched("checked"):
            out.append(await echo(f"checked {item}"))
        out.append(await echo(item))
        await wait_signal("next")
    return out


async def gather_before_the_patch() -> list[Any]:
    """What `patched_gather` was when ``patched_gather_before`` was recorded."""

    async def branch(name: str) -> Any:
        await echo(name)
        await wait_signal(name)
        return await echo(f"{name} is done")

    return await asyncio.gather(branch("a"), branch("b"))


@workflow(name="golden.patched_gather")
async def patched_gather() -> list[Any]:
    async def branch(name: str) -> Any:
        await echo(name)
        await wait_signal(name)
        if patched("in-both"):
            await echo(f"{name}, in both")
        if patched(f"only-in-{name}"):
            await echo(f"{name}, only here")
        return await echo(f"{name} is done")

    return await asyncio.gather(branch("a"), branch("b"))


async def adopted_first() -> list[Any]:
    """What `adopted` was when its run began."""
    out = [await echo("one")]
    await wait_signal("go")
    await wait_signal("go")
    return out


async def adopted_second() -> list[Any]:
    """What `adopted` was after the first deploy."""
    seen = [await echo("one")]
    await wait_signal("go")
    seen.append(await echo("two"))
    await wait_signal("go")
    return seen


@workflow(name="golden.adopted")
async def adopted() -> list[Any]:
    found = [await echo("one")]
    await wait_signal("go")
    found.append(await echo("two"))
    await wait_signal("go")
    if patched("three"):
        found.append(await echo("three"))
    return [*found, await echo("four")]


# ------------------------------------------------------------------ sagas


@workflow(name="golden.saga")
async def trip(*, parallel: bool, hotel: str) -> str:
    async with saga(parallel=parallel) as undoing:
        undoing.add(undo, "the plan")
        await echo("flight").compensate(undo, "flight")
        await echo("hotel").compensate(undo, hotel)
        await refuse("no cars")
    return "have a nice trip"


@workflow(name="golden.saga_kept")
async def kept() -> str:
    async with saga():
        await echo("flight").compensate(undo, "flight")
        async with saga():
            await echo("hotel").compensate(undo, "hotel")
    return "have a nice trip"


@workflow(name="golden.saga_cancelled")
async def trip_until_cancelled() -> None:
    async with saga():
        await echo("flight").compensate(undo, "flight")
        await wait_signal("go")


@workflow(name="golden.saga_in_flight")
async def trip_in_flight() -> list[Any]:
    undoing = saga()
    try:
        async with undoing:
            flight = hold("saga_in_flight").compensate(undo, "flight")
            await asyncio.gather(flight, refuse("no cars"))
    except ActivityFailed as error:
        assert undoing.outcome is not None
        return [error.error_message, *(step.result for step in undoing.outcome.undone)]
    return []


@workflow(name="golden.compensate")
async def by_hand() -> list[Any]:
    flight = echo("flight").compensate(undo, "flight")
    hotel = echo("hotel").compensate(undo, "stubborn")
    car = echo("car").compensate(undo, "car")
    await asyncio.gather(flight, hotel, car)
    out = [await compensate(flight)]
    try:
        await compensate(hotel)
    except ActivityFailed as error:
        out.append(error.error_message)
    rollback = await compensate_all(parallel=True)
    return [*out, *(step.result for step in rollback.steps)]


# ------------------------------------------------------------------ families


@workflow(name="golden.child")
async def child(value: int) -> int:
    return await echo(value * 2)


@workflow(name="golden.refusing_child")
async def refusing_child(why: str) -> None:
    await refuse(why)


@workflow(name="golden.patient")
async def patient() -> Any:
    try:
        return await wait_signal("go")
    except asyncio.CancelledError:
        await echo("tidied up")
        raise


@workflow(name="golden.children_sequential")
async def children_sequential(count: int) -> list[int]:
    return [await child(number) for number in range(count)]


@workflow(name="golden.children_gathered")
async def children_gathered(count: int) -> list[int]:
    return await asyncio.gather(*(start_child(child, number, key=f"item {number}") for number in range(count)))


@workflow(name="golden.child_failed")
async def child_failed() -> list[Any]:
    try:
        await refusing_child("not me")
    except ChildFailed as error:
        return [type(error).__name__, error.error_message]
    return []


@workflow(name="golden.child_stopped")
async def child_stopped() -> list[Any]:
    """For a child that somebody else cancels or terminates."""
    try:
        await patient()
    except ChildCancelled as error:
        return [error.state, error.error_message]
    return []


@workflow(name="golden.child_signalled")
async def child_signalled() -> list[Any]:
    early, late = start_child(patient), start_child(patient, attributes={"late": True})
    early.signal("go", {"to": "early"})
    out = [await early]
    late.signal("go", ["late"])
    return [*out, await late]


@workflow(name="golden.child_request_cancel")
async def child_request_cancel() -> list[Any]:
    one, other = start_child(patient, key="asked"), start_child(patient, key="dropped")
    await wait_signal("now")
    one.request_cancel()
    other.cancel()
    out = []
    for handle in (one, other):
        try:
            await handle
        except ChildCancelled as error:
            out.append(error.state)
        except asyncio.CancelledError:
            out.append("nobody waits")
    return out


@workflow(name="golden.child_compensated")
async def child_compensated() -> list[Any]:
    try:
        async with saga() as undoing:
            await child(1).compensate(undo, "child")
            await refuse("no")
    except ActivityFailed:
        assert undoing.outcome is not None
        return [step.result for step in undoing.outcome.steps]
    return []


@workflow(name="golden.parent_cancelled")
async def parent_cancelled() -> None:
    children = [
        start_child(patient, key="asked"),
        start_child(patient, key="left alone", on_parent_close="abandon"),
        start_child(patient, key="ended", on_parent_close="terminate"),
    ]
    try:
        await asyncio.shield(children[0])
    except asyncio.CancelledError:
        for handle in (children[0], children[2]):
            try:
                await handle
            except ChildCancelled as error:
                publish(str(handle.key), error.state)
        raise


@workflow(name="golden.parent_closed")
async def parent_closed() -> str:
    start_child(patient, on_parent_close="terminate")
    await wait_signal("end")
    return "left"


@workflow(name="golden.chain")
async def chain(left: int, seen: list[Any]) -> list[Any]:
    """Take one signal in each run, and leave the others, and a child, to the next ones."""
    start_child(patient)
    await wait_signal("next")
    seen = [*seen, await wait_signal("item")]
    if left:
        continue_as_new(left - 1, seen)
    return seen


@workflow(name="golden.countdown")
async def countdown(left: int) -> str:
    await echo(left)
    if left:
        continue_as_new(left - 1)
    return "lift-off"


@workflow(name="golden.chained_child")
async def chained_child() -> str:
    return await countdown(2)
