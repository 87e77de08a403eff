"""Here live the rounds: every contender in turn, on a quiet machine, each with a database of its own.

Contenders are interleaved, and every other round goes through them backwards, so that a machine that changes while
we measure changes for all of them alike. Ratios are made within a round.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.child import MeasurementError, measure
from benchmarks.machine import Meter, wait_until_quiet
from benchmarks.plan import Contest
from benchmarks.server import Server

__all__ = ["LOUD", "RoundOptions", "run_rounds"]

# Cores used by others above which a measurement is marked, and tried once more.
LOUD = 0.25
LONGEST = 420.0


@dataclass(frozen=True, slots=True)
class RoundOptions:
    """How to measure. ``patience``: how many seconds to wait for a quiet machine before each measurement."""

    rounds: int
    quick: bool
    patience: float


def run_rounds(contests: Sequence[Contest], server: Server, options: RoundOptions) -> list[dict[str, Any]]:
    """Measure everything, and return one record per contest and round. A failure is a record too."""
    records = []
    for number in range(options.rounds):
        for contest in contests if number % 2 == 0 else reversed(contests):
            record = _run_once(contest, server, options)
            if options.patience and (record["load"]["foreign"] or 0) > LOUD and not record.get("error"):
                again = _run_once(contest, server, options)
                if not again.get("error") and again["load"]["foreign"] < record["load"]["foreign"]:
                    record = again
            record["round"] = number + 1
            records.append(record)
            _tell(record, options.rounds)
    return records


def _run_once(contest: Contest, server: Server, options: RoundOptions) -> dict[str, Any]:
    values = {**contest.options, **(contest.quick if options.quick else {})}
    record: dict[str, Any] = {"workload": contest.workload, "row": contest.name}
    quiet = wait_until_quiet(options.patience)
    meter = Meter(server.postmaster)
    try:
        if contest.database == "none":
            record |= measure(contest.module, contest.call, values, timeout=LONGEST)
        else:
            with server.database(migrated=contest.database == "migrated") as url:
                record |= measure(contest.module, contest.call, {**values, "url": url}, timeout=LONGEST)
    except MeasurementError as error:
        record["error"] = str(error)
    record["load"] = {**dataclasses.asdict(meter.read()), "before": quiet}
    return record


def _tell(record: dict[str, Any], rounds: int) -> None:
    load = record["load"]
    said = record.get("error") or "  ".join(f"{name}={value:,}" for name, value in record["figures"].items())
    foreign = "?" if load["foreign"] is None else f"{load['foreign']:.2f}"
    where = f"[{record['round']}/{rounds}] {record['workload']:<3} {record['row']}"
    print(f"{where:<42} {said}   ({load['seconds']:.0f} s, foreign {foreign})", file=sys.stderr, flush=True)
