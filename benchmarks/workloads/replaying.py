"""Here lives the replay of a long history: no database, only rows as a database would return them.

What is timed: making events of the rows, decoding every payload, and running the workflow's code against them up to
its end.
"""

import gc
import time
from typing import Any

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import median
from benchmarks.workloads.flows import RESULT, mix, noop, refund
from continuum.model.codec import CODEC_VERSION
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, new_run_id
from continuum.model.runs import Started
from continuum.replay.execution import Execution, RunInfo

Row = tuple[Any, ...]

EVENTS_PER_ROUND = 6
BEGAN_AT = 1_760_000_000_000_000
STEP_US = 1_000


def record(rounds: int) -> list[Row]:
    """Return the history of a finished run of ``mix`` as rows, made by the engine itself."""
    import msgspec

    started = Started(
        input=msgspec.Raw(mix.encode_input((rounds,), {}).encode()), seed="0f" * 16, codec_version=CODEC_VERSION
    )
    history = [Event(1, EventType.RUN_STARTED, None, None, started.encode(), BEGAN_AT)]
    execution = fresh()
    execution.replay(history)
    payload = {activity.name: activity.encode_result(RESULT) for activity in (noop, refund)}
    at = BEGAN_AT
    execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, at))
    while True:
        decision = execution.decide()
        history.extend(decision.events)
        if execution.ended:
            break
        for order in decision.orders:
            at += STEP_US
            name = order.activity
            execution.deliver(Event(0, EventType.ACTIVITY_COMPLETED, order.command, name, payload[name], at))
    execution.evict()
    return [(e.seq, str(e.type), e.command, e.name, e.payload, e.at, e.location) for e in history]


def fresh() -> Execution:
    run_id = new_run_id(BEGAN_AT)
    run = RunInfo(run_id=run_id, chain_id=ChainId(run_id), namespace="default", workflow=mix.name, version=mix.version)
    return Execution(entry=mix.entry, run=run)


def replay(rows: list[Row]) -> float:
    """Replay the history once and return how long that took."""
    gc.collect()
    began = time.perf_counter()
    execution = fresh()
    execution.replay([Event(*row) for row in rows])
    taken = time.perf_counter() - began
    if not execution.ended:
        raise MeasurementError("the replay did not reach the end of the run")
    execution.evict()
    return taken


def replaying(options: dict[str, Any]) -> dict[str, Any]:
    """P3."""
    rows = record(options["events"] // EVENTS_PER_ROUND)
    replay(rows)
    taken = [replay(rows) for _ in range(options["repeat"])]
    steps = sum(1 for row in rows if row[1] == EventType.ACTIVITY_COMPLETED)
    return {
        "figures": {
            "us_per_event": round(median(taken) / len(rows) * 1e6, 3),
            "us_per_step": round(median(taken) / steps * 1e6, 3),
        },
        "detail": {"events": len(rows), "steps": steps, "best_us_per_event": round(min(taken) / len(rows) * 1e6, 3)},
        "verified": f"{len(rows)} events reproduced, to the end of the run",
    }


if __name__ == "__main__":
    serve({"replaying": replaying})
