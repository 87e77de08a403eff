"""A run is cancelled or terminated while its activities run: they learn of it, and nothing they return counts."""

from collections.abc import Iterator

import pytest

from continuum import Continuum, RunCancelled, activity, current_attempt, workflow
from continuum.model.events import EventType
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.support.eventually import eventually

WAIT = 30
TOLD: dict[str, list[bool]] = {}


@activity(name="cancel.careful")
def careful(tag: str) -> str:
    attempt = current_attempt()
    TOLD[tag].append(False)

    def told() -> bool:
        attempt.heartbeat()
        return attempt.cancelled

    eventually(told, WAIT)
    TOLD[tag].append(True)
    return "too late"


@workflow(name="cancel.flow")
async def flow(tag: str) -> str:
    return await careful(tag)


@pytest.fixture
def tag(request: pytest.FixtureRequest) -> Iterator[str]:
    TOLD[request.node.name] = []
    yield request.node.name
    del TOLD[request.node.name]


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_a_running_activity_of_a_run_that_is_ended_learns_of_it_and_its_outcome_is_dropped(
    continuum: Continuum, tag: str, how: str
) -> None:
    """ACT-24, CAN-03, F-15."""
    with continuum.running():
        handle = continuum.start(flow, tag)
        eventually(lambda: TOLD[tag] == [False], WAIT)
        getattr(handle, how)()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
        eventually(lambda: TOLD[tag] == [False, True], WAIT)
        assert continuum.tasks(handle.id) == []
        # The pool is well, and nothing of the late outcome has reached the history.
        assert continuum.start(flows.fan_out, 3).result(timeout=WAIT) == 6
        assert EventType.ACTIVITY_COMPLETED not in [event.type for event in handle.history()]
        assert handle.refresh().state == (RunState.CANCELLED if how == "cancel" else RunState.TERMINATED)


def test_a_cancelled_run_leaves_no_timer_and_no_task_behind(continuum: Continuum) -> None:
    """CAN-03, CAN-04, CAN-06: it need not be in anybody's memory to be cancelled."""
    with continuum.running():
        handle = continuum.start(flows.wait_for_approval, 86_400)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
        assert handle.refresh().wake_at is not None
    assert handle.refresh().lease_owner is None
    handle.cancel()
    with continuum.running(), pytest.raises(RunCancelled):
        handle.result(timeout=WAIT)
    run = handle.refresh()
    assert (run.state, run.wake_at, run.lease_owner) == (RunState.CANCELLED, None, None)
    assert EventType.TIMER_FIRED not in [event.type for event in handle.history()]
    assert continuum.tasks(handle.id) == []


def test_a_run_that_ends_before_it_reads_a_cancel_request_stays_as_it_ended(continuum: Continuum) -> None:
    """X-065."""
    handle = continuum.start(flows.order, "o1")
    with continuum.running():
        handle.result(timeout=WAIT)
        with pytest.raises(Exception, match="completed") as refused:
            handle.cancel()
    assert type(refused.value).__name__ == "RunTerminal"
    assert handle.refresh().state == RunState.COMPLETED
