"""Attributes and published values are commands; attributes ride in the decision, merged."""

import json

import pytest

from continuum.errors import CodecError, NotInWorkflow, ReplayDriftError, ReplayError
from continuum.model.attributes import MAX_ATTRIBUTES
from continuum.model.decisions import Decision
from continuum.replay.effects.attributes import MAX_PUBLISHED, publish, set_attributes
from continuum.replay.effects.values import side_effect
from tests.replay.lab import Lab, act, replay


def test_attributes_of_a_turn_are_merged_key_by_key_and_the_last_one_counts():
    async def flow():
        set_attributes({"a": 1, "b": {"x": [1.0, None]}})
        set_attributes({"a": "two", "c": True})
        await act("a")
        set_attributes({"b": 3})
        await act("b")

    lab = Lab(flow).begin()
    assert lab.commands[:2] == [
        ("attributes_set", None, '{"a":1,"b":{"x":[1.0,null]}}'),
        ("attributes_set", None, '{"a":"two","c":true}'),
    ]
    assert lab.decisions[-1].attributes == '{"a":"two","b":{"x":[1.0,null]},"c":true}'
    assert lab.complete(2).attributes == '{"b":3}'
    lab.replays()
    resumed = Lab(flow, history=lab.history)
    assert resumed.complete(4).attributes is None
    lab.close()
    resumed.close()


def test_attributes_are_set_also_by_a_run_that_ends():
    async def flow():
        set_attributes({"a": 1})
        raise ValueError

    lab = Lab(flow).begin()
    assert lab.decisions[-1].attributes == '{"a":1}'
    lab.replays()


def test_setting_nothing_changes_nothing():
    async def flow():
        set_attributes({})
        await act("a")

    lab = Lab(flow).begin()
    assert not lab.decisions[-1].reaches_out
    lab.replays()
    lab.close()


@pytest.mark.parametrize(
    ("attributes", "path"),
    [(None, "attributes"), ([1], "attributes"), ({"a": {"b": object()}}, "attributes.a.b"), ({1: 2}, "attributes"),
     ({"a": "x" * MAX_ATTRIBUTES}, "attributes"), ({"a": float("nan")}, "attributes.a")],
    ids=["none", "list", "object", "key", "large", "nan"],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_and_not_recorded(attributes, path):
    async def flow():
        try:
            set_attributes(attributes)
        except CodecError as error:
            return error.path

    lab = Lab(flow).begin()
    assert lab.result == path
    assert lab.commands == []


def test_a_published_value_is_a_command():
    async def flow():
        publish("progress", {"done": 3, "of": (1, 2)})
        publish("progress", None)
        await act("a")

    lab = Lab(flow).begin()
    assert [(kind, name) for kind, name, _ in lab.commands] == [
        ("value_published", "progress"),
        ("value_published", "progress"),
        ("activity_scheduled", "a"),
    ]
    assert json.loads(lab.commands[1][2]) is None
    assert not lab.decisions[-1].reaches_out
    lab.replays()
    lab.close()


def test_what_cannot_be_published_is_refused_and_not_recorded():
    async def flow():
        seen = []
        for name, value in (("", 1), ("x" * 201, 1), ("v", object()), ("v", "x" * MAX_PUBLISHED)):
            try:
                publish(name, value)
            except (TypeError, ValueError, CodecError) as error:
                seen.append(type(error).__name__)
        return seen

    lab = Lab(flow).begin()
    assert lab.result == ["TypeError", "ValueError", "CodecError", "CodecError"]
    assert lab.commands == []
    lab.replays()


@pytest.mark.parametrize("effect", [lambda: set_attributes({"a": 1}), lambda: publish("p", 1)])
def test_they_are_for_workflow_code_only(effect):
    with pytest.raises(NotInWorkflow):
        effect()

    async def flow():
        def refused():
            try:
                effect()
            except ReplayError as error:
                return type(error).__name__

        return side_effect(refused)

    lab = Lab(flow).begin()
    assert lab.result == "ReplayError"
    assert not lab.decisions[-1].reaches_out


def asks(effect):
    async def flow():
        effect()
        await act("a")

    return flow


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (lambda: set_attributes({"a": 1}), lambda: set_attributes({"a": 2}), r'has attributes \{"a":1\}'),
        (lambda: set_attributes({"a": 1}), lambda: publish("a", 1), "value 'a' published as 1"),
        (lambda: publish("a", 1), lambda: publish("b", 1), "value 'b' published as 1"),
        (lambda: publish("a", 1), lambda: publish("a", 2), "value 'a' published as 2"),
        (lambda: publish("a", 1), lambda: None, "activity a"),
    ],
)
def test_asking_for_something_else_is_drift(before, after, words):
    lab = Lab(asks(before)).begin()
    with pytest.raises(ReplayDriftError, match=words):
        replay(asks(after), lab.history)
    lab.close()


def test_the_order_of_keys_is_no_drift():
    lab = Lab(asks(lambda: set_attributes({"a": 1, "b": 2}))).begin()
    again = replay(asks(lambda: set_attributes({"b": 2, "a": 1})), lab.history)
    assert isinstance(again, Decision)
    assert again.events == []
    lab.close()
