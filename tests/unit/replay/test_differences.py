"""The difference of two payloads, place by place; and what a drift says with it."""

import json
import pickle

import pytest

from continuum.errors import ReplayDriftError
from continuum.model.events import Event, EventType
from continuum.model.names import is_storable
from continuum.replay.differences import compare_payloads
from continuum.replay.drift import Asked, command_drift, drift, excess_drift, missing_drift


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("1", "1", []),
        ("[1,2]", "[1, 2]", []),
        ("1", "2", ["1 → 2"]),
        ("1", "1.0", ["1 → 1.0"]),
        ("true", "1", ["true → 1"]),
        ("null", '"null"', ['null → "null"']),
        (None, "1", ["(nothing) → 1"]),
        ("1", None, ["1 → (nothing)"]),
        (None, None, []),
        ("[1,2,3]", "[1,9]", ["[1]: 2 → 9", "[2]: 3 → (nothing)"]),
        ('{"a":{"b":[1]}}', '{"a":{"b":[2]},"c":3}', ["a.b[0]: 1 → 2", "c: (nothing) → 3"]),
        ("[1]", '{"a":1}', ['[1] → {"a":1}']),
        ('{"a":null}', "{}", ["a: null → (nothing)"]),
    ],
)
def test_each_place_that_differs_has_a_line(old: str | None, new: str | None, lines: list[str]) -> None:
    assert compare_payloads(old, new).splitlines() == lines


def test_the_root_has_a_name_if_it_is_given_one() -> None:
    assert compare_payloads("[1]", "[2]", what="arguments") == "arguments[0]: 1 → 2"
    assert compare_payloads("1", "2", what="result") == "result: 1 → 2"


def test_it_is_short_however_much_differs() -> None:
    many = compare_payloads(json.dumps(list(range(100_000))), json.dumps(list(range(1, 100_001))))
    assert len(many.splitlines()) == 10
    assert many.endswith("… and more")
    large = compare_payloads(json.dumps("x" * 100_000), json.dumps("y" * 100_000))
    assert len(large) < 200
    key = "k" * 10_000
    assert len(compare_payloads(json.dumps({key: 1}), json.dumps({key: 2}))) < 200


def test_what_cannot_be_read_has_no_places() -> None:
    assert compare_payloads("{", "1") == ""
    assert compare_payloads("[" * 10_000, "[" * 10_000 + "1") == ""


def test_nothing_in_it_commands_a_terminal_or_cannot_be_stored() -> None:
    text = compare_payloads(json.dumps({"a\u0000\u001b": "b\u0000\n"}), json.dumps({"a\u0000\u001b": "\u001b[31m"}))
    assert text.isprintable()
    assert is_storable(text)


# -- the error


def command(number: int, kind: EventType, name: str | None, payload: str | None) -> Event:
    return Event(number + 3, kind, number, name, payload, 0, f"flows.py:{number + 10}")


def test_all_that_is_known_stands_in_fields_and_in_the_message() -> None:
    commands = [command(0, EventType.ACTIVITY_SCHEDULED, "charge", '["o1",10]')]
    error = command_drift(0, commands, Asked(EventType.ACTIVITY_SCHEDULED, "charge", '["o1",11]', "flows.py:12"))
    assert (error.command, error.location, error.recorded_location) == (0, "flows.py:12", "flows.py:10")
    assert error.recorded == 'activity charge with ["o1",10]'
    assert error.requested == 'activity charge with ["o1",11]'
    assert error.difference == "arguments[1]: 10 → 11"
    first, difference, advice = str(error).splitlines()
    assert first == (
        'command 0: the history has activity charge with ["o1",10] (recorded at flows.py:10);'
        ' the code asks for activity charge with ["o1",11] at flows.py:12.'
    )
    assert difference == "  arguments[1]: 10 → 11"
    assert advice == error.advice
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_fields_that_an_older_error_lacks_are_empty() -> None:
    error = ReplayDriftError("old", command=1, recorded="a", requested="b", location="")
    assert (error.recorded_location, error.difference, error.advice) == ("", "", "")


def test_however_large_the_payloads_the_message_fits_a_row_and_a_log_line() -> None:
    one, other = (json.dumps([letter * 100_000 for _ in range(50)]) for letter in "xy")
    name = "n" * 500
    commands = [command(0, EventType.ACTIVITY_SCHEDULED, name, one)]
    error = command_drift(0, commands, Asked(EventType.ACTIVITY_SCHEDULED, name, other, "flows.py:1"))
    assert len(str(error)) <= 4_000
    assert str(error).endswith("or declare it as a new version.")
    assert len(error.difference.splitlines()) == 10


def test_a_command_without_a_name_needs_none() -> None:
    commands = [command(0, EventType.TIMER_STARTED, None, "1000000"), command(1, EventType.TIMER_STARTED, None, "2")]
    error = command_drift(0, commands, Asked(EventType.TIMER_STARTED, None, "86400000000"))
    assert error.difference == "1 s → 1 d"
    assert "Its duration was changed (a timer keeps the one it was started with), or is computed" in error.advice
    odd = command_drift(
        0, [command(0, EventType.TIMER_STARTED, None, "soon")], Asked(EventType.TIMER_STARTED, None, "1")
    )
    assert odd.difference == "some time → 1e-06 s"


def test_calls_that_changed_places_are_told_from_changed_arguments() -> None:
    kind = EventType.ACTIVITY_SCHEDULED
    commands = [command(number, kind, "charge", f"[{number}]") for number in range(4)]
    error = command_drift(0, commands, Asked(kind, "charge", "[2]"))
    assert error.advice.startswith("The code asks now for what the history has as command 2: the order was changed")
    assert command_drift(0, commands, Asked(kind, "charge", "[9]")).advice.startswith("Its arguments were changed")
    # Of several of one name the one to the letter; if there is none, the next.
    other = [command(0, kind, "ship", "[0]"), *commands[1:]]
    for payload, number in (("[3]", 3), ("[9]", 1)):
        assert f"has as command {number}: " in command_drift(0, other, Asked(kind, "charge", payload)).advice


def test_the_value_of_a_side_effect_is_not_told() -> None:
    commands = [command(0, EventType.VALUE_RECORDED, "secret", '"hidden"')]
    for error in (
        command_drift(0, commands, Asked(EventType.VALUE_RECORDED, "other", None)),
        missing_drift(0, commands),
    ):
        assert "side effect secret" in str(error)
        assert "hidden" not in str(error)


def test_more_than_was_recorded_says_what_came_instead() -> None:
    asked = Asked(EventType.ACTIVITY_SCHEDULED, "ship", "[]")
    end = Event(9, EventType.RUN_COMPLETED, None, None, "1", 0)
    assert "the end of the run (run_completed)" in excess_drift(3, asked, terminal=end, completion=None).recorded
    fired = Event(7, EventType.TIMER_FIRED, 2, None, None, 0)
    error = excess_drift(3, asked, terminal=None, completion=fired)
    assert error.recorded == "no further command, but timer_fired at seq 7"
    assert "it was inserted" in error.advice


def test_a_drift_of_two_texts_is_one_line() -> None:
    assert str(drift(1, "this", "that")).startswith("command 1: the history has this; the code asks for that. Deploy")
