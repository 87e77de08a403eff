"""What the journal holds decides: retention, versions, recorded results, and who won a race."""

from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, RunCancelled, RunFailed, wait_signal, workflow
from continuum.declare.registry import Registry
from continuum.journal.open import open_journal
from continuum.journal.protocol import Journal
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.support.audit import fetch
from tests.support.eventually import eventually

WAIT = 30


@workflow(name="conformance.kept", retention=timedelta(seconds=5))
async def kept(how: str) -> str:
    if how == "failed":
        raise ValueError(how)
    if how != "completed":
        await wait_signal("never")
    return how


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "terminated"])
def test_a_run_is_retained_from_its_end_on_however_it_ended(continuum: Continuum, how: str) -> None:
    """PG-15, PG-17, F-76."""
    with continuum.running():
        handle = continuum.start(kept, how)
        if how in {"cancelled", "terminated"}:
            eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
            assert handle.refresh().retention_until is None
            (handle.cancel if how == "cancelled" else handle.terminate)()
        if how == "completed":
            handle.result(timeout=WAIT)
        else:
            with pytest.raises((RunFailed, RunCancelled)):
                handle.result(timeout=WAIT)
    run = handle.refresh()
    assert run.state == how
    assert run.completed_at is not None
    assert run.retention_until is not None
    assert (run.retention_until - run.completed_at).total_seconds() == pytest.approx(5, abs=0.5)


def test_without_a_retention_a_run_is_kept(continuum: Continuum) -> None:
    """PG-16."""
    with continuum.running():
        handle = continuum.start(flows.order, "o1")
        handle.result(timeout=WAIT)
    assert handle.refresh().retention_until is None


def test_the_source_of_a_version_is_on_record_before_its_first_run_begins(continuum: Continuum) -> None:
    """VR-01: tools can show the code that a run was started with."""
    handle = continuum.start(flows.order, "o1")
    run = handle.refresh()
    with continuum.running():
        source = continuum.journal.workers.source_of(run.workflow, run.version_hash)
        assert source == flows.order.source
        handle.result(timeout=WAIT)


def test_what_is_in_the_history_needs_no_kept_result_any_more(database_url: str) -> None:
    """ACT-10: results under keys answer the next caller, the history answers its own run."""
    key = "conformance"
    flows.CALLS.pop(key, None)

    @workflow(name="conformance.keyed")
    async def keyed_then_wait() -> list[Any]:
        first = await flows.keyed(key)
        return [first, await wait_signal("go")]

    settings: dict[str, Any] = {"poll_interval": timedelta(milliseconds=50)}
    with closing(open_journal(database_url)) as journal, Continuum(journal=journal, **settings) as instance:
        with instance.running():
            handle = instance.start(keyed_then_wait)
            eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
        assert fetch(database_url, "delete from continuum_activity_results returning 1") == [(1,)]
        with instance.running():
            handle.signal("go", "on")
            assert handle.result(timeout=WAIT) == [1, "on"]
    assert flows.CALLS[key] == 1


def test_a_signal_that_waits_already_beats_a_timeout_that_has_passed(journal: Journal) -> None:
    """X-041: both are there when a dispatcher comes; the signal is taken, the timer is taken back."""
    with Continuum(journal=journal, poll_interval=timedelta(milliseconds=50)) as instance:
        with instance.running():
            handle = instance.start(flows.wait_for_approval, 1.0)
            eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
        wake_at = handle.refresh().wake_at
        assert wake_at is not None
        handle.signal(flows.approval, "in time")
        eventually(lambda: journal.clock.now_us() > wake_at.timestamp() * 1_000_000, WAIT)
        with instance.running():
            assert handle.result(timeout=WAIT) == "in time"
        kinds = [event.type for event in handle.history()]
        assert "signal_received" in kinds
        assert "timer_fired" not in kinds


def test_whoever_has_not_loaded_a_workflow_can_still_signal_and_cancel_its_runs(journal: Journal) -> None:
    """X-045: a sender needs the run's id, not its code."""
    quick = timedelta(milliseconds=50)
    with (
        Continuum(journal=journal, poll_interval=quick) as instance,
        Continuum(journal=journal, poll_interval=quick, registry=Registry()) as stranger,
    ):
        handle, other = instance.start(flows.collect, 1), instance.start(flows.collect, 1)
        assert stranger.signal(handle.id, "item", "from afar") == "delivered"
        stranger.cancel(other.id)
        with instance.running():
            assert stranger.handle(handle.id).result(timeout=WAIT) == ["from afar"]
            with pytest.raises(RunCancelled):
                stranger.handle(other.id).result(timeout=WAIT)
