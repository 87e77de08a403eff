"""Here lives a family under measurement: runs that fan out into children and wait for all of them."""

import time
from typing import Any

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import timed
from benchmarks.workloads.checking import check_runs, cursor_on
from benchmarks.workloads.dispatching import dispatcher
from benchmarks.workloads.flows import family
from continuum import Continuum

LONGEST = 300.0
WARM = 20
# Every commit of a turn appends events, and each of its rows has that transaction's number. Starts do as well.
COMMITS = "select count(distinct xmin::text) from continuum_events"


def families(options: dict[str, Any]) -> dict[str, Any]:
    """P12: so many parents with so many children each; the time per child of each size."""
    url, steps = options["url"], options["steps"]
    sizes = {name: tuple(map(int, name.split("x"))) for name in options["repeat"]}
    figures: dict[str, float] = {}
    detail: dict[str, float] = {}
    runs = children = 0
    with dispatcher(url) as process, Continuum(url) as client, cursor_on(url) as cursor:

        def call(parents: int, width: int) -> None:
            handles = [client.start(family, width, steps) for _ in range(parents)]
            if [handle.result(timeout=LONGEST) for handle in handles] != [width] * parents:
                raise MeasurementError("a wrong result")

        timed(lambda: call(1, WARM), 5)
        runs, children = runs + 5, children + 5 * WARM
        for name, (parents, width) in sizes.items():
            times = options["repeat"][name]
            process.check()
            cursor.execute(COMMITS)
            before, used = cursor.fetchone()[0], process.cpu_seconds
            began = time.perf_counter()
            timed(lambda parents=parents, width=width: call(parents, width), times)
            taken, used = time.perf_counter() - began, process.cpu_seconds - used
            cursor.execute(COMMITS)
            commits = cursor.fetchone()[0] - before - times * parents
            count = times * parents * width
            runs, children = runs + times * parents, children + count
            figures[f"us_per_child_{name}"] = round(taken / count * 1e6, 1)
            detail |= {
                f"children_per_s_{name}": round(count / taken, 1),
                f"seconds_{name}": round(taken / times, 3),
                f"commits_{name}": round(commits / times, 1),
                f"dispatcher_cpu_us_per_child_{name}": round(used / count * 1e6, 1),
            }
    each = [figure for name, figure in figures.items() if name.startswith("us_per_child_1x")]
    figures["spread"] = round(max(each) / min(each), 3)
    verified = check_runs(url, runs=runs + children, steps=children * steps)
    return {"figures": figures, "detail": detail, "verified": verified}


if __name__ == "__main__":
    serve({"families": families})
