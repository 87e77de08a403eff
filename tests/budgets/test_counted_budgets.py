"""What a step costs, counted: commits, requests and statements, not seconds."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum
from continuum.journal.open import migrate_database, open_journal
from continuum.journal.postgres.embedded import EmbeddedPostgres
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.support.audit import fetch
from tests.support.eventually import eventually
from tests.support.watched import WatchedJournal

STEPS = 10
QUIET: dict[str, Any] = {
    # Nothing periodic happens during a measurement.
    "poll_interval": timedelta(seconds=60),
    "lease_ttl": timedelta(seconds=300),
    "heartbeat_interval": timedelta(seconds=100),
    "reap_interval": timedelta(seconds=300),
    "concurrency": 4,
}


@pytest.fixture
def watched(database_url: str) -> Iterator[WatchedJournal]:
    journal = open_journal(database_url)
    yield WatchedJournal(journal)
    journal.close()


@pytest.fixture
def continuum(watched: WatchedJournal) -> Iterator[Continuum]:
    with Continuum(journal=watched, **QUIET) as instance:
        yield instance


def test_a_sequential_step_costs_one_commit(continuum: Continuum, watched: WatchedJournal) -> None:
    with continuum.running():
        continuum.start(flows.sequence, 1).result(timeout=20)
        watched.sent.clear()
        assert continuum.start(flows.sequence, STEPS).result(timeout=20) == STEPS
        sent = dict(watched.sent)
    # One commit per step, and one that begins the run.
    assert sent.pop("CommitRequest") == STEPS + 1
    # One claim that finds it; a second one may look whether there is more.
    assert sent.pop("ClaimRequest") <= 2
    assert sent.pop("HintRequest") == 1
    assert sent == {}


def test_snapshots_cost_no_statement_of_the_turns_thread(watched: WatchedJournal) -> None:
    """Neither being made nor being used: a claim loads what there is, and others make it."""
    counts = []
    for threshold in (None, 4):
        with Continuum(journal=watched, snapshot_threshold=threshold, **QUIET) as instance, instance.running():
            instance.start(flows.sequence, 1).result(timeout=20)
            watched.sent.clear()
            handle = instance.start(flows.sequence, STEPS)
            assert handle.result(timeout=20) == STEPS
            counts.append((watched.sent["CommitRequest"], watched.sent["RegrantRequest"], watched.sent["LookRequest"]))
            assert watched.sent["ClaimRequest"] <= 2
    assert counts[0] == counts[1] == (STEPS + 1, 0, 0)


def test_the_history_of_a_ten_step_workflow_takes_twelve_transactions(continuum: Continuum, database_url: str) -> None:
    with continuum.running():
        handle = continuum.start(flows.sequence, STEPS)
        handle.result(timeout=20)
    # The start, a commit to begin, one per step: each row knows the transaction that wrote it.
    query = "select count(distinct xmin::text), count(*) from continuum_events where run_id::text = %s"
    assert fetch(database_url, query, handle.id) == [(STEPS + 2, 2 * STEPS + 3)]


def test_many_runs_share_their_commits(continuum: Continuum, watched: WatchedJournal) -> None:
    handles = [continuum.start(flows.sequence, STEPS) for _ in range(64)]
    watched.sent.clear()
    with continuum.running():
        assert [handle.result(timeout=30) for handle in handles] == [STEPS] * 64
    commits = watched.sent["CommitRequest"]
    assert commits < 64 * (STEPS + 1) / 4, f"{commits} commits for {64 * (STEPS + 1)} turns"


def test_idle_runs_cost_no_statement(continuum: Continuum, watched: WatchedJournal) -> None:
    with continuum.running():
        handles = [continuum.start(flows.wait_for_approval, 86_400) for _ in range(50)]
        eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in handles), 20)
        eventually(lambda: not any(watched.sent.pop(name, 0) for name in list(watched.sent)))
        watched.sent.clear()
        time.sleep(1.0)
        assert dict(watched.sent) == {}


def test_the_update_of_a_step_is_hot(own_postgres: EmbeddedPostgres) -> None:
    # A server of its own: a transaction in anybody's database keeps all of a server's pages from being cleaned.
    database_url = own_postgres.url
    migrate_database(database_url)
    with Continuum(database_url, **QUIET) as continuum, continuum.running():
        handles = [continuum.start(flows.sequence, 40) for _ in range(20)]
        assert [handle.result(timeout=30) for handle in handles] == [40] * 20

    def counts() -> tuple[int, int]:
        query = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'continuum_runs'"
        return fetch(database_url, query)[0][:2]

    # A session reports its counts at the latest when it ends.
    updates, hot = eventually(lambda: (found := counts()) and found[0] >= 20 * 41 and found, 20)
    # Per run: the claim, the first commit and the last one change indexed columns; the 40 steps between do not.
    assert hot / updates > 0.85, f"{hot} of {updates} updates were HOT"


def test_a_parked_run_takes_little_memory() -> None:
    import tracemalloc

    with Continuum("memory://", **QUIET) as instance, instance.running():
        warm = [instance.start(flows.wait_for_approval, 86_400) for _ in range(50)]
        eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in warm), 20)
        turns = instance._dispatchers[0]._turns
        tracemalloc.start()
        try:
            before = tracemalloc.take_snapshot()
            many = [instance.start(flows.wait_for_approval, 86_400) for _ in range(200)]
            eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in many), 30)
            after = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        assert turns.held == 250
    # What replay and the turns thread keep of a run; the memory journal's own rows are not counted.
    kept = [
        difference.size_diff
        for difference in after.compare_to(before, "filename")
        if "/replay/" in difference.traceback[0].filename
        or "/turns/" in difference.traceback[0].filename
        or "/asyncio/" in difference.traceback[0].filename
    ]
    assert sum(kept) / 200 < 8 * 1024, f"{sum(kept) / 200:.0f} bytes per parked run"
