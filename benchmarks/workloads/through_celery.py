"""Here lives Continuum through Celery: a ``continuum-dispatcher``, a ``celery worker`` of two processes, a caller."""

import os
import time
from contextlib import closing
from typing import Any

import psycopg2

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import latency, timed
from benchmarks.workloads.celerying import WorkerProcess, celery_worker, open_brokers
from benchmarks.workloads.checking import check_runs, cursor_on
from benchmarks.workloads.dispatching import DispatcherProcess, dispatcher

Options = dict[str, Any]
Result = dict[str, Any]

APP = "benchmarks.workloads.celery_flows"
LONGEST = 120.0
LOOK = 0.1
# Runs of the backlog, found by the moment it was written; on the database's clock, as everything here.
SPAN = (
    "select extract(epoch from max(completed_at) - min(started_at))::float8 from continuum_runs where created_at >= %s"
)
LEFT = "select count(*) from continuum_runs where completed_at is null"


def chain_and_tasks(options: Options) -> Result:
    """P8: one workflow after the other, from start to its result; then many at once."""
    url, count, times, warm, runs = (options[name] for name in ("url", "steps", "n", "warm", "runs"))
    os.environ["CONTINUUM_DATABASE_URL"] = url
    with open_brokers(options["broker"]):
        from benchmarks.workloads.celery_flows import QUEUE, continuum, steps

        def call() -> None:
            if continuum.start(steps, count).result(timeout=60) != count:
                raise MeasurementError("a wrong result")

        with celery_worker(APP, QUEUE) as worker, dispatcher(url, app=f"{APP}:continuum") as process, continuum:
            call()
            timed(call, warm)
            before = _cpu(process, worker)
            taken = timed(call, times)
            alone = _per_step(before, _cpu(process, worker), times * count)
            worker.check()
            before = _cpu(process, worker)
            seconds = _work_off(url, runs, count)
            together = _per_step(before, _cpu(process, worker), runs * count)
    total = times + warm + 1 + runs
    return {
        "figures": {**latency(taken), "steps_per_s": round(runs * count / seconds, 1)},
        "detail": {"cpu_us_per_step_alone": alone, "cpu_us_per_step_together": together},
        "verified": check_runs(url, runs=total, steps=total * count),
    }


def _work_off(url: str, runs: int, count: int) -> float:
    """Start so many runs in one transaction; return the seconds from the first one's start to the last one's end."""
    from benchmarks.workloads.celery_flows import continuum, steps

    with cursor_on(url) as cursor, closing(psycopg2.connect(url)) as connection:
        cursor.execute("select clock_timestamp()")
        since = cursor.fetchone()[0]
        for _ in range(runs):
            continuum.start(steps, count, connection=connection)
        connection.commit()
        deadline = time.monotonic() + LONGEST
        while True:
            time.sleep(LOOK)
            cursor.execute(LEFT)
            left = cursor.fetchone()[0]
            if not left:
                break
            if time.monotonic() > deadline:
                raise MeasurementError(f"{left} of {runs} runs are not done after {LONGEST:.0f} s")
        cursor.execute(SPAN, (since,))
        return cursor.fetchone()[0]


def _cpu(process: DispatcherProcess, worker: WorkerProcess) -> dict[str, float]:
    parent, children = worker.cpu_seconds
    return {"dispatcher": process.cpu_seconds, "worker_parent": parent, "worker_children": children}


def _per_step(before: dict[str, float], after: dict[str, float], steps: int) -> dict[str, float]:
    return {name: round((after[name] - before[name]) / steps * 1e6, 1) for name in before}


if __name__ == "__main__":
    serve({"chain_and_tasks": chain_and_tasks})
