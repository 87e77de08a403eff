"""Here live the promises of the tagged form: live equals replay, and refusals that name their place."""

import asyncio
import functools
import math
import socket
import sys
import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.errors import CodecError
from continuum.model.codec import (
    codec_for,
    decode,
    decode_arguments,
    encode,
    encode_arguments,
)
from tests.support.payloads import (
    ORDER,
    PARIS,
    Address,
    Bag,
    Box,
    Color,
    Customer,
    Item,
    Level,
    Mood,
    Node,
    Normalised,
    Open,
    Order,
    Pair,
    Planet,
    Point,
    Renamed,
    Rights,
    Roots,
    Row,
    Seeded,
    alike,
    texts,
    values,
)


@given(values)
@settings(max_examples=400, deadline=None)
def test_any_value_comes_back_as_it_was(value):
    payload = encode(value)
    again = decode(payload)
    assert alike(value, again)
    assert encode(again) == payload
    msgspec.json.decode(payload)
    assert payload == msgspec.json.encode(msgspec.json.decode(payload)).decode() or "e" in payload


@given(st.lists(values, max_size=3), st.dictionaries(texts, values, max_size=3))
def test_any_call_comes_back_as_it_was(args, kwargs):
    payload = encode_arguments(tuple(args), kwargs)
    assert alike((tuple(args), kwargs), decode_arguments(payload, None, None))


@pytest.mark.parametrize(
    "value",
    [
        (1, [2, (3,)]),
        {1: "a", "1": "b", (1, 2): "c", None: "d"},
        {"b": 1, "a": 2},
        {"$decimal": "1.5"},
        {"$wrapped": ["zlib", "x"]},
        {"a": 1, "$b": 2},
        {"$value": {"$value": 1}},
        {"": {"$": 1}},
        2**63,
        -(2**63) - 1,
        10**30,
        10**700,
        10**5000,
        -(10**5000),
        -0.0,
        1.0,
        5e-324,
        1e308,
        Decimal("1.50"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        Decimal("1E+1000"),
        datetime(2024, 7, 1, 12, 30, 0, 5, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1, seconds=3))),
        datetime.max.replace(tzinfo=UTC),
        time(1, 2, 3, 4, tzinfo=UTC),
        timedelta(days=-1, microseconds=3),
        timedelta.max,
        timedelta.min,
        b"\x00\xff",
        bytearray(b"ab"),
        {1, 1.5, "a", None, (1, 2), frozenset({3})},
        Color.BLUE,
        [Level.LOW, 1, True, Mood.GOOD, "good"],
        {Color.RED: 1},
        Rights.READ | Rights.WRITE,
        Planet.EARTH,
        ORDER,
        Bag({"x", "y"}, {1: Item("a", Decimal(1))}, (1, 2)),
        Node("a", [Node("b"), Node("c")]),
        Normalised("abc"),
        Seeded(1, seed=4),
        Box((1, 2)),
        Point(1, 2.0),
        Renamed("a", frozenset({"x", "y", "z"})),
        Renamed("a", extra=3),
        Row("a", date(2024, 1, 1)),
        Pair(1, (2, 3)),
        Address(city="Rome", since=date(2020, 1, 1)),
        Customer(name="a", addresses=[Address(city="b")], limit=Decimal("1.5"), tags={"x", "y"}, aliasName="q"),
        Open(a=1, b=(2, 3)),
        Roots([1, 2]),
        "nul \0 inside",
    ],
    ids=lambda value: type(value).__name__,
)
def test_live_equals_replay(value):
    assert alike(value, decode(encode(value)))
    assert alike(value, codec_for(Any).decode(codec_for(Any).encode(value)))
    hinted = codec_for(type(value))
    assert alike(value, hinted.decode(hinted.encode(value)))


def test_a_named_zone_keeps_its_instant_and_its_offset():
    moment = datetime(2024, 7, 1, 12, tzinfo=PARIS)
    for again in (decode(encode(moment)), codec_for(datetime).decode(codec_for(datetime).encode(moment))):
        assert again == moment
        assert again.utcoffset() == timedelta(hours=2)


def test_the_second_reading_of_a_clock_set_back_survives():
    second = datetime(2024, 10, 27, 2, 30, fold=1)  # noqa: DTZ001 - without a zone is the point
    for use in (codec_for(Any), codec_for(datetime)):
        assert use.decode(use.encode(second)).fold == 1


def test_post_init_does_not_change_recorded_fields_and_still_sets_the_rest():
    again = decode(encode(Normalised("abc")))
    assert (again.rounds, again.length, again.cached) == (1, 3, "ABC")


def test_plain_json_is_written_plainly():
    assert encode({"a": [1, "x", None, True, 1.5]}) == '{"a":[1,"x",null,true,1.5]}'
    assert encode("$5") == '"$5"'
    assert encode({"price": "$5", 'quote"{"$': 1}) == '{"price":"$5","quote\\"{\\"$":1}'


