"""Here lives Continuum under measurement: a ``continuum-dispatcher`` process, and a caller, which is this process."""

import time
from contextlib import closing
from typing import Any

import psycopg2

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import latency, timed
from benchmarks.workloads.checking import check_runs, cursor_on
from benchmarks.workloads.dispatching import dispatcher
from benchmarks.workloads.flows import steps
from continuum import Continuum

Options = dict[str, Any]
Result = dict[str, Any]

START_COMMIT = 500
LONGEST = 300.0
WARM_RUNS = 20
SPAN = """
    select extract(epoch from max(completed_at) - min(started_at))::float8,
           extract(epoch from percentile_disc(0.9) within group (order by completed_at)
                            - percentile_disc(0.1) within group (order by completed_at))::float8
    from continuum_runs
"""


def one_caller(options: Options) -> Result:
    """P1 and P10: one run after the other, from start to result, with a pause before each or none."""
    url, count, times, warm = options["url"], options["steps"], options["n"], options["warm"]
    with dispatcher(url) as process, Continuum(url) as client:

        def call() -> None:
            if client.start(steps, count).result(timeout=30) != count:
                raise MeasurementError("a wrong result")

        call()
        timed(call, warm)
        used, cpu = process.cpu_seconds, time.process_time()
        taken = timed(call, times, pause=options.get("pause", 0.0))
        used, cpu = process.cpu_seconds - used, time.process_time() - cpu
    runs = times + warm + 1
    verified = check_runs(url, runs=runs, steps=runs * count)
    return {
        "figures": latency(taken),
        "detail": {"dispatcher_cpu_ms": round(used / times * 1e3, 2), "caller_cpu_ms": round(cpu / times * 1e3, 2)},
        "verified": verified,
    }


def backlog(options: Options) -> Result:
    """P2: one dispatcher works off a prefilled backlog with so many runs in flight."""
    url, count, runs = options["url"], options["steps"], options["runs"]
    with Continuum(url) as client, closing(psycopg2.connect(url)) as connection:
        for done in range(0, runs, START_COMMIT):
            for _ in range(min(START_COMMIT, runs - done)):
                client.start(steps, count, connection=connection)
            connection.commit()
    with dispatcher(url, active_runs=options["in_flight"]) as process, cursor_on(url) as cursor:
        deadline = time.monotonic() + LONGEST
        seen: list[tuple[int, float]] = []
        while True:
            time.sleep(0.2)
            process.check()
            used = process.cpu_seconds
            cursor.execute("select count(*) from continuum_runs where completed_at is null")
            left = cursor.fetchone()[0]
            if left < runs:
                seen.append((left, used))
            if not left:
                break
            if time.monotonic() > deadline:
                raise MeasurementError(f"{left} of {runs} runs are not done after {LONGEST:.0f} s")
        cursor.execute(SPAN)
        seconds, middle = cursor.fetchone()
    verified = check_runs(url, runs=runs, steps=runs * count)
    return {
        "figures": {"steps_per_s": round(runs * count / seconds, 1)},
        "detail": {
            "seconds": round(seconds, 3),
            "steady_steps_per_s": round(0.8 * runs * count / middle, 1) if middle else None,
            "dispatcher_cpu_us_per_step": _cpu_per_step(seen, count),
        },
        "verified": verified,
    }


def _cpu_per_step(seen: list[tuple[int, float]], count: int) -> float | None:
    """Return the dispatcher's µs per step between the first look that found ended runs and the last."""
    (left, before), (last, after) = seen[0], seen[-1]
    return round((after - before) / (left - last) / count * 1e6, 1) if left > last else None


def long_runs(options: Options) -> Result:
    """P5: runs of growing length, the time per step of each."""
    url, repeat = options["url"], {int(count): times for count, times in options["repeat"].items()}
    taken: dict[int, list[float]] = {count: [] for count in repeat}
    with dispatcher(url) as process, Continuum(url) as client:
        timed(lambda: client.start(steps, 10).result(timeout=30), WARM_RUNS)
        for count, times in _there_and_back(repeat):
            process.check()

            def call(count: int = count) -> None:
                client.start(steps, count).result(timeout=LONGEST)

            taken[count] += timed(call, times)
    figures = {f"us_per_step_{count}": round(sum(each) / len(each) / count * 1e6, 1) for count, each in taken.items()}
    runs = WARM_RUNS + sum(repeat.values())
    total = WARM_RUNS * 10 + sum(count * times for count, times in repeat.items())
    each = list(figures.values())
    figures["spread"] = round(max(each) / min(each), 3)
    return {"figures": figures, "verified": check_runs(url, runs=runs, steps=total)}


def _there_and_back(repeat: dict[int, int]) -> list[tuple[int, int]]:
    """Return (length, times), short runs before the long ones and again after them: a machine that drifts is even."""
    first = [(count, times - times // 2) for count, times in repeat.items()]
    again = [(count, times // 2) for count, times in reversed(repeat.items()) if times > 1]
    return first + again


if __name__ == "__main__":
    serve({"one_caller": one_caller, "backlog": backlog, "long_runs": long_runs})
