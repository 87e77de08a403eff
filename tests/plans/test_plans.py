"""Which index answers what. Plans are the generic ones our sessions use, so they hold for any arguments.

Three databases (see conftest): freshly migrated, 50,000 runs never analysed, and the same analysed. A plan that is
right only with statistics, or only without, is wrong on the day it matters.
"""

import hashlib
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum.journal.postgres import (
    attributes,
    claims,
    dispatches,
    history,
    look,
    reaper,
    runs,
    snapshots,
    tasks,
    terminations,
    upkeep,
    versions,
)
from continuum.journal.postgres.commit import commit_call
from continuum.journal.postgres.commit_texts import (
    COMMIT,
    COMMIT_DOOMED,
    COMMIT_FAMILY,
    COMMIT_MAIL,
    COMMIT_SINGLE,
    COMMIT_STEP,
)
from continuum.journal.postgres.literals import ids, integers, text, texts, words
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.requests import CommitRequest, StickRequest
from continuum.model.decisions import Cascade, ChildOrder, Commit, Decision, Letter, Report, Successor
from continuum.model.events import Event, EventType
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.leases import Grant
from continuum.model.policies import ActivityPolicy
from continuum.model.runs import ParentClose, RunState
from continuum.model.tasks import TaskOrder
from tests.plans.conftest import Planner

# Read as a whole on purpose: they are short, or the reading stops at a limit.
READ_AS_A_WHOLE = {"continuum_inbox_pkey", "continuum_inbox_oldest"}
LOOSE = {"continuum_runs_owned", "continuum_tasks_claimed", "continuum_tasks_free"}
TABLES = (
    "continuum_runs",
    "continuum_events",
    "continuum_tasks",
    "continuum_inbox",
    "continuum_attributes",
    "continuum_workflow_versions",
    "continuum_snapshots",
)


def made_id(name: str) -> str:
    return str(uuid.UUID(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()))


WORKER = WorkerId(made_id("worker1"))
W = text(WORKER)
MINE = [
    made_id(f"run{number}") for number in range(1, 9)
]  # parked with WORKER, each with a task; every 20th run has mail
RUNS = ids(MINE)
ONE = text(MINE[0])
# Each with a task that OTHER has dispatched.
OTHER = WorkerId(made_id("worker2"))
THEIRS = ids([made_id(f"run{number}") for number in range(30002, 30018, 2)])
LOADED = ("'{order,other}'", "'{1,1}'")
HASHES = "'{hash,another}'"  # half of the runs are pinned to other code than is loaded, which nobody has
POLICY = ActivityPolicy()
STICK = StickRequest(WORKER, Grant(RunId(MINE[0]), 1), "drift", timedelta(seconds=5), longest=timedelta(hours=1))


def commit_call_of(runs: list[str], *, ended: bool = False, mail: bool = False, cancelled: bool = False) -> str:
    """Return the call of a commit as the turns thread sends it: a result in, the next task out."""
    commits = []
    for run_id in runs:
        events = [Event(5, EventType.ACTIVITY_COMPLETED, 2, None, "1", 5)]
        if ended:
            events.append(Event(6, EventType.RUN_COMPLETED, None, None, "1", 5))
        else:
            events.append(Event(6, EventType.ACTIVITY_SCHEDULED, 3, "charge", "[]", 5))
        orders = [] if ended else [TaskOrder(3, "charge", "[]", POLICY, POLICY.encode())]
        state = RunState.COMPLETED if ended else RunState.SUSPENDED
        decision = Decision(
            events=events, orders=orders, cancelled=[2] if cancelled else [], state=state, wake_at=None, logs=[]
        )
        commits.append(
            Commit(
                RunId(run_id),
                ChainId(run_id),
                1,
                4,
                decision,
                claimed=frozenset({3}),
                finished=() if cancelled else ((2, 1),),
                consumed=(1, 2) if mail else (),
            )
        )
    return commit_call(CommitRequest(WORKER, commits), Payloads(None))


def family_call(*, cascade: Cascade | None = None, continues: bool = False) -> str:
    """Return the call of a commit of runs that order children, write letters and report, or go on in a successor."""
    commits = []
    for run_id in MINE:
        last = EventType.RUN_CONTINUED if continues else EventType.VALUE_RECORDED
        decision = Decision(
            events=[Event(5, last, None if continues else 1, None, "1", 5)],
            orders=[],
            cancelled=[2] if continues else [],
            state=RunState.CONTINUED if continues else RunState.SUSPENDED,
            wake_at=None,
            logs=[],
            children=[
                ChildOrder(RunId(made_id(f"{run_id}/{n}")), n, "order", 1, "hash1", "{}", ParentClose.CANCEL)
                for n in range(5)
            ],
            letters=[
                Letter(ChainId(made_id(f"run{number}")), EventType.SIGNAL_RECEIVED, "go", "1")
                for number in range(30_001, 30_006)
            ],
            cascade=cascade,
            attributes='{"region": "south"}',
            successor=Successor(RunId(made_id(f"{run_id}/next")), "{}") if continues else None,
        )
        report = Report(RunId(made_id("run9")), 1, EventType.CHILD_COMPLETED, "1")
        commits.append(Commit(RunId(run_id), ChainId(run_id), 1, 4, decision, consumed=(1, 2), report=report))
    return commit_call(CommitRequest(WORKER, commits), Payloads(None))


