"""Here lives the work of the shop: activities that do to a Celery worker what activities do, and a ledger of it.

The ledger is a file in ``SHOP_DIR``, one line per begun and ended attempt, appended at once: what a payment provider
would have seen, whatever becomes of the process. Gates are files there too: a test opens one by making it.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import shared_task
from sqlalchemy import Connection, text

from continuum import ActivityFailed, Retry, activity, current_attempt, saga, workflow

__all__ = ["BOOKINGS", "MAX_ATTEMPTS", "SHOP_DIR"]

SHOP_DIR = "SHOP_DIR"
MAX_ATTEMPTS = 5
GATE_SECONDS = 60.0
BOOKINGS = "create table if not exists bookings (run_id uuid not null, item text not null)"

quick = Retry(max_attempts=MAX_ATTEMPTS, base=timedelta(milliseconds=20), jitter=timedelta(0))


def write(what: str, item: str, **more: Any) -> None:
    """Append a line; short enough to be written whole."""
    attempt = current_attempt()
    line = {
        "what": what,
        "activity": attempt.activity,
        "item": item,
        "run": attempt.run_id,
        "command": attempt.command,
        "attempt": attempt.number,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "at": time.time(),
        **more,
    }
    file = os.open(Path(os.environ[SHOP_DIR]) / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


def wait_for(gate: str) -> None:
    path = Path(os.environ[SHOP_DIR]) / gate
    deadline = time.monotonic() + GATE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"nobody opened the gate {gate!r}"
        time.sleep(0.01)


@contextmanager
def telling_of_exit(item: str) -> Iterator[None]:
    """Write down that this attempt was ended by a shutdown: it may begin again under the same number."""
    try:
        yield
    except SystemExit:
        write("exit", item)
        raise


@activity(name="shop.step", retry=quick)
def step(item: str) -> str:
    write("begin", item)
    write("end", item)
    return item


@activity(name="shop.astep", retry=quick)
async def astep(item: str) -> str:
    write("begin", item)
    await asyncio.sleep(0)
    write("end", item)
    return item


@activity(name="shop.hold", retry=quick)
def hold(item: str, gate: str) -> str:
    """Runs until its gate opens."""
    write("begin", item)
    with telling_of_exit(item):
        wait_for(gate)
    write("end", item)
    return item


@activity(name="shop.hold_once", retry=quick)
def hold_once(item: str, gate: str) -> str:
    """The first attempt runs until its gate opens; later ones do not wait."""
    write("begin", item)
    if current_attempt().number == 1:
        with telling_of_exit(item):
            wait_for(gate)
    write("end", item)
    return item


@activity(name="shop.stubborn", retry=quick)
def stubborn(item: str, seconds: float) -> str:
    """The first attempt sleeps in C and keeps the interpreter to itself: no thread, no signal handler of this process
    runs meanwhile."""
    write("begin", item)
    if current_attempt().number == 1:
        libc = ctypes.PyDLL(None)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            libc.usleep(min(int(left * 1e6) + 1, 900_000))
    write("end", item)
    return item


@activity(name="shop.die", retry=quick)
def die(item: str, times: int = 1, number: int = signal.SIGKILL) -> str:
    """Kills its process, as the OOM killer does, in the first attempts."""
    write("begin", item)
    if current_attempt().number <= times:
        os.kill(os.getpid(), number)
        time.sleep(GATE_SECONDS)  # until the signal arrives
    write("end", item)
    return item


@activity(name="shop.leave", retry=quick)
def leave(item: str, code: int = 3, times: int = 1) -> str:
    """Calls sys.exit() in the first attempts."""
    write("begin", item)
    if current_attempt().number <= times:
        sys.exit(code)
    write("end", item)
    return item


@activity(name="shop.fail", retry=quick)
def fail(item: str, times: int = 1) -> str:
    write("begin", item)
    if current_attempt().number <= times:
        raise ValueError(f"attempt {current_attempt().number} of {item} fails")
    write("end", item)
    return item


@activity(name="shop.too_long", retry=quick, timeout=1.0)
def too_long(item: str, times: int = 1) -> str:
    """Takes longer than it may in the first attempts, though it would notice."""
    write("begin", item)
    if current_attempt().number <= times:
        wait_for("never")
    write("end", item)
    return item


@activity(name="shop.deaf", retry=quick, timeout=1.0)
def deaf(item: str, times: int = 1) -> str:
    """Takes longer than it may, and swallows every exception that would end it."""
    write("begin", item)
    deadline = time.monotonic() + GATE_SECONDS
    while current_attempt().number <= times and time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except Exception as error:
            write("heard", item, error=type(error).__name__)
    write("end", item)
    return item


@activity(name="shop.beat", retry=quick, heartbeat_timeout=1.0)
def beat(item: str, beats: int, silent_from: int = 1_000_000) -> str:
    """Says that it is alive every 200 ms; the first attempt falls silent after some beats."""
    attempt = current_attempt()
    earlier = attempt.last_heartbeat or 0
    write("begin", item, earlier=earlier)
    for number in range(earlier + 1, beats + 1):
        attempt.heartbeat(number)
        if attempt.number == 1 and number >= silent_from:
            wait_for("never")
        time.sleep(0.2)
    write("end", item)
    return item


@activity(name="shop.until_cancelled", retry=quick)
def until_cancelled(item: str) -> str:
    """Runs until somebody says that nobody waits any more."""
    write("begin", item)
    deadline = time.monotonic() + GATE_SECONDS
    while not current_attempt().cancelled and time.monotonic() < deadline:
        current_attempt().heartbeat()
        time.sleep(0.05)
    write("cancelled" if current_attempt().cancelled else "end", item)
    return item


@activity(name="shop.keyed", idempotency_key=lambda item: f"keyed:{item}", retry=quick)
def keyed(item: str) -> str:
    write("begin", item)
    write("end", item)
    return item


@activity(name="shop.booked", transactional=True, retry=quick)
def booked(item: str, *, connection: Connection) -> str:
    """Its row and its result commit together."""
    write("begin", item)
    connection.execute(
        text("insert into bookings (run_id, item) values (:run, :item)"),
        {"run": current_attempt().run_id, "item": item},
    )
    write("end", item)
    return item


@activity(name="shop.big", retry=quick)
def big(item: str, size: int) -> str:
    write("begin", item)
    write("end", item)
    return "x" * size


@activity(name="shop.local", retry=quick, executor="local")
def local(item: str) -> str:
    """Runs in the dispatcher, whatever the instance's executor is."""
    write("begin", item)
    write("end", item)
    return item


