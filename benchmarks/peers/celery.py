"""Here lives plain Celery under measurement: a chain of ten tasks, and tasks with results, on two worker processes."""

import time
from typing import Any

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import latency, timed
from benchmarks.workloads.celerying import celery_worker, open_brokers
from benchmarks.workloads.flows import RESULT

Options = dict[str, Any]
Result = dict[str, Any]

LONGEST = 120.0
# Seconds between looks at a result.
LOOK = 0.01
# More than two processes have prefetched together: when these are done, all are. Asking for each costs a round trip.
LAST = 32


def chain_and_tasks(options: Options) -> Result:
    """P8: one chain after the other, from apply_async to its result; then a queue full of single tasks."""
    count, times, warm, tasks = options["steps"], options["n"], options["warm"], options["tasks"]
    with open_brokers(options["broker"]):
        from celery import chain

        from benchmarks.peers.celery_app import QUEUE, noop

        def call() -> None:
            # A chain object that is applied again keeps its ids, and returns the result it had before.
            if chain(*(noop.s() for _ in range(count))).apply_async().get(timeout=30) != RESULT:
                raise MeasurementError("a wrong result")

        with celery_worker("benchmarks.peers.celery_app", QUEUE) as worker:
            call()
            timed(call, warm)
            taken = timed(call, times)
            worker.check()
            used = sum(worker.cpu_seconds)
            with worker.paused():
                results = [noop.delay() for _ in range(tasks)]
                began = time.perf_counter()
            _wait_for(results)
            seconds = time.perf_counter() - began
            used = sum(worker.cpu_seconds) - used
            if any(result.get(timeout=10) != RESULT for result in results[:: max(1, tasks // 50)]):
                raise MeasurementError("a wrong result")
            results.clear()  # each takes its leave of Redis, which must be there for that
    return {
        "figures": {**latency(taken), "steps_per_s": round(tasks / seconds, 1)},
        "detail": {"worker_cpu_us_per_step": round(used / tasks * 1e6, 1)},
        "verified": f"{times + warm + 1} chains of {count} and {tasks} tasks returned what they should",
    }


def _wait_for(results: list[Any]) -> None:
    """Wait for the last ones; which of them ends last is not known."""
    deadline = time.monotonic() + LONGEST
    for result in results[-LAST:]:
        while not result.ready():
            if time.monotonic() > deadline:
                raise MeasurementError(f"a task has no result after {LONGEST:.0f} s")
            time.sleep(LOOK)


if __name__ == "__main__":
    serve({"chain_and_tasks": chain_and_tasks})
