"""Here live the workflows that race: one that does what its plan says, and activities that keep a ledger of effects.

What it does beside the plan, so that an audit of its history can tell what happened: it publishes each signal that it
took (``took``), and which bookings a saga kept (``kept``).
"""

import asyncio
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg2
from sqlalchemy import Connection, text

from continuum import (
    Retry,
    activity,
    continue_as_new,
    current_attempt,
    publish,
    saga,
    set_attributes,
    start_child,
    wait_signal,
    workflow,
)
from continuum.errors import ActivityFailed, ChildFailed
from tests.support.family_plans import SIGNALS

__all__ = ["CREATE", "ledger", "node"]

CREATE = """
    create table if not exists effects (
        id bigint generated always as identity primary key, run_id uuid not null, what text not null,
        item text not null, attempt int not null
    )
"""
# Dispatchers die often here: no attempt may be the last one.
RETRY = Retry(max_attempts=1000, base=timedelta(milliseconds=5), jitter=timedelta(0))
INSERT = "insert into effects (run_id, what, item, attempt) values (%s, %s, %s, %s)"


class Ledger:
    """Connections on which activities write down what they did."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self.closed = False

    def write(self, what: str, item: str) -> None:
        attempt = current_attempt()
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = psycopg2.connect(self.url, application_name="races ledger")
            connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(INSERT, (attempt.run_id, what, item, attempt.number))
        self.idle.put(connection)
        if self.closed:
            self.close()

    def close(self) -> None:
        self.closed = True
        while not self.idle.empty():
            self.idle.get_nowait().close()


_ledgers: list[Ledger] = []


@contextmanager
def ledger(url: str) -> Iterator[None]:
    """Keep the effects of this block in the table ``effects`` of a database."""
    made = Ledger(url)
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(CREATE)
    connection.close()
    _ledgers.append(made)
    try:
        yield
    finally:
        _ledgers.remove(made)
        made.close()


# -- activities --------------------------------------------------------------------------------------------------------


@activity(name="races.work", retry=RETRY)
def work(ms: int) -> int:
    time.sleep(ms / 1000)
    return ms


@activity(name="races.book", retry=RETRY)
def book(item: str, ms: int) -> str:
    time.sleep(ms / 1000)
    _ledgers[-1].write("book", item)
    return item


@activity(name="races.unbook", retry=RETRY)
def unbook(item: str) -> str:
    _ledgers[-1].write("unbook", item)
    return item


def _write(connection: Connection, what: str, item: str) -> None:
    attempt = current_attempt()
    values = {"run": str(attempt.run_id), "what": what, "item": item, "attempt": attempt.number}
    connection.execute(
        text("insert into effects (run_id, what, item, attempt) values (:run, :what, :item, :attempt)"), values
    )


@activity(name="races.sound_book", transactional=True, retry=RETRY)
def sound_book(item: str, ms: int, *, connection: Connection) -> str:
    """Its row and its outcome commit together."""
    time.sleep(ms / 1000)
    _write(connection, "sound book", item)
    return item


@activity(name="races.sound_unbook", transactional=True, retry=RETRY)
def sound_unbook(item: str, *, connection: Connection) -> str:
    _write(connection, "sound unbook", item)
    return item


# -- the workflow ------------------------------------------------------------------------------------------------------


class Walk:
    """One run of a plan: its tag, its lap, and the children it will come back to."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.tag = plan["tag"]
        self.lap = plan["lap"]
        self.later: list[Any] = []
        self.sent = 0


class Kept:
    """What was booked in a saga, and what became of it: as the code around it can tell."""

    def __init__(self, outer: "Kept | None") -> None:
        self.outer = outer
        self.items: list[str] = []
        self.state = "open"

    def end_well(self) -> None:
        """Hand on to the saga around it that is open, as sagas do; without one, all of it is kept for good."""
        self.state = "kept"
        outer = self.outer
        while outer is not None and outer.state == "kept":
            outer = outer.outer
        if outer is None:
            publish("kept", self.items)
        else:
            outer.items.extend(self.items)


@workflow(name="races.node")
async def node(plan: dict[str, Any]) -> str:
    walk = Walk(plan)
    await take_steps(walk, plan["laps"][0], None)
    await asyncio.gather(*walk.later, return_exceptions=True)
    if len(plan["laps"]) > 1:
        continue_as_new({"tag": walk.tag, "lap": walk.lap + 1, "laps": plan["laps"][1:]})
    return walk.tag


async def take_steps(walk: Walk, steps: list[Any], kept: Kept | None) -> None:
    for step in steps:
        await take_step(walk, step, kept)


