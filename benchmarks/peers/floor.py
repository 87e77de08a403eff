"""Here lives the floor, which is no engine: a statement for a start, one for each step, one for the end.

Each statement is fenced as an engine's would have to be, prepared, and committed by itself. Nothing schedules, claims,
replays, retries or waits for anybody, so this is what one round trip per step costs on this server and no more.
"""

import asyncio
import json
import time
import uuid
from typing import Any

import psycopg

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import latency, timed

TABLES = (
    """create table floor_run (
        id uuid primary key, status smallint not null, fence bigint not null, name text, input bytea, result bytea,
        lease timestamptz, created timestamptz default now()) with (fillfactor=70)""",
    """create table floor_step (
        run uuid, seq int, name text, kind smallint, payload bytea, at timestamptz default now(),
        primary key (run, seq))""",
)
START = """
    insert into floor_run (id, status, fence, name, input, lease)
    values (%(id)s, 1, 1, 'steps', '{}', now() + interval '30 s')
"""
# `for share`: a take-over, which updates the fence, has to wait.
STEP = """
    insert into floor_step (run, seq, name, kind, payload)
    select id, %(seq)s, 'noop', 1, %(payload)s from floor_run where id = %(id)s and fence = 1 and status = 1 for share
    returning 1
"""
END = """
    update floor_run set status = 2, result = %(payload)s where id = %(id)s and fence = 1 and status = 1 returning 1
"""
PAYLOAD = json.dumps({"ok": True, "value": 1, "id": "ord_0123456789", "note": "charged"}).encode()


def prepare(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in TABLES:
            connection.execute(statement)


def check(url: str, *, runs: int, steps: int) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute("select count(*) filter (where status = 2), count(*) from floor_run").fetchone()
        recorded = connection.execute("select count(*) from floor_step").fetchone()
    if done != (runs, runs) or recorded != (steps,):
        raise MeasurementError(f"expected {runs} runs and {steps} steps, found {done} and {recorded}")
    return f"{runs} runs ended, {steps} steps recorded"


def run(connection: psycopg.Connection[Any], count: int) -> None:
    run_id = uuid.uuid4()
    connection.execute(START, {"id": run_id}, prepare=True)
    for seq in range(count):
        values = {"id": run_id, "seq": seq, "payload": PAYLOAD}
        if connection.execute(STEP, values, prepare=True).fetchone() is None:
            raise MeasurementError("fenced off")
    connection.execute(END, {"id": run_id, "payload": PAYLOAD}, prepare=True)


async def run_async(connection: psycopg.AsyncConnection[Any], count: int) -> None:
    run_id = uuid.uuid4()
    await connection.execute(START, {"id": run_id}, prepare=True)
    for seq in range(count):
        values = {"id": run_id, "seq": seq, "payload": PAYLOAD}
        if await (await connection.execute(STEP, values, prepare=True)).fetchone() is None:
            raise MeasurementError("fenced off")
    await connection.execute(END, {"id": run_id, "payload": PAYLOAD}, prepare=True)


def one_caller(options: dict[str, Any]) -> dict[str, Any]:
    url, count, times, warm = options["url"], options["steps"], options["n"], options["warm"]
    prepare(url)
    with psycopg.connect(url, autocommit=True) as connection:
        timed(lambda: run(connection, count), warm)
        taken = timed(lambda: run(connection, count), times, pause=options.get("pause", 0.0))
    runs = times + warm
    return {"figures": latency(taken), "verified": check(url, runs=runs, steps=runs * count)}


def backlog(options: dict[str, Any]) -> dict[str, Any]:
    """So many connections in one asyncio process."""
    url, count = options["url"], options["steps"]
    prepare(url)

    async def everything() -> tuple[int, float]:
        made = [psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(options["connections"])]
        connections = await asyncio.gather(*made)
        began = time.perf_counter()
        stop = began + options["seconds"]

        async def work(connection: psycopg.AsyncConnection[Any]) -> int:
            runs = 0
            while time.perf_counter() < stop:
                await run_async(connection, count)
                runs += 1
            return runs

        runs = sum(await asyncio.gather(*map(work, connections)))
        taken = time.perf_counter() - began
        for connection in connections:
            await connection.close()
        return runs, taken

    runs, taken = asyncio.run(everything())
    return {
        "figures": {"steps_per_s": round(runs * count / taken, 1)},
        "detail": {"connections": options["connections"]},
        "verified": check(url, runs=runs, steps=runs * count),
    }


if __name__ == "__main__":
    serve({"one_caller": one_caller, "backlog": backlog})
