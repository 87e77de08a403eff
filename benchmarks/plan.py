"""Here lives what is measured: which contender does which workload, with what sizes, and what is to be reached."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

__all__ = ["GOALS", "OURS", "PLAN", "TITLES", "Contest", "Goal"]

OURS = "continuum"

TITLES = {
    "p1": "P1: 10 sequential no-op activities, one caller, start to result",
    "p2": "P2: 10 sequential no-op activities, one process, a backlog",
    "p3": "P3: replay of 12,500 events, decoding included",
    "p4": "P4: 10,000 steps resumed from Postgres: load, decode, replay to the tip",
    "p5": "P5: n steps in one run",
    "p8": "P8: 10 sequential no-op activities through Celery, 2 worker processes; many at once",
    "p10": "P10: idle system (30 ms pauses), one step, start to result",
    "declare": "Declaration of an ordinary workflow, its code read",
    "tripwire": "The tripwire: what calls elsewhere and a replay cost more",
    "p12": "P12: children: one run fans out and in, and ten do at once",
}


@dataclass(frozen=True, slots=True)
class Contest:
    """One contender at one workload; each round runs it once, in a process of its own.

    :ivar name: the row in the report.
    :ivar module: what is run; ``call`` is the measurement in it, ``options`` its options.
    :ivar quick: options that differ in a quick run.
    :ivar database: a new database with Continuum's tables, an empty one, or none.
    :ivar needs: modules that must be importable.
    """

    workload: str
    name: str
    module: str
    call: str
    options: Mapping[str, Any]
    quick: Mapping[str, Any] = field(default_factory=dict)
    database: Literal["migrated", "empty", "none"] = "empty"
    needs: tuple[str, ...] = ()

    @property
    def is_peer(self) -> bool:
        return not self.name.startswith(OURS)

    def missing(self) -> list[str]:
        """Return the modules it would need that are not installed."""
        return [module for module in self.needs if find_spec(module) is None]


def _ours(workload: str, name: str, call: str, options: Mapping[str, Any], quick: Mapping[str, Any]) -> Contest:
    return Contest(workload, name, "benchmarks.workloads.ours", call, options, quick, "migrated")


def _dbos(workload: str, name: str, call: str, options: Mapping[str, Any], quick: Mapping[str, Any]) -> Contest:
    return Contest(workload, name, "benchmarks.peers.dbos", call, options, quick, needs=("dbos", "psycopg"))


def _absurd(workload: str, call: str, options: Mapping[str, Any], quick: Mapping[str, Any]) -> Contest:
    needs = ("absurd_sdk", "absurdctl", "psycopg")
    return Contest(workload, "absurd", "benchmarks.peers.absurd", call, options, quick, needs=needs)


def _floor(workload: str, call: str, options: Mapping[str, Any], quick: Mapping[str, Any]) -> Contest:
    return Contest(workload, "floor", "benchmarks.peers.floor", call, options, quick, needs=("psycopg",))


def _backlog(in_flight: int, runs: int) -> Contest:
    options = {"steps": 10, "in_flight": in_flight, "runs": runs}
    return _ours("p2", f"continuum, {in_flight} in flight", "backlog", options, {"runs": max(200, runs // 8)})


def _family(name: str, steps: int) -> Contest:
    repeat = {"1x100": 10, "1x1000": 3, "1x5000": 1, "10x100": 3}
    quick = {"repeat": {"1x100": 3, "1x1000": 1, "10x100": 1}}
    options = {"steps": steps, "repeat": repeat}
    return Contest("p12", name, "benchmarks.workloads.families", "families", options, quick, "migrated")


def _resumed(name: str, *, steps: int = 10_000, others: int = 0) -> Contest:
    options = {"steps": steps, "repeat": 9, "others": others}
    return Contest("p4", name, "benchmarks.workloads.resuming", "resuming", options, {"repeat": 3}, "migrated")


def _temporal(name: str, *, sandbox: bool) -> Contest:
    options = {"events": 12_500, "repeat": 3, "sandbox": sandbox}
    module = "benchmarks.peers.temporal_replay"
    return Contest("p3", name, module, "replaying", options, {"repeat": 1}, "none", ("temporalio",))


def _celery(broker: str) -> tuple[Contest, Contest]:
    options = {"broker": broker, "steps": 10, "n": 60, "warm": 10}
    needs = ("celery", "redis")
    ours, plain = "benchmarks.workloads.through_celery", "benchmarks.peers.celery"
    quick = {"n": 20, "warm": 3}
    return (
        Contest(
            "p8",
            f"continuum, {broker}",
            ours,
            "chain_and_tasks",
            {**options, "runs": 300},
            {**quick, "runs": 60},
            "migrated",
            needs,
        ),
        Contest(
            "p8",
            f"celery chain, {broker}",
            plain,
            "chain_and_tasks",
            {**options, "tasks": 3_000},
            {**quick, "tasks": 600},
            "none",
            needs,
        ),
    )


_TEN = {"steps": 10, "n": 200, "warm": 20}
_TEN_QUICK = {"n": 40, "warm": 5}
_IDLE = {"steps": 1, "n": 100, "warm": 10, "pause": 0.03}
_IDLE_QUICK = {"n": 20, "warm": 3}

PLAN: tuple[Contest, ...] = (
    _ours("p1", OURS, "one_caller", _TEN, _TEN_QUICK),
    _dbos("p1", "dbos", "one_caller", {**_TEN, "n": 100, "warm": 10}, _TEN_QUICK),
    _absurd("p1", "one_caller", _TEN, _TEN_QUICK),
    _floor("p1", "one_caller", _TEN, _TEN_QUICK),
    _backlog(8, 2_500),
    _backlog(64, 6_000),
    _backlog(512, 10_000),
    # More threads than that only fight for the interpreter.
    _dbos("p2", "dbos, 4 threads", "backlog", {"steps": 10, "threads": 4, "seconds": 4.0}, {"seconds": 2.0}),
    _dbos("p2", "dbos, 8 threads", "backlog", {"steps": 10, "threads": 8, "seconds": 4.0}, {"seconds": 2.0}),
    _absurd("p2", "backlog", {"steps": 10, "runs": 400}, {"runs": 100}),
    _floor("p2", "backlog", {"steps": 10, "connections": 16, "seconds": 3.0}, {"seconds": 1.5}),
    Contest(
        "p3",
        OURS,
        "benchmarks.workloads.replaying",
        "replaying",
        {"events": 12_500, "repeat": 15},
        {"repeat": 5},
        "none",
    ),
    _temporal("temporal", sandbox=False),
    _temporal("temporal, sandboxed", sandbox=True),
    _resumed(OURS),
    _resumed("continuum, among 20 busy runs", others=20),
    # Where the default of `snapshot_threshold` comes from.
    _resumed("continuum, 2,500 steps", steps=2_500),
    _resumed("continuum, 500 steps", steps=500),
    _ours(
        "p5",
        OURS,
        "long_runs",
        {"repeat": {"100": 20, "1000": 4, "10000": 1}},
        {"repeat": {"100": 5, "1000": 1, "10000": 1}},
    ),
    Contest(
        "tripwire",
        OURS,
        "benchmarks.workloads.tripping",
        "tripping",
        {"events": 12_500, "repeat": 9},
        {"events": 2_500, "repeat": 3},
        "none",
    ),
    Contest(
        "declare",
        OURS,
        "benchmarks.workloads.declaring",
        "declaring",
        {"modules": 200},
        {"modules": 40},
        "none",
    ),
    *_celery("redis"),
    *_celery("rabbitmq"),
    _ours("p10", OURS, "one_caller", _IDLE, _IDLE_QUICK),
    _dbos("p10", "dbos", "one_caller", _IDLE, _IDLE_QUICK),
    _dbos("p10", "dbos, queue", "queue", {"steps": 1, "n": 10}, {"n": 3}),
    _floor("p10", "one_caller", _IDLE, _IDLE_QUICK),
    _family("continuum, no step", 0),
    _family("continuum, one step each", 1),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """Something to be reached.

    :ivar what: in words.
    :ivar figure: as ``row/figure``; ``over`` is what it is divided by, None for an absolute goal. Several rows
        separated by ``|`` mean the best of them.
    :ivar relation: ``<=`` or ``>=`` ``bound``.
    """

    workload: str
    what: str
    figure: str
    over: str | None
    relation: Literal["<=", ">="]
    bound: float

    @property
    def text(self) -> str:
        sign = {"<=": "≤", ">=": "≥"}[self.relation]
        return f"{self.what} {sign} {self.bound:g}"


def _celery_goals(broker: str) -> tuple[Goal, Goal]:
    ours, plain = f"continuum, {broker}", f"celery chain, {broker}"
    tasks = f"{broker}: steps/s ÷ tasks/s with results"
    return (
        Goal("p8", f"{broker}: p50 ÷ chain", f"{ours}/p50_ms", f"{plain}/p50_ms", "<=", 2),
        Goal("p8", tasks, f"{ours}/steps_per_s", f"{plain}/steps_per_s", ">=", 0.6),
    )


_DBOS_BEST = "dbos, 4 threads|dbos, 8 threads/steps_per_s"

GOALS: tuple[Goal, ...] = (
    Goal("p1", "p50 ÷ DBOS", "continuum/p50_ms", "dbos/p50_ms", "<=", 0.25),
    Goal("p1", "p50 ÷ Absurd", "continuum/p50_ms", "absurd/p50_ms", "<=", 0.6),
    Goal("p1", "p50 ÷ floor", "continuum/p50_ms", "floor/p50_ms", "<=", 2.0),
    Goal("p2", "8 in flight ÷ DBOS at its best", "continuum, 8 in flight/steps_per_s", _DBOS_BEST, ">=", 15),
    Goal("p2", "64 in flight ÷ DBOS at its best", "continuum, 64 in flight/steps_per_s", _DBOS_BEST, ">=", 30),
    Goal("p2", "512 in flight ÷ DBOS at its best", "continuum, 512 in flight/steps_per_s", _DBOS_BEST, ">=", 40),
    Goal("p2", "64 in flight ÷ floor", "continuum, 64 in flight/steps_per_s", "floor/steps_per_s", ">=", 1),
    Goal("p3", "µs per event", "continuum/us_per_event", None, "<=", 3),
    Goal("p3", "Temporal unsandboxed ÷ ours", "temporal/us_per_event", "continuum/us_per_event", ">=", 20),
    Goal("p4", "from rows, in ms", "continuum/raw_ms", None, "<=", 100),
    Goal("p4", "rows ÷ snapshot", "continuum/times_faster", None, ">=", 5),
    Goal("p5", "slowest ÷ fastest time per step", "continuum/spread", None, "<=", 1.2),
    Goal("declare", "ms for a workflow, read with all it calls", "continuum/first_ms", None, "<=", 5),
    *_celery_goals("redis"),
    *_celery_goals("rabbitmq"),
    Goal("p10", "p50 in ms", "continuum/p50_ms", None, "<=", 5),
    Goal("p12", "no step: slowest ÷ fastest time per child", "continuum, no step/spread", None, "<=", 1.5),
    Goal("p12", "one step: slowest ÷ fastest time per child", "continuum, one step each/spread", None, "<=", 1.5),
)
