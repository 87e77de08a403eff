"""Here live the workflows of the runtime's integration suite."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from continuum import (
    PermanentError,
    Retry,
    RetryAfter,
    Signal,
    activity,
    current_attempt,
    log,
    now,
    side_effect,
    wait_signal,
    wait_until,
    workflow,
)
from continuum.errors import ActivityFailed, ActivityTimedOut, CodecError

QUICK = Retry(max_attempts=3, base=timedelta(milliseconds=5), jitter=timedelta(0))
approval = Signal("approval", str)


@dataclass(frozen=True)
class Payment:
    order: str
    amount: Decimal


@activity(name="flows.price")
def price(order: str) -> Decimal:
    return Decimal("19.99")


@activity(name="flows.charge")
async def charge(order: str, amount: Decimal) -> Payment:
    await asyncio.sleep(0.001)
    return Payment(order, amount)


@activity(name="flows.double", retry=QUICK)
def double(value: int) -> int:
    return value * 2


@activity(name="flows.flaky", retry=QUICK)
def flaky(fail: int) -> int:
    if current_attempt().number <= fail:
        raise ValueError(f"attempt {current_attempt().number}")
    return current_attempt().number


@activity(name="flows.hopeless", retry=QUICK)
def hopeless() -> None:
    raise PermanentError("no card")


@activity(name="flows.later", retry=QUICK)
def later() -> int:
    if current_attempt().number == 1:
        raise RetryAfter(timedelta(milliseconds=10))
    return current_attempt().number


@activity(name="flows.sleepy", timeout=timedelta(milliseconds=100), retry=Retry(max_attempts=1))
async def sleepy() -> None:
    await asyncio.sleep(30)


@activity(name="flows.unstorable", retry=QUICK)
def unstorable() -> Any:
    return {"handle": object()}


CALLS: dict[str, int] = {}


@activity(name="flows.keyed", idempotency_key=lambda key: f"key:{key}")
def keyed(key: str) -> int:
    CALLS[key] = CALLS.get(key, 0) + 1
    return CALLS[key]


@workflow(name="flows.order")
async def order(name: str) -> Payment:
    return await charge(name, await price(name))


@workflow(name="flows.fan_out")
async def fan_out(width: int) -> int:
    return sum(await asyncio.gather(*(double(n) for n in range(width))))


@workflow(name="flows.sequence")
async def sequence(count: int) -> int:
    for number in range(count):
        await double(number)
    return count


@workflow(name="flows.groups")
async def groups() -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain(n)) for n in range(3)]
    return [task.result() for task in tasks]


async def chain(value: int) -> int:
    for _ in range(3):
        value = await double(value)
    return value


@workflow(name="flows.retries")
async def retries(fail: int) -> int:
    return await flaky(fail)


@workflow(name="flows.failing")
async def failing(kind: str) -> str:
    try:
        match kind:
            case "hopeless":
                await hopeless()
            case "flaky":
                await flaky(9)
            case "sleepy":
                await sleepy()
            case "unstorable":
                await unstorable()
    except ActivityTimedOut as error:
        return f"timed out after {error.attempts}"
    except ActivityFailed as error:
        return f"{error.type_name.rsplit('.')[-1]} after {error.attempts}"
    return "no failure"


@workflow(name="flows.raising")
async def raising(text: str) -> None:
    await double(1)
    raise LookupError(text)


@workflow(name="flows.later")
async def retry_after() -> int:
    return await later()


@workflow(name="flows.approval")
async def wait_for_approval(seconds: float) -> str:
    try:
        return await approval.wait(timeout=timedelta(seconds=seconds))
    except TimeoutError:
        return "timed out"


@workflow(name="flows.collect")
async def collect(count: int) -> list[Any]:
    return [await wait_signal("item") for _ in range(count)]


@workflow(name="flows.naps")
async def naps(count: int) -> float:
    began = now()
    for _ in range(count):
        await asyncio.sleep(0.01)
    return (now() - began).total_seconds()


@workflow(name="flows.condition")
async def condition() -> list[str]:
    seen: list[str] = []

    async def listen() -> None:
        while True:
            seen.append(await wait_signal("word"))

    listener = asyncio.create_task(listen())
    await wait_until(lambda: len(seen) >= 2)
    listener.cancel()
    return seen


@workflow(name="flows.tidy")
async def tidy() -> str:
    try:
        await wait_signal("never")
    except asyncio.CancelledError:
        await double(21)
        raise
    return "not cancelled"


@workflow(name="flows.stubborn")
async def stubborn() -> str:
    try:
        await wait_signal("never")
    except asyncio.CancelledError:
        return f"kept going: {await double(21)}"
    return "not cancelled"


@workflow(name="flows.keys")
async def keys(key: str) -> list[int]:
    return [await keyed(key), await keyed(key)]


@workflow(name="flows.logging")
async def logging_flow() -> int:
    log.info("before %s", "step")
    value = await double(side_effect(lambda: 4))
    log.info("after %d", value)
    return value


@workflow(name="flows.race")
async def race() -> str:
    slow = asyncio.ensure_future(wait_signal("never"))
    quick = asyncio.ensure_future(double(2))
    done, pending = await asyncio.wait({slow, quick}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return str(done.pop().result())


@activity(name="flows.echo")
def echo(value: str) -> str:
    return value


@workflow(name="flows.large")
async def large(where: str, size: int) -> str:
    text = "x" * size
    try:
        match where:
            case "arguments":
                return await echo(text)
            case "side effect":
                return side_effect(lambda: text)
            case "result":
                return text
    except (CodecError, ActivityFailed) as error:
        # What the code saw is what a replay shows it again.
        await double(1)
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"
