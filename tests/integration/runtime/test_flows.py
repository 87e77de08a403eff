"""The main job, end to end in one process: workflows run, wait, fail and are cancelled as their code says."""

import logging
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from continuum import Continuum
from continuum.errors import RunCancelled, RunFailed
from continuum.model.events import EventType
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.support.eventually import eventually

WAIT = 20


def kinds(continuum: Continuum, run_id: str) -> list[str]:
    return [event.type for event in continuum.history(run_id)]


def test_a_sequential_workflow_returns_the_typed_result_of_its_activities(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.order, "o1")
        assert handle.result(timeout=WAIT) == flows.Payment("o1", Decimal("19.99"))
        assert kinds(continuum, handle.id) == [
            EventType.RUN_STARTED,
            EventType.RUN_BEGAN,
            EventType.ACTIVITY_SCHEDULED,
            EventType.ACTIVITY_COMPLETED,
            EventType.ACTIVITY_SCHEDULED,
            EventType.ACTIVITY_COMPLETED,
            EventType.RUN_COMPLETED,
        ]


def test_a_run_started_before_any_dispatcher_waits_for_one(continuum: Continuum) -> None:
    handle = continuum.start(flows.order, "o1")
    assert handle.refresh().state == RunState.PENDING
    with continuum.running():
        assert handle.result(timeout=WAIT).order == "o1"


