"""Why a run is not moving, in sentences; each test is a situation an operator can meet."""

from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from continuum.client.children import MOST_TOLD, Child
from continuum.client.diagnosis import diagnose
from continuum.client.findings import Finding, Weight, say_count, say_duration
from continuum.model.events import EventType
from continuum.model.runs import ENDED, RunState
from tests.unit.client.histories import ALIVE, BOOM, DEAD, HOUR, History, a_run, a_task, a_worker, at, us


def told(
    state: RunState = RunState.SUSPENDED,
    history: History | None = None,
    *,
    tasks: Any = (),
    workers: Any = None,
    after: float = 60.0,
    children: Any = MappingProxyType({}),
    **fields: Any,
) -> list[tuple[str, str]]:
    findings = diagnose(
        a_run(state, **fields),
        events=(history or History()).events,
        tasks=tasks,
        workers=[a_worker()] if workers is None else workers,
        now=at(after),
        children=children,
    )
    return [(str(finding.weight), finding.text) for finding in findings]


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_run_has_nothing_to_explain(state: RunState) -> None:
    assert told(state) == []


def test_a_new_run_waits_to_be_taken() -> None:
    assert told(RunState.PENDING, after=1) == [("fine", "pending: waits to be taken by a dispatcher")]


def test_a_pending_run_without_any_dispatcher_says_so() -> None:
    assert told(RunState.PENDING, workers=[]) == [("blocked", "there is no live dispatcher")]
    assert told(RunState.PENDING, workers=[a_worker(alive=False)]) == [("blocked", "there is no live dispatcher")]


def test_a_pending_run_that_nobody_takes_names_the_workflow() -> None:
    [(weight, text)] = told(RunState.PENDING, after=120)
    assert weight == "blocked"
    assert "none of 1 live dispatcher has taken it in 2 min" in text
    assert "'order_flow' version 1" in text


def test_a_stuck_run_gives_its_reason_and_its_next_try() -> None:
    [(weight, text)] = told(RunState.STUCK, stuck_reason="drift at command 3", wake_at=at(90))
    assert weight == "blocked"
    assert text == "stuck: drift at command 3, and is tried again at 2026-11-20 12:01:30 UTC (in 30 s)"


def test_a_wait_for_a_signal_names_signal_age_and_line() -> None:
    assert told(history=History().awaited(1, "fraud_review", 0), after=2 * HOUR) == [
        ("fine", "waits for signal fraud_review since 2 h (flows.py:31)")
    ]


def test_a_bounded_wait_also_names_its_timeout() -> None:
    assert told(history=History().awaited(1, "fraud_review", 0, limit=24 * HOUR), after=2 * HOUR) == [
        (
            "fine",
            (
                "waits for signal fraud_review since 2 h (flows.py:31),"
                " or the timeout at 2026-11-21 12:00:00 UTC (in 22 h)"
            ),
        )
    ]


def test_a_wait_before_the_cancel_is_not_told_as_going_on() -> None:
    history = History().awaited(1, "go", 0).add(EventType.CANCEL_REQUESTED, 5).timer(2, 5, 600)
    texts = [text for _, text in told(history=history, cancel_requested_at=at(4))]
    assert not any("waits for signal" in text for text in texts)
    assert any("asked for signal go 1 min ago (flows.py:31), before the cancel" in text for text in texts)
    later = History().add(EventType.CANCEL_REQUESTED, 5).awaited(1, "undo", 6)
    assert any("waits for signal undo" in text for _, text in told(history=later, cancel_requested_at=at(4)))


def test_a_run_that_waits_inside_its_own_code_says_so() -> None:
    [(weight, text)] = told()
    assert (weight, text.startswith("waits inside its own code (an Event, a Lock")) == ("blocked", True)
    done = History().activity(1, "charge", 0).add(EventType.ACTIVITY_COMPLETED, 1, 1, payload="1")
    assert told(history=done) == [(weight, text)]


@pytest.mark.parametrize(("after", "weight"), [(1, "fine"), (60, "slow")])
def test_a_run_at_work_that_has_asked_for_nothing_says_so(after: float, weight: str) -> None:
    [(found, text)] = told(RunState.RUNNING, lease_owner=ALIVE, after=after)
    assert (found, "its code is at work" in text) == (weight, True)


