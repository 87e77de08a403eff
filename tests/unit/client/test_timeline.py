"""A history reads as a timeline: what was asked for, from where, and what came of it."""

from datetime import timedelta

import msgspec

from continuum.client.timeline import StepKind, StepState, ending_of, is_open, timeline
from continuum.model.events import COMMANDS, EventType
from continuum.model.questions import write_answer, write_question
from continuum.model.runs import Started
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


def test_what_is_open_when_a_run_ends_is_left_open() -> None:
    history = History().activity(1, "charge", 1).add(EventType.RUN_FAILED, 2, None, None, BOOM.encode())
    assert states(history) == {1: StepState.LEFT}
    [step] = timeline(history.events)
    assert step.took == timedelta(seconds=1)  # it does not go on counting


# ------------------------------------------------------------------ composition

CHILD = "0190a6f0-0000-7000-8000-0000000000c1"


def test_a_child_is_told_with_its_id_its_key_and_its_result() -> None:
    history = History().child(1, "resize_flow", 1, CHILD, key="page-7")
    [step] = timeline(history.events)
    assert (step.kind, step.name, step.run, step.key) == (StepKind.CHILD, "resize_flow", CHILD, "page-7")
    assert is_open(step)
    [step] = timeline(history.add(EventType.CHILD_COMPLETED, 4, 1, None, '"done"').events)
    assert (step.state, step.outcome, step.took) == (StepState.DONE, '"done"', timedelta(seconds=3))


def test_a_failed_child_says_why_and_a_terminated_one_by_whom() -> None:
    for kind, state in ((EventType.CHILD_FAILED, StepState.FAILED), (EventType.CHILD_CANCELLED, StepState.CANCELLED)):
        [step] = timeline(History().child(1, "flow", 1, CHILD).add(kind, 2, 1, None, BOOM.encode()).events)
        assert (step.state, step.failure) == (state, BOOM)
    [step] = timeline(History().child(1, "flow", 1, CHILD).add(EventType.CHILD_CANCELLED, 2, 1).events)
    assert (step.state, step.failure) == (StepState.CANCELLED, None)


def test_a_child_that_was_asked_to_cancel_is_waited_for_until_it_says_so() -> None:
    history = History().child(1, "flow", 1, CHILD).add(EventType.CHILD_CANCEL_REQUESTED, 2, 1, "flow")
    [step] = timeline(history.events)
    assert step.state is StepState.CANCELLING
    assert is_open(step)
    assert states(history.add(EventType.CHILD_CANCELLED, 3, 1)) == {1: StepState.CANCELLED}


def test_a_child_that_completed_although_it_was_asked_to_cancel_is_done() -> None:
    history = History().child(1, "flow", 1, CHILD).add(EventType.CHILD_CANCEL_REQUESTED, 2, 1, "flow")
    assert states(history.add(EventType.CHILD_COMPLETED, 3, 1, None, "1")) == {1: StepState.DONE}


def test_a_compensation_and_what_it_undoes_know_each_other() -> None:
    history = History().activity(1, "charge", 1).add(EventType.ACTIVITY_COMPLETED, 2, 1, "charge", "7")
    charge, refund = timeline(history.undo(2, "refund", 3, undoes=1).events, [a_task(2, claimed_by="w")])
    assert (charge.state, charge.undone_by) == (StepState.DONE, 2)
    assert (refund.kind, refund.undoes, refund.state) == (StepKind.COMPENSATION, 1, StepState.RUNNING)
    failed = history.add(EventType.ACTIVITY_FAILED, 4, 2, None, BOOM.encode())
    assert timeline(failed.events)[1].failure == BOOM


def test_a_compensation_that_was_added_by_itself_undoes_no_command() -> None:
    [step] = timeline(History().undo(1, "tell", 1, undoes=None).events)
    assert (step.undoes, step.state) == (None, StepState.WAITING)


