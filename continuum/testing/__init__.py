"""Here lives the test kit: workflows run in memory with their time skipped, and histories kept and replayed."""

from continuum.testing.calls import Call, Calls
from continuum.testing.doors import run, run_async, start
from continuum.testing.failures import FakeError, HarnessError, RunBlocked, RunGoesOn, RunStuck
from continuum.testing.fakes import HANG, REAL, fail, outcomes, takes
from continuum.testing.faults import Faults
from continuum.testing.harness import Harness
from continuum.testing.histories import (
    HistoryReport,
    HistoryVerdict,
    assert_compatible,
    assert_replays,
    check_histories,
    dump_history,
    load_history,
)
from continuum.testing.runs import TestRun
from continuum.testing.sameness import assert_same_histories

__all__ = [
    "HANG",
    "REAL",
    "Call",
    "Calls",
    "FakeError",
    "Faults",
    "Harness",
    "HarnessError",
    "HistoryReport",
    "HistoryVerdict",
    "RunBlocked",
    "RunGoesOn",
    "RunStuck",
    "TestRun",
    "assert_compatible",
    "assert_replays",
    "assert_same_histories",
    "check_histories",
    "dump_history",
    "fail",
    "load_history",
    "outcomes",
    "run",
    "run_async",
    "start",
    "takes",
]