def test_a_timer_names_its_moment() -> None:
    assert told(history=History().timer(1, 0, 90)) == [
        ("fine", "waits for a timer that fires at 2026-11-20 12:01:30 UTC (in 30 s) (flows.py:31)")
    ]


def test_an_overdue_timer_is_first_slow_then_a_problem() -> None:
    assert told(history=History().timer(1, 0, 58))[0][0] == "slow"
    [(weight, text)] = told(history=History().timer(1, 0, 10))
    assert (weight, text) == ("blocked", "a timer (flows.py:31) was due 50 s ago and has not fired")


def test_a_retrying_activity_names_attempt_moment_and_last_error() -> None:
    row = a_task(1, attempt=2, available_at=us(75), last_error=BOOM)
    assert told(history=History().activity(1, "charge", 0), tasks=[row]) == [
        (
            "fine",
            (
                "activity charge (flows.py:20): attempt 2 of 5 begins at 2026-11-20 12:01:15 UTC (in 15 s);"
                " last error: myapp.errors.CardDeclined: no money"
            ),
        )
    ]


def test_a_running_activity_names_its_worker_and_its_heartbeat() -> None:
    row = a_task(1, claimed_by=ALIVE, claimed_at=us(30), heartbeat_at=us(58))
    assert told(history=History().activity(1, "charge", 0), tasks=[row]) == [
        (
            "fine",
            (
                "activity charge (flows.py:20): attempt 1 of 5 runs on host-7 (pid 4711) since 30 s,"
                " last heartbeat 2 s ago"
            ),
        )
    ]


def test_an_activity_of_a_dead_worker_is_offered_again_by_the_sweep() -> None:
    row = a_task(1, claimed_by=DEAD, claimed_at=us(30))
    workers = [a_worker(), a_worker(DEAD, alive=False, expires=50)]
    [(weight, text)] = told(history=History().activity(1, "charge", 0), tasks=[row], workers=workers)
    assert weight == "slow"
    assert "was running on host-7 (pid 4711), which is dead; the next sweep offers it again" in text


def test_an_error_with_braces_in_it_is_told_as_it_is() -> None:
    failure = BOOM.__class__("ValueError", "{'a': {}}")
    row = a_task(1, claimed_by=ALIVE, claimed_at=us(30), last_error=failure)
    [(_, text)] = told(history=History().activity(1, "charge", 0), tasks=[row])
    assert text.endswith("last error: ValueError: {'a': {}}")


def test_an_activity_that_nobody_takes_names_its_queue() -> None:
    history = History().activity(1, "charge", 0)
    row = a_task(1, queue="payments", available_at=us(0))
    [(weight, text)] = told(history=history, tasks=[row])
    assert (weight, text) == (
        "blocked",
        "activity charge (flows.py:20): attempt 1 of 5 waits in queue payments since 1 min",
    )
    assert told(history=history, tasks=[row], after=2)[0][0] == "fine"
    blocked = told(history=history, tasks=[row], workers=[])
    assert ("blocked", "there is no live dispatcher") in blocked


def test_an_activity_without_a_row_has_ended_and_its_outcome_travels() -> None:
    [(weight, text)] = told(history=History().activity(1, "charge", 0))
    assert weight == "slow"
    assert "outcome is on its way" in text


def test_a_run_of_an_expired_owner_names_it() -> None:
    workers = [a_worker(DEAD, alive=False, expires=50), a_worker()]
    assert told(lease_owner=DEAD, workers=workers) == [
        ("slow", "owned by host-7 (pid 4711), whose lease expired 10 s ago; the next sweep frees the run")
    ]
    alone = told(lease_owner=DEAD, workers=workers[:1])
    assert {weight for weight, _ in alone} == {"blocked"}


def test_a_run_of_an_owner_that_has_vanished_names_its_id() -> None:
    [(_, text)] = told(lease_owner=DEAD)
    assert f"owned by worker {DEAD}, which does not exist any more" in text


def test_a_run_of_a_live_owner_has_no_problem_with_it() -> None:
    assert told(lease_owner=ALIVE, history=History().awaited(1, "go", 0), after=5) == [
        ("fine", "waits for signal go since 5 s (flows.py:31)")
    ]


def test_a_cancel_that_has_not_ended_the_run_is_mentioned() -> None:
    [(weight, text)] = told(cancel_requested_at=at(50))
    assert weight == "slow"
    assert text.startswith("a cancel was requested 10 s ago")


