"""What is left of payloads when a person looks: capped without being decoded, redacted, or left out; still readable."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from continuum import (
    ActivityFailed,
    ChildFailed,
    Continuum,
    Retry,
    activity,
    compensate,
    publish,
    set_attributes,
    sleep,
    start_child,
    wait_signal,
    workflow,
)
from continuum.client.showing import Screen
from continuum.client.timeline import ending_of, timeline
from continuum.errors import ConfigError
from continuum.journal.memory.journal import MemoryJournal
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure
from continuum.model.questions import read_answer, read_question, write_answer, write_question
from continuum.model.runs import RunState, Started

SECRET = "s3cret"
WAIT = 20.0


@activity(name="showing.pay")
def pay(card: str) -> str:
    return card


@activity(name="showing.undo")
def undo(card: str) -> None: ...


@activity(name="showing.fail", retry=Retry(max_attempts=1))
def fail(card: str) -> None:
    raise ValueError(card) from KeyError(card)


@workflow(name="showing.child")
async def child(card: str) -> str:
    if card.startswith("!"):
        raise ValueError(card)
    return card


@workflow(name="showing.all")
async def everything(card: str) -> str:
    """Write every kind of payload into the history."""
    set_attributes({"card": card})
    publish("card", card)
    await sleep(timedelta(milliseconds=1))
    await wait_signal("card")
    call = pay(card).compensate(undo, card)
    await call
    await compensate(call)
    await start_child(child, card)
    below = start_child(child, f"!{card}")
    try:
        await below
    except ChildFailed:
        pass
    try:
        await fail(card)
    except ActivityFailed as error:
        raise RuntimeError(card) from error
    return card


def hide(kind: str, name: str | None, value: Any) -> Any:
    return json.loads(json.dumps(value).replace(SECRET, "***"))


@pytest.fixture(scope="module")
def journal() -> Iterator[MemoryJournal]:
    made = MemoryJournal()
    yield made
    made.close()


@pytest.fixture(scope="module")
def run_id(journal: MemoryJournal) -> str:
    with Continuum(journal=journal, concurrency=2) as continuum, continuum.running():
        handle = continuum.start(everything, SECRET, attributes={"token": SECRET})
        handle.signal("card", SECRET)
        with pytest.raises(Exception, match=SECRET):
            handle.result(timeout=WAIT)
        return handle.id


def history(journal: MemoryJournal, run_id: str, redact: Any = None, **options: Any) -> list[Event]:
    with Continuum(journal=journal, redact=redact) as continuum:
        events = continuum.history(run_id, **options)
        assert continuum.handle(run_id).history(**options) == events
        return events


def read(events: list[Event]) -> list[Any]:
    """Return what explains a run: it has to be able to read whatever is shown."""
    return [timeline(events), ending_of(events), msgspec.json.encode(timeline(events))]


def test_without_a_redactor_or_a_limit_all_is_as_it_is_stored(journal: MemoryJournal, run_id: str) -> None:
    assert history(journal, run_id) == journal.runs.history(run_id)  # type: ignore[arg-type]


def test_a_redactor_hides_what_it_is_told_to_wherever_it_is(journal: MemoryJournal, run_id: str) -> None:
    whole, shown = history(journal, run_id), history(journal, run_id, hide)
    kinds = {event.type for event in whole if SECRET in (event.payload or "")}
    assert len(kinds) >= 12, kinds
    assert [event for event in shown if SECRET in (event.payload or "")] == []
    assert [(event.seq, event.type, event.name, event.command) for event in shown] == [
        (event.seq, event.type, event.name, event.command) for event in whole
    ]
    read(shown)
    ending = ending_of(shown)
    assert ending is not None
    assert ending.failure is not None
    assert (ending.failure.type_name, ending.failure.message) == ("RuntimeError", "***")


def test_a_redactor_is_told_what_it_looks_at(journal: MemoryJournal, run_id: str) -> None:
    seen: list[tuple[str, str | None, Any]] = []

    def note(kind: str, name: str | None, value: Any) -> Any:
        seen.append((kind, name, value))
        return value

    assert history(journal, run_id, note)[1:] == history(journal, run_id)[1:]
    assert ("run_started", None, [SECRET]) in seen
    assert ("signal_received", "card", SECRET) in seen
    assert ("activity_scheduled", "showing.pay", [SECRET]) in seen
    assert ("run_failed", "RuntimeError", SECRET) in seen


@pytest.mark.parametrize("answer", [None, "***", 5, [], {}, {"a": [1]}])
def test_whatever_a_redactor_returns_the_history_can_be_read(journal: MemoryJournal, run_id: str, answer: Any) -> None:
    shown = history(journal, run_id, lambda *_: answer)
    read(shown)
    assert all(SECRET not in (event.payload or "") for event in shown)


@pytest.mark.parametrize("wrong", [lambda *_: 1 / 0, lambda *_: object(), lambda: None])
def test_a_redactor_that_fails_shows_nothing(journal: MemoryJournal, run_id: str, wrong: Any) -> None:
    shown = history(journal, run_id, wrong)
    read(shown)
    assert all(SECRET not in (event.payload or "") for event in shown)
    assert any(event.payload == '{"omitted":"redaction_failed"}' for event in shown)


@pytest.mark.parametrize("limit", [0, 1, 5, 20, 10**6])
def test_what_is_too_large_is_measured_and_not_decoded(journal: MemoryJournal, run_id: str, limit: int) -> None:
    whole, shown = history(journal, run_id), history(journal, run_id, max_payload_bytes=limit)
    read(shown)
    if limit == 10**6:
        assert [event.payload for event in shown[1:]] == [event.payload for event in whole[1:]]
    if limit < 5:
        assert all(SECRET not in (event.payload or "") for event in shown)
        sizes = {event.payload for event in shown if event.type == EventType.SIGNAL_RECEIVED}
        assert sizes == {'{"omitted":"payload_too_large","bytes":8}'}
        assert Started.parse(shown[0].payload or "").input == msgspec.Raw(b'{"omitted":"payload_too_large","bytes":10}')


def test_a_broken_payload_beyond_the_limit_is_never_looked_at() -> None:
    asked: list[Any] = []
    screen = Screen(lambda *given: asked.append(given), max_bytes=10)
    event = Event(1, EventType.VALUE_RECORDED, 0, "x", "[" * 1000, 0)
    assert screen.event(event).payload == '{"omitted":"payload_too_large","bytes":1000}'
    failure = Event(1, EventType.RUN_FAILED, None, None, "{" * 1000, 0)
    assert "1,000 bytes" in Failure.parse(screen.event(failure).payload or "").message
    assert asked == []


def test_sizes_are_in_bytes() -> None:
    event = Event(1, EventType.SIGNAL_RECEIVED, None, "x", '"ééé"', 0)
    assert Screen(None, max_bytes=8).event(event) == event
    assert Screen(None, max_bytes=7).event(event).payload == '{"omitted":"payload_too_large","bytes":8}'


def test_payloads_are_left_out(journal: MemoryJournal, run_id: str) -> None:
    shown = history(journal, run_id, payloads=False)
    assert {event.payload for event in shown} == {None}
    read(shown)


@pytest.mark.parametrize(
    "wrong", [{"payloads": 1}, {"payloads": None}, {"max_payload_bytes": -1}, {"max_payload_bytes": "5"}]
)
def test_wrong_options_are_refused(journal: MemoryJournal, run_id: str, wrong: dict[str, Any]) -> None:
    [name] = wrong
    with Continuum(journal=journal) as continuum, pytest.raises(ConfigError, match=name):
        continuum.history(run_id, **wrong)


def test_a_redactor_is_a_function() -> None:
    with pytest.raises(ConfigError, match="redact"):
        Continuum("memory://", redact="all")  # type: ignore[arg-type]


def test_attributes_are_redacted_where_runs_are_shown(journal: MemoryJournal, run_id: str) -> None:
    [run] = Continuum(journal=journal).search({"id": run_id}).runs
    assert run.state is RunState.FAILED
    assert Screen(hide).run(run).attributes == {"card": "***", "token": "***"}
    assert Screen(None).run(run) is run
    assert Screen(lambda *_: "no").run(run).attributes == {"omitted": "no"}


def test_programs_get_results_and_progress_as_they_are(journal: MemoryJournal, run_id: str) -> None:
    with Continuum(journal=journal, redact=hide) as continuum:
        assert continuum.progress(run_id) == {"card": SECRET}


def test_a_redactor_sees_what_is_asked_and_answered_without_our_wrapping() -> None:
    seen: list[Any] = []

    def note(kind: str, name: str | None, value: Any) -> Any:
        seen.append((kind, name, value))
        return hide(kind, name, value)

    screen = Screen(note)
    asked = Event(3, EventType.SIGNAL_RECEIVED, None, "price", write_question("q-1", '{"card":"s3cret"}'), 0)
    answered = Event(4, EventType.SIGNAL_ANSWERED, 1, "price", write_answer("q-1", '"s3cret"'), 0)
    assert read_question(screen.event(asked).payload or "") == ("q-1", '{"card":"***"}')
    assert read_answer(screen.event(answered).payload or "", "q-1") == '"***"'
    assert seen == [("signal_received", "price", {"card": SECRET}), ("signal_answered", "price", SECRET)]


def test_a_question_that_a_run_inherits_is_seen_without_our_wrapping_too() -> None:
    asked = write_question("q-1", '"s3cret"')
    payload = (
        f'{{"input":[],"seed":"00","loop_version":1,"codec_version":1,"signals":[["price",{asked}],["b","s3cret"]]}}'
    )
    shown = Screen(hide).event(Event(1, EventType.RUN_STARTED, None, None, payload, 0)).payload or ""
    assert json.loads(shown)["signals"] == [["price", {"$ask": ["q-1", "***"]}], ["b", "***"]]


def test_large_questions_and_answers_are_measured_inside_of_our_wrapping() -> None:
    screen = Screen(None, max_bytes=5)
    asked = Event(3, EventType.SIGNAL_RECEIVED, None, "price", write_question("q-1", '"s3cret"'), 0)
    assert read_question(screen.event(asked).payload or "")[1] == '{"omitted":"payload_too_large","bytes":8}'
    broken = Event(3, EventType.SIGNAL_RECEIVED, None, "price", '{"$ask":5}', 0)
    assert screen.event(broken).payload == '{"omitted":"redaction_failed"}'


def test_why_a_run_is_stuck_may_quote_a_payload(journal: MemoryJournal, run_id: str) -> None:
    run = replace(Continuum(journal=journal).get(run_id), stuck_reason=f"CodecError: {SECRET} is no card")
    seen: list[Any] = []
    assert Screen(hide).run(run).stuck_reason == "CodecError: *** is no card"
    Screen(lambda *given: seen.append(given)).run(run)
    assert ("stuck_reason", "showing.all", run.stuck_reason) in seen
    assert Screen(None).run(run) is run