@shared_task(name="shop.legacy", bind=True, max_retries=3, default_retry_delay=0)
def legacy_task(self: Any, item: str) -> str:
    """A task as shops have them: it knows nothing of workflows, and asks Celery to try it again."""
    write("begin", item)
    if self.request.retries < 1:
        raise self.retry(exc=ValueError("not yet"))
    write("end", item, celery_id=self.request.id, root=self.request.root_id)
    return item


legacy = activity.from_celery(legacy_task)


@activity(name="shop.undo", retry=Retry(max_attempts=2, base=timedelta(milliseconds=20)))
def undo(item: str) -> str:
    """Fails once, so that its own policy shows."""
    write("begin", item)
    if current_attempt().number == 1:
        raise ValueError(f"{item} is not undone at once")
    write("end", item)
    return item


ACTIVITIES: dict[str, Callable[..., Any]] = {
    "step": step,
    "astep": astep,
    "hold": hold,
    "hold_once": hold_once,
    "stubborn": stubborn,
    "die": die,
    "leave": leave,
    "fail": fail,
    "too_long": too_long,
    "deaf": deaf,
    "beat": beat,
    "until_cancelled": until_cancelled,
    "keyed": keyed,
    "booked": booked,
    "big": big,
    "local": local,
    "legacy": legacy,
}


@workflow(name="shop.call", version=1)
async def call(name: str, arguments: list[Any], queue: str | None = None) -> Any:
    """One activity."""
    chosen: Any = ACTIVITIES[name]
    if queue is not None:
        chosen = chosen.options(queue=queue)
    return await chosen(*arguments)


@workflow(name="shop.chain", version=1)
async def chain(tag: str, count: int) -> list[str]:
    """One activity after the other."""
    return [await step(f"{tag}:{number}") for number in range(count)]


@workflow(name="shop.fan", version=1)
async def fan(tag: str, count: int, name: str = "step", *arguments: Any) -> list[Any]:
    """All at once."""
    chosen = ACTIVITIES[name]
    return list(await asyncio.gather(*(chosen(f"{tag}:{number}", *arguments) for number in range(count))))


@workflow(name="shop.mixed", version=1)
async def mixed(tag: str) -> list[str]:
    """Every kind of activity once."""
    done = [await step(f"{tag}:1")]
    done += await asyncio.gather(astep(f"{tag}:2"), local(f"{tag}:3"), keyed(f"{tag}:4"))
    done.append(await fail(f"{tag}:5"))
    done.append(await booked(f"{tag}:6"))
    done.append(await beat(f"{tag}:7", 2))
    return done


@workflow(name="shop.undone", version=1)
async def undone(tag: str) -> list[str]:
    """Two steps, a third that cannot be done, and the undoing of the two."""
    try:
        async with saga() as block:
            await step(f"{tag}:1").compensate(undo, f"{tag}:1")
            await astep(f"{tag}:2").compensate(undo, f"{tag}:2")
            await fail.options(retry=1)(f"{tag}:3")
    except ActivityFailed:
        assert block.outcome is not None
        assert block.outcome.ok
        return [done.result for done in block.outcome.steps]
    return []