def test_a_cancelled_run_that_rolls_back_says_so() -> None:
    history = History().activity(1, "charge", 0).add(EventType.ACTIVITY_COMPLETED, 1, 1, payload="1")
    history.add(EventType.CANCEL_REQUESTED, 5).undo(2, "refund", 5, undoes=1)
    cancelled, refund = told(RunState.RUNNING, history, cancel_requested_at=at(5), tasks=[a_task(2)], after=9)
    assert cancelled[1].endswith("the run has not ended: it is rolling back (1 compensation so far)")
    assert refund == ("fine", "compensation refund (flows.py:20): attempt 1 of 5 waits in queue default since 9 s")
    history.add(EventType.ACTIVITY_COMPLETED, 6, 2, payload="1").timer(3, 6, 60)
    assert "its code went on after CancelledError" in told(history=history, cancel_requested_at=at(5))[0][1]


def test_problems_come_before_what_is_fine() -> None:
    history = History().awaited(1, "go", 0).activity(2, "charge", 0)
    weights = [weight for weight, _ in told(history=history, tasks=[a_task(2)], lease_owner=DEAD)]
    assert weights == ["blocked", "slow", "fine"]


def test_every_reason_that_needs_somebody_says_what_to_do() -> None:
    situations = [
        diagnose(a_run(state, stuck_reason="x"), events=events, tasks=tasks, workers=workers, now=at(600))
        for state in (RunState.PENDING, RunState.STUCK, RunState.SUSPENDED)
        for events in ([], History().timer(1, 0, 1).events, History().activity(1, "a", 0).events)
        for tasks in ([], [a_task(1)], [a_task(1, claimed_by=DEAD)])
        for workers in ([], [a_worker()])
    ]
    for findings in situations:
        blocked = [finding for finding in findings if finding.weight is Weight.BLOCKED]
        assert not blocked or any(finding.remedy for finding in blocked), findings


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(microseconds=500), "0 ms"),
        (timedelta(milliseconds=250), "250 ms"),
        (timedelta(milliseconds=999.9), "1 s"),
        (timedelta(seconds=1.234), "1.23 s"),
        (timedelta(seconds=59.9), "59.9 s"),
        (timedelta(seconds=59.99), "60 s"),
        (timedelta(seconds=90), "1 min 30 s"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=2, minutes=5, seconds=9), "2 h 5 min"),
        (timedelta(days=3, hours=4, minutes=5), "3 d 4 h"),
        (-timedelta(seconds=5), "-5 s"),
    ],
)
def test_durations_are_told_in_two_units_at_most(length: timedelta, words: str) -> None:
    assert say_duration(length) == words


# ------------------------------------------------------------------ external executors


def test_a_dispatched_task_names_the_queue_and_how_often_it_was_published() -> None:
    row = a_task(1, queue="mail", state="dispatched", executor="celery", dispatch_no=3, claimed_by=ALIVE)
    history = History().activity(1, "charge", 0)
    what = "activity charge (flows.py:20): attempt 1 of 5"
    assert told(history=history, tasks=[row], after=90) == [
        ("blocked", f"{what} waits in Celery queue mail since 1 min 30 s, published 3 times")
    ]
    [(weight, _)] = told(history=history, tasks=[row], after=3)
    assert weight == "fine"
    for worker in (ALIVE, DEAD, None):
        row = a_task(1, queue="mail", state="dispatched", executor="celery", dispatch_no=1, claimed_by=worker)
        [finding] = diagnose(
            a_run(RunState.SUSPENDED), events=history.events, tasks=[row], workers=[a_worker()], now=at(90)
        )
        assert finding.text.endswith("published 1 time")
        assert "is a Celery worker with `-Q mail` running" in (finding.remedy or "")


def test_a_task_that_was_not_published_blames_no_worker() -> None:
    row = a_task(1, queue="mail", executor="celery")
    [finding] = diagnose(
        a_run(RunState.SUSPENDED),
        events=History().activity(1, "charge", 0).events,
        tasks=[row],
        workers=[a_worker()],
        now=at(90),
    )
    assert finding.weight is Weight.BLOCKED
    assert "the broker is away" in (finding.remedy or "")


# ------------------------------------------------------------------ children