COMMIT_USES = {"continuum_runs_pkey", "continuum_tasks_pkey"}
FAMILY_USES = COMMIT_USES | {"continuum_runs_tip", "continuum_runs_children", "continuum_attributes_pkey"}
START = (text(made_id("new")), "'d'", "'wf'", "1", "'h'", "'{}'", "'{}'", "null")
CASES: dict[str, tuple[Statement, str, set[str]]] = {
    "commit": (COMMIT, commit_call_of(MINE), COMMIT_USES),
    "commit of endings": (COMMIT, commit_call_of(MINE, ended=True), COMMIT_USES),
    "commit with mail": (COMMIT_MAIL, commit_call_of(MINE, mail=True), COMMIT_USES),
    "commit of cancelled tasks": (COMMIT_DOOMED, commit_call_of(MINE, cancelled=True, mail=True), COMMIT_USES),
    "commit of one step": (COMMIT_STEP, commit_call_of(MINE[:1]), COMMIT_USES),
    "commit of one ending": (COMMIT_SINGLE, commit_call_of(MINE[:1], ended=True), COMMIT_USES),
    "commit of children and letters": (COMMIT_FAMILY, family_call(), FAMILY_USES),
    "commit with a cascade": (COMMIT_FAMILY, family_call(cascade=Cascade.CANCEL), FAMILY_USES),
    "commit of successors": (COMMIT_FAMILY, family_call(cascade=Cascade.CLOSE, continues=True), FAMILY_USES),
    "claim": (
        claims.CLAIM,
        claims.CLAIM.call(W, *LOADED, "8", HASHES),
        {"continuum_runs_code", "continuum_runs_tip", "continuum_runs_pkey", "continuum_snapshots_pkey"},
    ),
    "regrant": (claims.REGRANT, claims.REGRANT.call(W, RUNS, integers([1] * 8)), {"continuum_runs_pkey"}),
    "load": (
        claims.LOAD,
        claims.LOAD.call(W, RUNS, integers([1] * 8), "false", "true"),
        {"continuum_runs_pkey", "continuum_snapshots_pkey"},
    ),
    "find a snapshot": (snapshots.FIND_SNAPSHOT, snapshots.FIND_SNAPSHOT.call(ONE), {"continuum_snapshots_pkey"}),
    "save a snapshot": (
        snapshots.SAVE_SNAPSHOT,
        snapshots.SAVE_SNAPSHOT.call(ONE, "4", "1", "'{}'"),
        {"continuum_runs_pkey"},
    ),
    "mail": (look.MAIL, look.MAIL.call(W, "100"), {"continuum_runs_tip"}),
    "look": (
        look.LOOK,
        look.LOOK.call(W, "100", *LOADED, "'{queue1}'", "'{}'", HASHES),
        {"continuum_runs_owned", "continuum_runs_code", "continuum_runs_tip", "continuum_tasks_free"},
    ),
    "look for any queue": (
        look.LOOK,
        look.LOOK.call(W, "100", *LOADED, "null", "'{}'", HASHES),
        {"continuum_tasks_free"},
    ),
    "look for tasks of executors": (
        look.LOOK,
        look.LOOK.call(W, "100", *LOADED, "'{}'", "'{celery,other}'", HASHES),
        {"continuum_tasks_due", "continuum_tasks_expiring", "continuum_tasks_claimed"},
    ),
    "inspect": (claims.INSPECT, claims.INSPECT.call(RUNS), {"continuum_runs_pkey"}),
    "release": (claims.RELEASE, claims.RELEASE.call(W, RUNS, integers([1] * 8)), {"continuum_runs_pkey"}),
    "stick": (claims.STICK, claims.stick_call(STICK), {"continuum_runs_pkey"}),
    "revive": (versions.REVIVE, versions.REVIVE.call(*LOADED, "100"), {"continuum_runs_stuck", "continuum_runs_pkey"}),
    "start": (runs.START, runs.START.call(*START), set()),
    "start with a key": (runs.START_KEYED, runs.START_KEYED.call(*START, "'key'"), {"continuum_runs_pkey"}),
    "post": (
        runs.POST,
        runs.POST.call(ONE, "null", "'signal_received'", "'go'", "'1'", "'id'"),
        {"continuum_runs_pkey", "continuum_runs_tip"},
    ),
    "contract": (
        runs.CONTRACT,
        runs.CONTRACT.call(ONE, "null"),
        {"continuum_runs_pkey", "continuum_runs_tip", "continuum_workflow_versions_pkey"},
    ),
    "lock of a tip": (
        terminations.LOCK_TIP,
        terminations.LOCK_TIP.call(ONE, "null"),
        {"continuum_runs_pkey", "continuum_runs_tip"},
    ),
    "merge of attributes": (
        attributes.MERGE,
        attributes.MERGE.call(ONE, "null", "'{}'"),
        {"continuum_runs_pkey", "continuum_runs_tip"},
    ),
    "first merge of attributes": (
        attributes.FIRST_MERGE,
        attributes.FIRST_MERGE.call(ONE, "null", "'{}'"),
        {"continuum_runs_pkey", "continuum_runs_tip"},
    ),
    "tip": (attributes.TIP, attributes.TIP.call(ONE, "null"), {"continuum_runs_pkey", "continuum_runs_tip"}),
    "published": (attributes.PUBLISHED, attributes.PUBLISHED.call(ONE), set()),
    "known": (terminations.KNOWN, terminations.KNOWN.call(ONE, "null"), {"continuum_runs_pkey"}),
    "terminate": (
        terminations.TERMINATE,
        terminations.TERMINATE.call(ONE, "'{}'", "'{}'"),
        {"continuum_runs_pkey", "continuum_runs_children", "continuum_tasks_pkey", "continuum_workflow_versions_pkey"},
    ),
    "outcomes": (
        history.OUTCOMES,
        history.OUTCOMES.call(*history.outcomes_call(MINE)),
        {"continuum_runs_pkey", "continuum_runs_tip"},
    ),
    "history": (history.HISTORY, history.HISTORY.call(ONE, "0", "null"), set()),
    "claim tasks": (
        tasks.CLAIM_TASKS,
        tasks.CLAIM_TASKS.call(W, "'local'", "'{queue1,queue2}'", "'{4,4}'", "6"),
        {"continuum_tasks_free", "continuum_tasks_pkey"},
    ),
    "claim any tasks": (
        tasks.CLAIM_TASKS,
        tasks.CLAIM_TASKS.call(W, "'local'", "null", "null", "6"),
        {"continuum_tasks_free", "continuum_tasks_pkey"},
    ),
    "finish": (
        tasks.FINISH,
        tasks.FINISH.call(W, ONE, "2", "1", "'activity_completed'", "'1'"),
        {"continuum_tasks_pkey", "continuum_runs_pkey"},
    ),
    "retry": (tasks.RETRY, tasks.RETRY.call(W, ONE, "2", "1", "'{}'", "5"), {"continuum_tasks_pkey"}),
    "progress": (tasks.PROGRESS, tasks.PROGRESS.call(W, ONE, "2", "1", "'1'"), {"continuum_tasks_pkey"}),
    "put back": (
        tasks.PUT_BACK,
        tasks.PUT_BACK.call(W, RUNS, integers([2] * 8), integers([1] * 8)),
        {"continuum_tasks_pkey"},
    ),
    "dispatch": (
        dispatches.DISPATCH,
        dispatches.DISPATCH.call(
            text(OTHER), "'celery'", "'{mail1,mail2}'", "'{8,0}'", "20", "50", "60000000", "600000000"
        ),
        {"continuum_tasks_free", "continuum_tasks_pkey", "continuum_tasks_due"},
    ),
    "claim dispatched": (
        dispatches.CLAIM_DISPATCHED,
        dispatches.CLAIM_DISPATCHED.call(text(OTHER), THEIRS, integers([4] * 8), integers([1] * 8)),
        {"continuum_tasks_pkey"},
    ),
    "finish many": (
        dispatches.FINISH_MANY,
        dispatches.FINISH_MANY.call(
            W, RUNS, integers([2] * 8), integers([1] * 8), words(["activity_completed"] * 8), texts(["1"] * 8)
        ),
        {"continuum_tasks_pkey", "continuum_runs_pkey"},
    ),
    "defer": (
        dispatches.DEFER,
        dispatches.DEFER.call(THEIRS, integers([4] * 8), integers([1] * 8), "0"),
        {"continuum_tasks_pkey"},
    ),
    "abandon": (
        dispatches.ABANDON,
        dispatches.ABANDON.call(W, ONE, "2", "1", "'{}'", "true"),
        {"continuum_tasks_pkey", "continuum_runs_pkey"},
    ),
    "any overdue": (reaper.ANY_OVERDUE, reaper.ANY_OVERDUE.call(), {"continuum_tasks_expiring"}),
    "sweep of the overdue": (reaper.SWEEP_OVERDUE, reaper.SWEEP_OVERDUE.call("50"), {"continuum_tasks_expiring"}),
    "requeue": (
        reaper.REQUEUE,
        reaper.REQUEUE.call(RUNS, integers([2] * 8), texts(["{}"] * 8)),
        {"continuum_tasks_pkey"},
    ),
    "reoffer": (reaper.REOFFER, reaper.REOFFER.call(THEIRS, integers([4] * 8)), {"continuum_tasks_pkey"}),
    "exhausted": (
        reaper.EXHAUSTED,
        reaper.EXHAUSTED.call(RUNS, integers([2] * 8), texts(["{}"] * 8)),
        {"continuum_tasks_pkey", "continuum_runs_pkey"},
    ),
    "dead owners": (reaper.DEAD_OWNERS, reaper.DEAD_OWNERS.call(), {"continuum_runs_owned"}),
    "dead claimants": (reaper.DEAD_CLAIMANTS, reaper.DEAD_CLAIMANTS.call(), {"continuum_tasks_claimed"}),
    "sweep of runs": (
        reaper.SWEEP_RUNS,
        reaper.SWEEP_RUNS.call(ids([made_id("dead20001")]), "100"),
        {"continuum_runs_owned", "continuum_runs_pkey"},
    ),
    "sweep of tasks": (
        reaper.SWEEP_TASKS,
        reaper.SWEEP_TASKS.call(ids([made_id("dead20001")]), "100"),
        {"continuum_tasks_claimed"},
    ),
}
# Not bounded by what they are asked for: dead mail is few, and all a worker holds is what it asked for.
UNBOUNDED = {
    "dead mail": (upkeep.DEAD_MAIL, upkeep.DEAD_MAIL.call("100"), {"continuum_runs_tip"}),
    "held": (tasks.HELD, tasks.HELD.call(W), {"continuum_tasks_claimed"}),
    "undelivered": (
        dispatches.UNDELIVERED,
        dispatches.UNDELIVERED.call(text(OTHER), "'celery'"),
        {"continuum_tasks_claimed"},
    ),
    "hand over": (
        dispatches.HAND_OVER,
        dispatches.HAND_OVER.call(text(OTHER)),
        {"continuum_tasks_claimed", "continuum_tasks_pkey"},
    ),
    "tasks of a run": (tasks.OF_RUN, tasks.OF_RUN.call(ONE), {"continuum_tasks_pkey"}),
}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        node for node in nodes(plan) if node.get("Relation Name", "").startswith(TABLES) and "Scan" in node["Node Type"]
    ]