def test_gather_runs_activities_at_once_and_keeps_their_order(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(flows.fan_out, 100).result(timeout=WAIT) == sum(range(100)) * 2


def test_task_groups_are_durable(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(flows.groups).result(timeout=WAIT) == [0, 8, 16]


def test_many_runs_at_once_all_finish(continuum: Continuum) -> None:
    handles = [continuum.start(flows.fan_out, 5) for _ in range(60)]
    with continuum.running():
        assert [handle.result(timeout=WAIT) for handle in handles] == [20] * 60


def test_a_failed_attempt_is_retried(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(flows.retries, 2).result(timeout=WAIT) == 3


def test_an_author_chooses_the_delay_of_a_retry(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(flows.retry_after).result(timeout=WAIT) == 2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hopeless", "PermanentError after 1"),
        ("flaky", "ValueError after 3"),
        ("sleepy", "timed out after 1"),
        ("unstorable", "CodecError after 1"),
    ],
)
def test_an_activity_that_cannot_succeed_fails_at_the_await(continuum: Continuum, kind: str, expected: str) -> None:
    with continuum.running():
        assert continuum.start(flows.failing, kind).result(timeout=WAIT) == expected


def test_an_exception_of_the_workflow_fails_the_run_with_its_type_message_and_traceback(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.raising, "no such order")
        with pytest.raises(RunFailed, match="no such order") as failed:
            handle.result(timeout=WAIT)
    assert failed.value.type_name == "LookupError"
    assert "flows.py" in failed.value.remote_traceback


def test_a_signal_wakes_its_waiter(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.wait_for_approval, 60)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED)
        handle.signal(flows.approval, "yes")
        assert handle.result(timeout=WAIT) == "yes"


def test_a_signal_that_came_before_its_wait_is_kept(continuum: Continuum) -> None:
    handle = continuum.start(flows.wait_for_approval, 60)
    handle.signal(flows.approval, "early")
    with continuum.running():
        assert handle.result(timeout=WAIT) == "early"


def test_a_wait_without_a_signal_times_out(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(flows.wait_for_approval, 0.1).result(timeout=WAIT) == "timed out"


def test_signals_of_one_name_are_consumed_in_the_order_they_were_sent(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.collect, 20)
        for number in range(20):
            handle.signal("item", number)
        assert handle.result(timeout=WAIT) == list(range(20))


def test_a_delivery_id_makes_a_signal_arrive_once(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.collect, 2)
        assert handle.signal("item", "a", delivery_id="1") == "delivered"
        assert handle.signal("item", "a", delivery_id="1") == "duplicate"
        handle.signal("item", "b")
        assert handle.result(timeout=WAIT) == ["a", "b"]


def test_timers_fire_one_after_the_other(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(flows.naps, 5).result(timeout=WAIT) >= 0.05


def test_a_condition_sees_what_concurrent_tasks_did(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.condition)
        handle.signal("word", "hello")
        handle.signal("word", "world")
        assert handle.result(timeout=WAIT) == ["hello", "world"]


def test_a_cancel_request_lets_the_workflow_clean_up(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.tidy)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
        assert handle.refresh().state == RunState.CANCELLED
        assert kinds(continuum, handle.id)[-4:] == [
            EventType.CANCEL_REQUESTED,
            EventType.ACTIVITY_SCHEDULED,
            EventType.ACTIVITY_COMPLETED,
            EventType.RUN_CANCELLED,
        ]


def test_a_workflow_may_refuse_to_be_cancelled(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.stubborn)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED)
        handle.cancel()
        assert handle.result(timeout=WAIT) == "kept going: 42"


def test_a_run_cancelled_before_its_first_turn_runs_no_code(continuum: Continuum) -> None:
    handle = continuum.start(flows.order, "o1")
    handle.cancel()
    with continuum.running(), pytest.raises(RunCancelled):
        handle.result(timeout=WAIT)
    assert kinds(continuum, handle.id) == [
        EventType.RUN_STARTED,
        EventType.CANCEL_REQUESTED,
        EventType.RUN_CANCELLED,
    ]


def test_terminate_ends_a_run_without_its_code(continuum: Continuum) -> None:
    with continuum.running():
        handle = continuum.start(flows.tidy)
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED)
        handle.terminate()
        with pytest.raises(RunCancelled):
            handle.result(timeout=WAIT)
        assert handle.refresh().state == RunState.TERMINATED
        assert EventType.CANCEL_REQUESTED not in kinds(continuum, handle.id)


def test_an_idempotency_key_runs_the_body_once(continuum: Continuum, request: pytest.FixtureRequest) -> None:
    key = request.node.name
    flows.CALLS.pop(key, None)
    with continuum.running():
        assert continuum.start(flows.keys, key).result(timeout=WAIT) == [1, 1]
        assert continuum.start(flows.keys, key).result(timeout=WAIT) == [1, 1]
    assert flows.CALLS[key] == 1


def test_log_lines_are_emitted_once_although_the_run_is_replayed(
    continuum: Continuum, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with continuum.running(cached_runs=1):
        handles = [continuum.start(flows.logging_flow) for _ in range(5)]
        assert [handle.result(timeout=WAIT) for handle in handles] == [8] * 5
    lines = [record.getMessage() for record in caplog.records if record.getMessage() in {"before step", "after 8"}]
    assert sorted(lines) == ["after 8"] * 5 + ["before step"] * 5


def test_the_loser_of_a_race_is_forgotten(continuum: Continuum) -> None:
    with continuum.running():
        assert continuum.start(flows.race).result(timeout=WAIT) == "4"


def test_one_key_starts_one_run_however_many_callers(continuum: Continuum) -> None:
    def begin(number: int) -> tuple[str, str]:
        handle, how = continuum.start_unique(flows.order, f"o{number}", idempotency_key="the-order")
        return handle.id, how

    with continuum.running(), ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(begin, range(8)))
        assert len({run_id for run_id, _ in answers}) == 1
        assert sorted(how for _, how in answers) == ["existing"] * 7 + ["started"]
        continuum.handle(answers[0][0]).result(timeout=WAIT)


def test_runs_that_do_not_fit_in_memory_are_replayed_when_they_wake(continuum: Continuum) -> None:
    with continuum.running(cached_runs=3, active_runs=3):
        handles = [continuum.start(flows.collect, 2) for _ in range(12)]
        eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in handles), WAIT)
        for value in ("a", "b"):
            for handle in handles:
                handle.signal("item", value)
        assert [handle.result(timeout=WAIT) for handle in handles] == [["a", "b"]] * 12