async def take_step(walk: Walk, step: list[Any], kept: Kept | None) -> None:
    match step:
        case ["work", ms]:
            await work(ms)
        case ["nap", ms]:
            await asyncio.sleep(ms / 1000)
        case ["take", name, ms]:
            await take_signal(name, ms)
        case ["say", value]:
            publish("said", value)
        case ["attributes", name]:
            set_attributes({name: walk.lap})
        case ["fail", number]:
            raise LookupError(f"{walk.tag}: {number}")
        case ["saga", options, steps]:
            await undo_as_a_whole(walk, options, steps, kept)
        case ["guard", how, steps]:
            await guard(walk, how, steps, kept)
        case ["book", number, how, ms, limit]:
            await make_booking(f"{walk.tag}/{walk.lap}/{number}", how, ms, limit, kept)
        case ["book child", number, plan, policy, catch]:
            item = f"{walk.tag}/{walk.lap}/{number}"
            assert kept is not None
            kept.items.append(item)
            child = start_child(node, plan, key=f"{number} booked", on_parent_close=policy).compensate(unbook, item)
            await end_of(child, catch=catch)
        case ["child", number, plan, options]:
            await have_child(walk, number, plan, options)
        case [("gather" | "group" | "race") as kind, catch, branches]:
            await branch_out(walk, kind, catch, branches, kept)
        case _:
            raise NotImplementedError(step)


async def take_signal(name: str, ms: int | None) -> None:
    try:
        async with asyncio.timeout(None if ms is None else ms / 1000):
            value = await wait_signal(name)
            publish("took", [name, value])
    except TimeoutError:
        pass


async def undo_as_a_whole(walk: Walk, options: dict[str, Any], steps: list[Any], outer: Kept | None) -> None:
    mine = Kept(outer)
    try:
        async with saga(parallel=options["parallel"]):
            await take_steps(walk, steps, mine)
    except BaseException as error:
        mine.state = "undone"
        if not options["catch"] or not isinstance(error, Exception):
            raise
    else:
        mine.end_well()


async def make_booking(item: str, how: str, ms: int, limit: int | None, kept: Kept | None) -> None:
    assert kept is not None
    kept.items.append(item)
    if how == "plain":
        call = book(item, ms).compensate(unbook, item)
    else:
        call = sound_book(item, ms).compensate(sound_unbook, item)
    try:
        async with asyncio.timeout(None if limit is None else limit / 1000):
            await call
    except TimeoutError:
        pass


async def guard(walk: Walk, how: str, steps: list[Any], kept: Kept | None) -> None:
    try:
        await take_steps(walk, steps, kept)
    except asyncio.CancelledError:
        await work(1)
        if how == "send":
            for child in walk.later:
                walk.sent += 1
                child.signal("word", f"p:{walk.tag}/{walk.lap}:{child.key}:{walk.sent}")
        if how != "stubborn":
            raise


async def end_of(child: Any, *, catch: bool) -> None:
    try:
        await child
    except ChildFailed:
        if not catch:
            raise


async def have_child(walk: Walk, number: int, plan: dict[str, Any], options: dict[str, Any]) -> None:
    how, catch, seconds = options["how"], options["catch"], options["ms"] / 1000
    child = start_child(
        node, plan, key=f"{number} {how}", on_parent_close=options["policy"], attributes={"lap": walk.lap}
    )
    match how:
        case "await":
            await end_of(child, catch=catch)
        case "later":
            walk.later.append(child)
        case "ask":
            await asyncio.sleep(seconds)
            child.request_cancel()
            await end_of(child, catch=catch)
        case "timeout" | "shield":
            try:
                async with asyncio.timeout(seconds):
                    await end_of(asyncio.shield(child) if how == "shield" else child, catch=catch)
            except TimeoutError:
                pass
            else:
                return
            if how == "shield":
                child.request_cancel()
                await end_of(child, catch=catch)
        case "drop":
            if seconds:
                await asyncio.sleep(seconds)
            child.cancel()
        case "signal":
            for value in range(3):
                for name in SIGNALS:
                    child.signal(name, f"p:{walk.tag}/{walk.lap}:{number}:{value}")
                if value == 1:
                    await work(1)
            await end_of(child, catch=catch)
        case _:
            pass


async def branch_out(walk: Walk, kind: str, catch: bool, branches: list[Any], kept: Kept | None) -> None:
    walks = [take_steps(walk, steps, kept) for steps in branches]
    try:
        match kind:
            case "gather":
                await asyncio.gather(*walks, return_exceptions=catch)
            case "group":
                async with asyncio.TaskGroup() as group:
                    for each in walks:
                        group.create_task(each)
            case _:
                tasks = [asyncio.ensure_future(each) for each in walks]
                _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    except (LookupError, ChildFailed, ActivityFailed, ExceptionGroup):
        if not catch:
            raise