@pytest.mark.parametrize("case", [*CASES, *UNBOUNDED])
def test_no_statement_reads_a_table_through(planner: Planner, case: str) -> None:
    statement, call, wanted = {**CASES, **UNBOUNDED}[case]
    used = set()
    for node in scans(planner.plan(statement, call)):
        assert node["Node Type"] in {"Index Scan", "Index Only Scan"}, node
        index = node["Index Name"]
        used.add(index)
        loose = index in LOOSE and node.get("Plan Rows", 0) >= 1
        assert "Index Cond" in node or index in READ_AS_A_WHOLE or loose, f"{index} is read from end to end: {node}"
    assert wanted <= used, f"expected {wanted - used}, used {used}"


@pytest.mark.parametrize("case", CASES)
def test_the_work_of_a_statement_does_not_grow_with_the_tables(planner: Planner, case: str) -> None:
    statement, call, _ = CASES[case]
    visited = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        * node["Actual Loops"]
        for node in scans(planner.plan(statement, call, analyze=True))
    )
    # Eight runs with four events each, read a few times; a hundred messages and their runs for the look.
    assert visited <= 700, f"{case} visited {visited} rows"


def test_events_of_a_claim_are_read_in_order_by_their_key(planner: Planner) -> None:
    plan = planner.plan(claims.CLAIM, claims.CLAIM.call(W, *LOADED, "8", HASHES))
    of_events = [node for node in scans(plan) if node["Relation Name"].startswith("continuum_events")]
    assert of_events
    assert all("run_id" in node["Index Cond"] for node in of_events)


def test_outcomes_start_only_the_partitions_of_the_runs_asked_for(planner: Planner) -> None:
    plan = planner.plan(history.OUTCOMES, history.OUTCOMES.call(*history.outcomes_call(MINE[:1])))
    of_events = [node for node in scans(plan) if node["Relation Name"].startswith("continuum_events")]
    assert len(of_events) <= 1
    assert sum(node.get("Subplans Removed", 0) for node in nodes(plan)) >= 4
