"""Here lives what the tripwire costs those who do not trip: calls elsewhere, and a replay with and without it."""

import os
import random
import time
import timeit
import uuid
from collections.abc import Callable
from typing import Any

from benchmarks.child import serve
from benchmarks.figures import median
from benchmarks.workloads import replaying
from continuum.declare.registry import Registry
from continuum.replay.execution import Execution
from continuum.runtime.guard import guard_workflows

ELSEWHERE: dict[str, Callable[[], Any]] = {
    "time": lambda: time.time(),  # noqa: PLW0108 - through the module, as people call it
    "random": lambda: random.random(),  # noqa: PLW0108
    "uuid4": lambda: uuid.uuid4(),  # noqa: PLW0108
    "environ": lambda: os.environ.get("PATH"),
    "getpid": lambda: os.getpid(),  # noqa: PLW0108
    "id": lambda: id(os),
    "open": lambda: os.close(os.open("/dev/null", os.O_RDONLY)),
}


def tripping(options: dict[str, Any]) -> dict[str, Any]:
    """Measure everything before the tripwire is there, and after."""
    rows = replaying.record(options["events"] // replaying.EVENTS_PER_ROUND)
    replaying.replay(rows)
    bare = [replaying.replay(rows) for _ in range(options["repeat"])]
    before = {name: _ns(call) for name, call in ELSEWHERE.items()}
    guard_workflows(Registry())
    after = {name: _ns(call) for name, call in ELSEWHERE.items()}
    replaying.fresh = _guarded(replaying.fresh)
    guarded = [replaying.replay(rows) for _ in range(options["repeat"])]
    return {
        "figures": {
            **{f"{name}_ns_more": round(after[name] - before[name]) for name in ELSEWHERE},
            "replay_us_per_event": round(median(bare) / len(rows) * 1e6, 3),
            "guarded_us_per_event": round(median(guarded) / len(rows) * 1e6, 3),
        },
        "detail": {"before_ns": {name: round(ns) for name, ns in before.items()}},
        "verified": f"{len(rows)} events reproduced, to the end of the run",
    }


def _ns(call: Callable[[], Any]) -> float:
    number = 100_000
    return min(timeit.repeat(call, number=number, repeat=5)) / number * 1e9


def _guarded(make: Callable[[], Execution]) -> Callable[[], Execution]:
    def fresh() -> Execution:
        execution = make()
        execution.guard()
        return execution

    return fresh


if __name__ == "__main__":
    serve({"tripping": tripping})
