"""Here lives DBOS Transact, used in the way that suits it best.

P1 and P10 call the workflow directly: no queue, no second process, so no hop that ours has to make. P2 calls it from
as many threads as help (more only fight for the interpreter). ``queue`` is P10 through a queue with all its defaults,
which is what a caller in another process would have.
"""

import threading
import time
from typing import Any

import psycopg
from dbos import DBOS, DBOSConfig

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import latency, timed

RESULT = {"ok": True, "value": 1, "id": "ord_0123456789", "note": "charged"}
WARM_STEPS = 10


@DBOS.step()
def noop(number: int) -> dict[str, Any]:  # noqa: ARG001 - as ours
    return dict(RESULT)


@DBOS.workflow()
def steps(count: int) -> int:
    total = 0
    for number in range(count):
        total += noop(number)["value"]
    return total


def launch(url: str) -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "log_level": "ERROR",
        "console_log_level": "ERROR",
        "application_version": "bench",
        "executor_id": "bench",
    }
    DBOS(config=config)
    DBOS.launch()
    time.sleep(1)  # its background threads begin


def check(url: str, *, runs: int, steps: int) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(
            "select count(*) filter (where status = 'SUCCESS'), count(*) from dbos.workflow_status"
        ).fetchone()
        recorded = connection.execute("select count(*) from dbos.operation_outputs").fetchone()
    if done != (runs, runs) or recorded != (steps,):
        raise MeasurementError(f"expected {runs} workflows and {steps} steps, found {done} and {recorded}")
    return f"{runs} workflows succeeded, {steps} steps recorded"


def one_caller(options: dict[str, Any]) -> dict[str, Any]:
    url, count, times, warm = options["url"], options["steps"], options["n"], options["warm"]
    launch(url)
    timed(lambda: steps(count), warm)
    cpu = time.process_time()
    taken = timed(lambda: steps(count), times, pause=options.get("pause", 0.0))
    cpu = time.process_time() - cpu
    runs = times + warm
    return {
        "figures": latency(taken),
        "detail": {"caller_cpu_ms": round(cpu / times * 1e3, 2)},
        "verified": check(url, runs=runs, steps=runs * count),
    }


def backlog(options: dict[str, Any]) -> dict[str, Any]:
    """So many threads call the workflow one run after the other for a while."""
    url, count, threads = options["url"], options["steps"], options["threads"]
    launch(url)
    steps(WARM_STEPS)
    done: list[int] = []
    began = time.perf_counter()
    stop = began + options["seconds"]

    def work() -> None:
        runs = 0
        while time.perf_counter() < stop:
            steps(count)
            runs += 1
        done.append(runs)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    cpu = time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    taken, cpu = time.perf_counter() - began, time.process_time() - cpu
    runs = sum(done)
    return {
        "figures": {"steps_per_s": round(runs * count / taken, 1)},
        "detail": {"threads": threads, "cpu_us_per_step": round(cpu / runs / count * 1e6)},
        "verified": check(url, runs=runs + 1, steps=runs * count + WARM_STEPS),
    }


def queue(options: dict[str, Any]) -> dict[str, Any]:
    """P10 through a queue, with its default polls."""
    url, count, times = options["url"], options["steps"], options["n"]
    launch(url)
    DBOS.register_queue("queue")
    time.sleep(2)
    taken = []
    for number in range(times):
        time.sleep(0.13 * (number % 7))  # not in step with its poll
        taken += timed(lambda: DBOS.enqueue_workflow("queue", steps, count).get_result(), 1)
    return {"figures": latency(taken), "verified": check(url, runs=times, steps=times * count)}


if __name__ == "__main__":
    serve({"one_caller": one_caller, "backlog": backlog, "queue": queue})
