"""Here lives Absurd, in its best case: spawned and worked off on one connection, so that nobody has to poll.

Needs the packages ``absurd-sdk`` and ``absurdctl`` (which holds the SQL that is to be installed).
"""

import time
from typing import Any

import absurdctl
import psycopg
from absurd_sdk import Absurd

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import latency, timed

RESULT = {"ok": True, "value": 1, "id": "ord_0123456789", "note": "charged"}
QUEUE = "bench"
CLAIM_SECONDS = 120


def prepare(url: str) -> Absurd:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
    app = Absurd(url, queue_name=QUEUE)
    app.create_queue(QUEUE)

    @app.register_task(name="steps")
    def steps(params: Any, context: Any) -> int:
        total = 0
        for _ in range(params["steps"]):
            total += context.step("noop", lambda: dict(RESULT))["value"]
        return total

    return app


def check(url: str, *, runs: int, steps: int) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(
            f"select count(*) filter (where state = 'completed'), count(*) from absurd.t_{QUEUE}"
        ).fetchone()
        recorded = connection.execute(f"select count(*) from absurd.c_{QUEUE}").fetchone()
    if done != (runs, runs) or recorded != (steps,):
        raise MeasurementError(f"expected {runs} tasks and {steps} checkpoints, found {done} and {recorded}")
    return f"{runs} tasks completed, {steps} checkpoints recorded"


def one_caller(options: dict[str, Any]) -> dict[str, Any]:
    url, count, times, warm = options["url"], options["steps"], options["n"], options["warm"]
    app = prepare(url)

    def call() -> None:
        app.spawn("steps", {"steps": count})
        app.work_batch("bench", CLAIM_SECONDS, 1)

    timed(call, warm)
    taken = timed(call, times, pause=options.get("pause", 0.0))
    app.close()
    runs = times + warm
    return {"figures": latency(taken), "verified": check(url, runs=runs, steps=runs * count)}


def backlog(options: dict[str, Any]) -> dict[str, Any]:
    """A backlog worked off by one process; a second thread would share its connection and gain nothing."""
    url, count, runs = options["url"], options["steps"], options["runs"]
    app = prepare(url)
    for _ in range(runs):
        app.spawn("steps", {"steps": count})
    began = time.perf_counter()
    for _ in range(runs):
        app.work_batch("bench", CLAIM_SECONDS, 1)
    taken = time.perf_counter() - began
    app.close()
    return {
        "figures": {"steps_per_s": round(runs * count / taken, 1)},
        "verified": check(url, runs=runs, steps=runs * count),
    }


if __name__ == "__main__":
    serve({"one_caller": one_caller, "backlog": backlog})