KIN = [f"0190a6f0-0000-7000-8000-0000000001{number:02}" for number in range(20)]
WAITS = Finding(weight=Weight.FINE, text="waits for signal paid since 30 s (flows.py:9)")
DUE = Finding(weight=Weight.BLOCKED, text="there is no live dispatcher", remedy="start one")


def a_child(state: RunState, *findings: Finding, number: int = 0, **fields: Any) -> Child:
    return Child(run=a_run(state, **{"id": KIN[number], "workflow": "order_flow", **fields}), findings=findings)


def test_a_wait_for_a_child_names_it_its_state_and_what_it_waits_for() -> None:
    history = History().child(1, "order_flow", 0, KIN[0], key="o1")
    who = f"waits for child order_flow {KIN[0]}, key 'o1' (flows.py:40) since 1 min"
    assert told(history=history, children={KIN[0]: a_child(RunState.SUSPENDED, WAITS)}) == [
        ("fine", f"{who}; it is suspended: waits for signal paid since 30 s (flows.py:9)")
    ]
    assert told(history=history) == [("fine", who)]


def test_a_child_that_needs_somebody_makes_its_parent_need_somebody() -> None:
    history = History().child(1, "order_flow", 0, KIN[0])
    children = {KIN[0]: a_child(RunState.PENDING, DUE, WAITS)}
    [finding] = diagnose(
        a_run(RunState.SUSPENDED),
        events=history.events,
        tasks=(),
        workers=[a_worker()],
        now=at(60),
        children=children,
    )
    assert (finding.weight, finding.remedy) == (Weight.BLOCKED, "start one")
    assert finding.text.endswith("it is pending: there is no live dispatcher (and 1 more)")


def test_a_stuck_child_that_nobody_looked_into_gives_its_reason() -> None:
    history = History().child(1, "order_flow", 0, KIN[0])
    [(weight, text)] = told(history=history, children={KIN[0]: a_child(RunState.STUCK, stuck_reason="drift")})
    assert (weight, text.endswith("it is stuck: drift")) == ("blocked", True)


def test_a_child_that_went_on_as_another_run_is_named_as_that_one_too() -> None:
    history = History().child(1, "order_flow", 0, KIN[0])
    [(_, text)] = told(history=history, children={KIN[0]: a_child(RunState.RUNNING, number=3)})
    assert text.endswith(f"it is running (as {KIN[3]})")


def test_a_child_that_was_asked_to_cancel_is_told_so() -> None:
    history = History().child(1, "order_flow", 0, KIN[0]).add(EventType.CHILD_CANCEL_REQUESTED, 5, 1)
    [(_, text)] = told(history=history, children={KIN[0]: a_child(RunState.RUNNING, WAITS)})
    assert "(flows.py:40), which it has asked to cancel, since 1 min; it is running: waits for" in text


def test_the_outcome_of_an_ended_child_travels() -> None:
    history = History().child(1, "order_flow", 0, KIN[0])
    [(weight, text)] = told(history=history, children={KIN[0]: a_child(RunState.FAILED)})
    assert (weight, text.endswith("is failed; its outcome is on its way into the run")) == ("slow", True)


def test_of_many_children_those_are_told_that_need_somebody_and_the_others_counted() -> None:
    history = History()
    for number, run in enumerate(KIN):
        history.child(number + 1, "order_flow", 0, run)
    children = {run: a_child(RunState.SUSPENDED, number=number) for number, run in enumerate(KIN)}
    assert told(history=history, children=children) == [
        ("fine", "waits for 20 children (order_flow): 20 suspended"),
    ]
    children[KIN[7]] = a_child(RunState.STUCK, number=7, stuck_reason="drift")
    first, rest = told(history=history, children=children)
    assert (first[0], KIN[7] in first[1]) == ("blocked", True)
    assert rest == ("fine", "waits for 19 more children (order_flow): 19 suspended")
    every = {run: a_child(RunState.STUCK, number=number) for number, run in enumerate(KIN)}
    findings = told(history=history, children=every)
    assert len(findings) == MOST_TOLD + 1
    assert findings[-1] == ("fine", "waits for 15 more children (order_flow): 15 stuck")


def test_numbers_of_things_agree_with_them() -> None:
    assert [say_count(1, "child", "children"), say_count(1200, "child", "children")] == ["1 child", "1,200 children"]
