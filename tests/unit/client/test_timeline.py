"""A history reads as a timeline: what was asked for, from where, and what came of it."""

from datetime import timedelta

from continuum.client.timeline import StepKind, StepState, is_open, timeline
from continuum.model.events import EventType
from tests.unit.client.histories import BOOM, History, a_task, at


def states(history: History, *tasks: object) -> dict[int, StepState]:
    return {step.command: step.state for step in timeline(history.events, tasks)}  # type: ignore[arg-type]


def test_an_activity_has_a_request_an_outcome_and_a_place() -> None:
    history = History().activity(1, "charge", 1.0).add(EventType.ACTIVITY_COMPLETED, 3.5, 1, "charge", '"paid"')
    [step] = timeline(history.events)
    assert (step.kind, step.name, step.state) == (StepKind.ACTIVITY, "charge", StepState.DONE)
    assert step.took == timedelta(seconds=2.5)
    assert step.requested_at == at(1.0)
    assert step.location == "flows.py:20"
    assert step.outcome == '"paid"'


def test_a_failed_activity_says_why() -> None:
    history = History().activity(1, "charge", 1).add(EventType.ACTIVITY_FAILED, 2, 1, "charge", BOOM.encode())
    [step] = timeline(history.events)
    assert step.state is StepState.FAILED
    assert step.failure == BOOM


def test_a_pending_activity_is_what_its_task_row_says() -> None:
    history = History()
    for command in (1, 2, 3, 4):
        history.activity(command, "charge", 1)
    rows = (a_task(1), a_task(2, claimed_by="w"), a_task(3, attempt=2))
    assert states(history, *rows) == {
        1: StepState.WAITING,
        2: StepState.RUNNING,
        3: StepState.RETRYING,
        4: StepState.WAITING,
    }


def test_a_timer_knows_when_it_is_due() -> None:
    [step] = timeline(History().timer(1, 1, 60).events)
    assert step.due_at == at(61)
    assert is_open(step)


def test_signals_go_to_their_waiters_in_order() -> None:
    history = History().awaited(1, "go", 1).awaited(2, "go", 2).awaited(3, "stop", 3)
    history.add(EventType.SIGNAL_RECEIVED, 4, None, "go", '"first"')
    steps = timeline(history.events)
    assert [step.state for step in steps] == [StepState.DONE, StepState.WAITING, StepState.WAITING]
    assert steps[0].outcome == '"first"'


def test_a_signal_that_came_early_is_taken_by_the_next_wait() -> None:
    history = History().add(EventType.SIGNAL_RECEIVED, 1, None, "go", '"early"').activity(1, "charge", 2)
    assert states(history) == {1: StepState.WAITING}
    history.awaited(2, "go", 3, limit=60).add(EventType.TIMER_CANCELLED, 3, 3)
    steps = timeline(history.events)
    assert [step.state for step in steps] == [StepState.WAITING, StepState.DONE, StepState.CANCELLED]
    assert (steps[1].took, steps[1].outcome) == (timedelta(0), '"early"')


def test_a_wait_whose_timeout_fired_has_timed_out_and_takes_no_later_signal() -> None:
    history = History().awaited(1, "go", 1, limit=60)
    assert timeline(history.events)[0].limit == 2
    history.add(EventType.TIMER_FIRED, 61, 2).awaited(3, "go", 62)
    history.add(EventType.SIGNAL_RECEIVED, 63, None, "go", "1")
    assert states(history) == {1: StepState.TIMED_OUT, 2: StepState.DONE, 3: StepState.DONE}


def test_a_signal_in_time_leaves_a_cancelled_timer() -> None:
    history = History().awaited(1, "go", 1, limit=60)
    history.add(EventType.SIGNAL_RECEIVED, 5, None, "go", "1").add(EventType.TIMER_CANCELLED, 5, 2)
    assert states(history) == {1: StepState.DONE, 2: StepState.CANCELLED}


def test_a_timer_of_another_line_bounds_no_wait() -> None:
    history = History().awaited(1, "go", 1).timer(2, 1, 60, location="flows.py:99")
    assert timeline(history.events)[0].limit is None


def test_values_and_patches_are_done_when_they_are_asked_for() -> None:
    history = History().add(EventType.VALUE_RECORDED, 1, 1, "now", '"x"').add(EventType.PATCH_MARKED, 1, 2, "v2")
    assert states(history) == {1: StepState.DONE, 2: StepState.DONE}


def test_what_is_open_when_a_run_ends_was_abandoned() -> None:
    history = History().activity(1, "charge", 1).add(EventType.RUN_FAILED, 2, None, None, BOOM.encode())
    assert states(history) == {1: StepState.ABANDONED}
    [step] = timeline(history.events)
    assert step.took == timedelta(seconds=1)  # it does not go on counting
