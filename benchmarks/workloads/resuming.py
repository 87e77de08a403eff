"""Here lives the resumption of a long run: what a dispatcher does before the first new step of a run that it claims.

The history is written by the engine and lies in Postgres alone, or as a busy system leaves it: its events between those
of the runs that worked at the same time. What is timed: the claim with all it loads, as the turns thread sends it, and
the replay of the workflow's code to its tip.
"""

import gc
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2
import psycopg2.extras

from benchmarks.child import MeasurementError, serve
from benchmarks.figures import median
from benchmarks.workloads.flows import RESULT, noop, steps
from continuum.journal.open import open_journal
from continuum.journal.protocol import Journal, Line
from continuum.journal.requests import ClaimReply, ClaimRequest, ReleaseRequest, Request
from continuum.model.codec import CODEC_VERSION
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, WorkerId, new_run_id, new_worker_id
from continuum.model.leases import ClaimedRun, Grant, WorkerInfo
from continuum.model.runs import NewRun, Started
from continuum.model.snapshots import decode_snapshot
from continuum.replay.execution import Execution, RunInfo
from continuum.runtime.snapshots import SnapshotMaker
from continuum.runtime.turns.growth import Growth

BEGAN_AT = 1_760_000_000_000_000
STEP_US = 1_000
MAX_BYTES = 64 * 1024 * 1024
PATIENCE = 60.0


def resuming(options: dict[str, Any]) -> dict[str, Any]:
    """P4: so many steps resumed from rows and from a snapshot, turn by turn; and what the snapshot costs to make."""
    count, repeat = options["steps"], options["repeat"]
    history = record(count)
    with closing(open_journal(options["url"])) as journal, closing(journal.open_line()) as line:
        scene = Scene(journal, line)
        run_id = scene.start(count)
        write(options["url"], run_id, history, others=options["others"])
        maker = SnapshotMaker(journal=journal, growth=Growth(), max_bytes=MAX_BYTES)
        raw, folded, making = [], [], []
        scene.resume(history)
        for _ in range(repeat):
            journal.snapshots.discard([run_id])
            raw.append(scene.resume(history))
            gc.collect()
            began, worked = time.perf_counter(), time.process_time()
            if not maker.fold(run_id):
                raise MeasurementError("no snapshot was made")
            making.append((time.perf_counter() - began, time.process_time() - worked))
            folded.append(scene.resume(history, folded=len(history)))
        kept = journal.snapshots.find(run_id)
        assert kept is not None
        decoding = median([timed(lambda: decode_snapshot(kept)) for _ in range(repeat)])
    loads = [median([load for load, _ in found]) for found in (raw, folded)]
    whole = [median([load + replay for load, replay in found]) for found in (raw, folded)]
    return {
        "figures": {
            "raw_ms": ms(whole[0]),
            "snapshot_ms": ms(whole[1]),
            "times_faster": round(whole[0] / whole[1], 2),
            "load_raw_ms": ms(loads[0]),
            "load_snapshot_ms": ms(loads[1]),
            "load_times_faster": round(loads[0] / loads[1], 2),
            "replay_ms": ms(median([replay for _, replay in (*raw, *folded)])),
            "make_ms": ms(median([wall for wall, _ in making])),
            "make_cpu_ms": ms(median([cpu for _, cpu in making])),
        },
        "detail": {"events": len(history), "bytes": len(kept.body), "decode_ms": ms(decoding)},
        "verified": f"{len(history)} events loaded {2 * repeat + 1} times, equal each time, and replayed to the tip",
    }


class Scene:
    """A worker that claims one run, replays it, and gives it back."""

    def __init__(self, journal: Journal, line: Line) -> None:
        self._journal = journal
        self._line = line
        self._worker: WorkerId = new_worker_id()
        journal.workers.register(WorkerInfo(self._worker, "bench", 1, timedelta(hours=1)))

    def start(self, count: int) -> RunId:
        run_id = new_run_id(int(time.time() * 1_000_000))
        new = NewRun(
            id=run_id,
            namespace="default",
            workflow=steps.name,
            version=steps.version,
            version_hash=steps.hash,
            started=started(count).encode(),
        )
        self._journal.runs.start(new)
        return run_id

    def resume(self, expected: list[Event], *, folded: int = 0) -> tuple[float, float]:
        """Claim and replay; return how long each took."""
        gc.collect()
        began = time.perf_counter()
        run = self._claim()
        loaded = time.perf_counter()
        execution = fresh()
        execution.replay(run.events)
        replayed = time.perf_counter()
        if run.folded != folded or run.events[1:] != expected[1:] or execution.ended:
            raise MeasurementError("something else was loaded than was written")
        execution.evict()
        self._ask(ReleaseRequest(self._worker, (Grant(run.run_id, run.token),)))
        return loaded - began, replayed - loaded

    def _claim(self) -> ClaimedRun:
        reply = self._ask(ClaimRequest(self._worker, ((steps.name, steps.version),), 64, (steps.hash,)))
        assert isinstance(reply, ClaimReply)
        [run] = reply.runs
        return run

    def _ask(self, request: Request) -> Any:
        self._line.send(request)
        reply = self._line.wait(PATIENCE)
        if reply is None:
            raise MeasurementError("no answer")
        return reply


def timed(call: Callable[[], Any]) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)


def started(count: int) -> Started:
    import msgspec

    return Started(
        input=msgspec.Raw(steps.encode_input((count,), {}).encode()), seed="0f" * 16, codec_version=CODEC_VERSION
    )


def fresh() -> Execution:
    run_id = new_run_id(BEGAN_AT)
    run = RunInfo(
        run_id=run_id, chain_id=ChainId(run_id), namespace="default", workflow=steps.name, version=steps.version
    )
    return Execution(entry=steps.entry, run=run)


def record(count: int) -> list[Event]:
    """Return the history of a run of ``steps`` whose last step is under way, made by the engine itself."""
    execution = fresh()
    history = [Event(1, EventType.RUN_STARTED, None, None, started(count).encode(), BEGAN_AT)]
    execution.replay(history)
    payload, at = noop.encode_result(RESULT), BEGAN_AT
    execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, at))
    for command in range(count):
        history += execution.decide().events
        if command < count - 1:
            at += STEP_US
            execution.deliver(Event(0, EventType.ACTIVITY_COMPLETED, command, noop.name, payload, at))
    execution.evict()
    return history


def write(url: str, run_id: RunId, history: list[Event], *, others: int) -> None:
    """Write the history of a started run, each step beside one of ``others`` runs."""
    rows = [
        (seq, str(e.type.value), e.command, e.name, e.payload, e.at, e.location) for seq, e in enumerate(history, 1)
    ][1:]
    beside = [new_run_id(int(time.time() * 1_000_000) + number) for number in range(others)]
    mixed = [(run, *row) for row in rows for run in (run_id, *beside)]
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        psycopg2.extras.execute_values(
            cursor,
            "insert into continuum_events (run_id, seq, type, command, name, payload, at_us, location) values %s",
            mixed,
            page_size=5_000,
        )
        cursor.execute("update continuum_runs set last_seq = %s where id = %s", (len(history), run_id))
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("vacuum analyze continuum_events")
            cursor.execute("checkpoint")


if __name__ == "__main__":
    serve({"resuming": resuming})