def test_the_tags_are_as_documented():
    assert encode(Decimal("1.50")) == '{"$decimal":"1.50"}'
    assert encode((1, 2)) == '{"$tuple":[1,2]}'
    assert encode({10, 9, 1}) == '{"$set":[1,10,9]}'
    assert encode({1: "a"}) == '{"$dict":[[1,"a"]]}'
    assert encode({"$a": 1}) == '{"$dict":[["$a",1]]}'
    assert encode(Point(1)) == f'{{"$class":["{Point.__module__}:Point",{{"x":1,"y":0.0}}]}}'
    assert encode(Color.RED) == f'{{"$enum":["{Color.__module__}:Color","red"]}}'
    assert encode(timedelta(seconds=90)) == '{"$timedelta":"PT90S"}'


# -- refusals --------------------------------------------------------------------------------------------------------


def cyclic() -> list[Any]:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    return loop


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@dataclass
class Holder:
    owner: Any


class Unknown:
    pass


async def coroutine() -> None:
    """Never awaited."""


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"items": [0, 1, 2, Holder(math.nan)]}, 'result["items"][3].owner', "nan"),
        (Holder([0, {"k": math.inf}]), 'result.owner[0]["k"]'.replace("[0]", "[1]"), "inf"),
        (-math.inf, "result", "-inf"),
        (cyclic(), 'result[1]["again"]', "contains itself"),
        ([lambda: 1], "result[0]", "function"),
        ([print], "result[0]", "builtin_function"),
        ((functools.partial(print),), "result[0]", "partial"),
        ({"k": (i for i in ())}, 'result["k"]', "generator"),
        ([threading.Lock()], "result[0]", "lock"),
        ([Order], "result[0]", "class Order"),
        ([math], "result[0]", "module math"),
        ([Unknown()], "result[0]", "Unknown"),
        ([object()], "result[0]", "object"),
        ([Path("/tmp")], "result[0]", "Path"),
        ([1 + 2j], "result[0]", "complex"),
        ([range(3)], "result[0]", "range"),
        ([ValueError("x")], "result[0]", "ValueError"),
        ([OrderedDict(a=1)], "result[0]", "plain dict"),
        ([defaultdict(list)], "result[0]", "plain dict"),
        ([type("Text", (str,), {})("x")], "result[0]", "plain str"),
        ("\ud800", "result", "surrogates"),
        ({"a": ["\udfff"]}, 'result["a"][0]', "surrogates"),
        ({"\ud800": 1}, 'result["\\ud800"]', "surrogates"),
        ({(1, math.nan): 1}, "result.keys()[0][1]", "nan"),
        ({1: math.nan}, "result[1]", "nan"),
        ({math.inf}, "result{}", "inf"),
        (time(1, tzinfo=PARIS), "result", "offset"),
        (nested(201), "result" + "[0]" * 200, "nested deeper than 200"),
        (msgspec.UNSET, "result", "Unset"),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_its_path(value, path, words):
    for use in (encode, codec_for(list[Item]).encode, codec_for(Holder).encode, codec_for(type(value)).encode):
        with pytest.raises(CodecError) as caught:
            use(value, where="result")
        assert caught.value.path == path
        assert words in str(caught.value)
        assert str(caught.value).startswith(path)


def test_a_caller_deep_in_his_stack_gets_a_codec_error():
    def dive(levels: int) -> str:
        return dive(levels - 1) if levels else encode([*nested(190), ()])

    with pytest.raises(CodecError, match="stack"):
        dive(sys.getrecursionlimit() - 250)


def test_nesting_up_to_the_limit_is_fine():
    assert decode(encode(nested(200))) == nested(200)


def test_open_files_sockets_and_coroutines_are_refused(tmp_path):
    waiting = coroutine()
    try:
        with (tmp_path / "x").open("w") as file, socket.socket() as plug:
            for value in (file, plug, waiting, asyncio.Event()):
                with pytest.raises(CodecError, match=r"record|await"):
                    encode([value])
    finally:
        waiting.close()


def test_arguments_are_refused_with_their_path():
    with pytest.raises(CodecError) as caught:
        encode_arguments(({"k": math.nan},), {})
    assert caught.value.path == 'arguments[0]["k"]'
    with pytest.raises(CodecError) as caught:
        encode_arguments((1,), {"rate": [math.nan]}, where="input")
    assert caught.value.path == 'input["rate"][0]'


def test_a_class_that_cannot_be_found_again_needs_a_hint():
    @dataclass
    class Local:
        a: int

    with pytest.raises(CodecError, match="top of a module"):
        encode(Local(1))
    hinted = codec_for(Local)
    assert hinted.encode(Local(1)) == '{"a":1}'
    assert hinted.decode('{"a":1}') == Local(1)


def test_a_class_shadowed_by_another_is_refused():
    with pytest.raises(CodecError, match="cannot be found again"):
        encode(make_dataclass("Item", ["x"], namespace={"__module__": Item.__module__})(1))