def test_what_a_run_says_to_others_is_done_when_it_is_said() -> None:
    history = History().add(EventType.SIGNAL_SENT, 1, 1, "stop", f'{{"to":"{CHILD}","value":[1, 2]}}')
    history.add(EventType.ATTRIBUTES_SET, 2, 2, None, '{"paid":true}')
    history.add(EventType.VALUE_PUBLISHED, 3, 3, "step", '"shipping"')
    sent, attributes, published = timeline(history.events)
    assert (sent.kind, sent.name, sent.run, sent.outcome) == (StepKind.SENT, "stop", CHILD, "[1, 2]")
    assert (attributes.kind, attributes.name, attributes.outcome) == (
        StepKind.ATTRIBUTES,
        "attributes",
        '{"paid":true}',
    )
    assert (published.kind, published.name, published.outcome) == (StepKind.PUBLISHED, "step", '"shipping"')
    assert {step.state for step in (sent, attributes, published)} == {StepState.DONE}


def test_a_question_is_told_by_its_value_and_so_is_the_answer() -> None:
    question = write_question("q1", "[3]")
    history = History().awaited(1, "quote", 1).add(EventType.SIGNAL_RECEIVED, 2, None, "quote", question)
    asked, answered = timeline(history.add(EventType.SIGNAL_ANSWERED, 3, 2, "quote", write_answer("q1", "21")).events)
    assert (asked.state, asked.outcome) == (StepState.DONE, "[3]")
    assert (answered.kind, answered.name, answered.state, answered.outcome) == (
        StepKind.ANSWERED,
        "quote",
        StepState.DONE,
        "21",
    )


def test_what_was_redacted_is_told_as_it_is_shown() -> None:
    hidden = ('"***"', '{"$ask":"***"}', '{"omitted":"payload_too_large","bytes":7}')
    for payload in hidden:
        history = History().awaited(1, "quote", 1).add(EventType.SIGNAL_RECEIVED, 2, None, "quote", payload)
        for number, kind in enumerate((EventType.SIGNAL_ANSWERED, EventType.SIGNAL_SENT, EventType.CHILD_STARTED), 2):
            history.add(kind, 3, number, "quote", payload)
        asked, *others = timeline(history.events)
        assert (asked.state, asked.outcome) == (StepState.DONE, payload)
        assert {step.run for step in others} == {None}


def test_every_command_has_its_place_in_a_timeline() -> None:
    history = History()
    for number, kind in enumerate(sorted(COMMANDS)):
        history.add(kind, 1, number, "name", "{}" if kind != EventType.TIMER_STARTED else "1000")
    assert len(timeline(history.events)) == len(COMMANDS)


def test_a_value_of_any_shape_was_sent() -> None:
    for value in ("null", "7", '{"id": 7, "key": null, "undoes": "x"}'):
        history = History().add(EventType.SIGNAL_SENT, 1, 1, "stop", f'{{"to":"{CHILD}","value":{value}}}')
        assert timeline(history.events)[0].outcome == value


def test_a_signal_of_the_run_before_is_taken_by_the_first_wait() -> None:
    started = Started(input=msgspec.Raw(b"[]"), seed="00", signals=(("go", msgspec.Raw(b'"old"')),))
    history = History(started.encode()).awaited(1, "go", 1).awaited(2, "go", 1)
    first, second = timeline(history.events)
    assert (first.state, first.outcome) == (StepState.DONE, '"old"')
    assert is_open(second)


def test_a_run_that_goes_on_as_another_one_ends_with_its_input() -> None:
    history = History().activity(1, "charge", 1).child(2, "flow", 1, CHILD)
    history.add(EventType.RUN_CONTINUED, 5, None, None, "[[8],{}]")
    ending = ending_of(history.events)
    assert ending is not None
    assert (ending.at, ending.continued_with, ending.result) == (at(5), "[[8],{}]", None)
    assert set(states(history).values()) == {StepState.LEFT}
