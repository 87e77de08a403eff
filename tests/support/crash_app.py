"""Here lives the application that crash tests kill: every effect, small, with a ledger of what really ran.

A dispatcher of it is a real process: ``continuum-dispatcher -A tests.support.crash_app``. The ledger has one row per
*begun attempt*, committed before the body returns; it is what a payment provider would have seen.
"""

import asyncio
import os
import time
from datetime import timedelta

import psycopg2
from sqlalchemy import Connection, text

from continuum import (
    ActivityFailed,
    Continuum,
    Retry,
    activity,
    continue_as_new,
    current_attempt,
    saga,
    side_effect,
    start_child,
    wait_signal,
    workflow,
)

URL = os.environ.get("CONTINUUM_DATABASE_URL")
TTL = float(os.environ.get("CRASH_APP_TTL", "2"))

continuum = Continuum(
    URL,
    concurrency=4,
    lease_ttl=timedelta(seconds=TTL),
    heartbeat_interval=timedelta(seconds=TTL / 4),
    poll_interval=timedelta(seconds=0.25),
    reap_interval=timedelta(seconds=0.5),
)

LEDGER = """
create table if not exists ledger (
  id bigint generated always as identity primary key, run_id uuid not null, activity text not null,
  item text not null, attempt int not null, pid int not null, at timestamptz not null default clock_timestamp());
create table if not exists bookings (run_id uuid not null, item text not null)
"""


def write_ledger(name: str, item: str) -> None:
    attempt = current_attempt()
    connection = psycopg2.connect(URL)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into ledger (run_id, activity, item, attempt, pid) values (%s, %s, %s, %s, %s)",
                (attempt.run_id, name, item, attempt.number, os.getpid()),
            )
    finally:
        connection.close()


@activity(name="crash.step", retry=Retry(max_attempts=5, base=timedelta(milliseconds=20)))
def step(item: str) -> str:
    write_ledger("step", item)
    return item


@activity(name="crash.astep", retry=Retry(max_attempts=5, base=timedelta(milliseconds=20)))
async def astep(item: str) -> str:
    write_ledger("astep", item)
    await asyncio.sleep(0)
    return item


@activity(name="crash.flaky", retry=Retry(max_attempts=6, base=timedelta(milliseconds=20)))
def flaky(item: str) -> str:
    write_ledger("flaky", item)
    if current_attempt().number < 2:
        raise ValueError("the first attempt always fails")
    return item


@activity(name="crash.keyed", idempotency_key=lambda item: f"keyed:{item}", retry=Retry(max_attempts=5))
def keyed(item: str) -> str:
    write_ledger("keyed", item)
    return item


@activity(name="crash.booked", transactional=True, retry=Retry(max_attempts=6, base=timedelta(milliseconds=20)))
def booked(item: str, *, connection: Connection) -> str:
    """Its row and its result commit together: one row, whatever is killed."""
    connection.execute(
        text("insert into bookings (run_id, item) values (:run, :item)"),
        {"run": current_attempt().run_id, "item": item},
    )
    return item


@activity(name="crash.slow", retry=Retry(max_attempts=4, base=timedelta(milliseconds=20)))
def slow(item: str, seconds: float) -> str:
    write_ledger("slow", item)
    time.sleep(seconds)
    return item


@activity(name="crash.fails", retry=1)
def fails(item: str) -> None:
    raise ValueError(f"no {item}")


@activity(name="crash.unstep", retry=Retry(max_attempts=5, base=timedelta(milliseconds=20)))
def unstep(item: str) -> str:
    write_ledger("unstep", item)
    return item


@activity(name="crash.unbooked", transactional=True, retry=Retry(max_attempts=6, base=timedelta(milliseconds=20)))
def unbooked(item: str, *, connection: Connection) -> None:
    """Its row and its result commit together, too."""
    connection.execute(text("insert into bookings (run_id, item) values (:run, :item)"), _row(f"not {item}"))


def _row(item: str) -> dict[str, str]:
    return {"run": str(current_attempt().run_id), "item": item}


@workflow(name="crash.flow", version=1)
async def flow(tag: str) -> list[str]:
    """Sequential and parallel activities, a retry, a timer, a value, a signal."""
    done = [await step(f"{tag}:1")]
    stamp = side_effect(lambda: tag)
    done += await asyncio.gather(step(f"{tag}:2"), astep(f"{tag}:3"))
    await asyncio.sleep(0.05)
    done.append(await flaky(f"{tag}:4"))
    done.append(await keyed(f"{tag}:5"))
    done.append(await booked(f"{tag}:b"))
    done.append(await wait_signal("go"))
    done.append(await step(f"{tag}:6"))
    assert stamp == tag
    return done


@workflow(name="crash.long", version=1)
async def long_flow(tag: str, seconds: float) -> str:
    return await slow(tag, seconds)


@workflow(name="crash.steps", version=1)
async def steps(tag: str, count: int) -> int:
    for number in range(count):
        await step(f"{tag}:{number}")
    return count


@workflow(name="crash.folded", version=1, snapshots=4)
async def folded(tag: str, count: int) -> int:
    """Steps, with a snapshot every few events."""
    return await steps.function(tag, count)


@workflow(name="crash.family", version=1)
async def family(tag: str, width: int) -> int:
    """Children that each do two steps, all at once."""
    return sum(await asyncio.gather(*(start_child(steps, f"{tag}/{n}", 2, key=f"{n}") for n in range(width))))


@workflow(name="crash.chain", version=1)
async def chain(tag: str, left: int, done: int = 0) -> int:
    """One step in each run of the chain."""
    await step(f"{tag}:{left}")
    if left > 1:
        continue_as_new(tag, left - 1, done + 1)
    return done + 1


@workflow(name="crash.trip", version=1)
async def trip(tag: str, count: int, waits: bool) -> list[str]:
    """A booking, steps side by side, and then a failure, or a wait for a cancel; all of it is undone."""
    try:
        async with saga() as undo:
            await booked(f"{tag}:b").compensate(unbooked, f"{tag}:b")
            items = [f"{tag}:{number}" for number in range(count)]
            await asyncio.gather(*(step(item).compensate(unstep, item) for item in items))
            if waits:
                await wait_signal("never")
            await fails(tag)
    except ActivityFailed:
        assert undo.outcome is not None
        return [f"{done.activity} {done.command}" for done in undo.outcome.undone]
    return []


@workflow(name="crash.tree", version=1)
async def tree(depth: int, width: int) -> None:
    """Wait at every leaf."""
    if depth == 0:
        await wait_signal("never")
    await asyncio.gather(*(start_child(tree, depth - 1, width) for _ in range(width)))
