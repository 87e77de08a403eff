"""Here live the promises of the codec: one text per value, calls that are normalised, sizes, wrapping."""

import inspect
import os
import subprocess
import sys
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.errors import CodecError
from continuum.model import codec
from continuum.model.codec import (
    ArgumentsCodec,
    BytesWrapper,
    PayloadWrapper,
    check_size,
    codec_for,
    decode,
    decode_arguments,
    encode,
    encode_arguments,
    same_payload,
)
from tests.support.payloads import ORDER, Color, Order, Payment, alike

# -- one text per value ----------------------------------------------------------------------------------------------

SCRIPT = """
from dataclasses import dataclass
from decimal import Decimal
import sys
import pydantic, msgspec
from continuum.model.codec import codec_for, encode

@dataclass(frozen=True)
class Tagged:
    names: frozenset[str]
    groups: frozenset[frozenset[int | str]] = frozenset()

class Model(pydantic.BaseModel):
    names: set[str]

words = {"a", "b", "see", "delta", "e", "$f", "é"}
values = [
    (set[str], words), (Tagged, Tagged(frozenset(words), frozenset({frozenset(words), frozenset({1, "2"})}))),
    (Model, Model(names=words)), (dict[str, set[str]], {"k": words}),
    (set[Tagged], {Tagged(frozenset(words)), Tagged(frozenset())}),
    (list[Decimal], [Decimal("1.0")]),
]
for hint, value in values:
    print(encode(value))
    print(codec_for(hint).encode(value))
"""


def test_the_text_does_not_depend_on_the_process():
    outputs = set()
    for seed in ("0", "1", "2", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(codec.__file__).parents[2],
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_the_same_payload_in_another_form_is_no_drift():
    assert same_payload("[1,2]", "[1, 2]")
    assert same_payload(encode(ORDER), codec_for(Order).encode(ORDER))
    assert same_payload(encode({1: Decimal(1)}), codec_for(dict[int, Decimal]).encode({1: Decimal(1)}))
    assert same_payload("3", codec_for(float).encode(3))
    assert same_payload(encode(10**700), codec_for(int).encode(10**700))
    assert not same_payload("[1,2]", "[2,1]")
    assert not same_payload("1", "1.0")
    assert not same_payload('{"a":1,"b":2}', '{"b":2,"a":1}')
    assert not same_payload("1", "nonsense")


# -- calls -----------------------------------------------------------------------------------------------------------


def arguments_of(function: Any, **hints: Any) -> ArgumentsCodec:
    return ArgumentsCodec.for_signature(inspect.signature(function), hints, name=function.__name__)


def charge(order, amount=0, *, currency="EUR", urgent=False):
    """Has optional and keyword-only parameters."""


def spread(first, /, second, *rest, flag, **others):
    """Has every kind of parameter."""


def test_calls_are_normalised():
    bind = arguments_of(charge).bind
    assert bind(("o", 3), {}) == bind(("o",), {"amount": 3}) == bind((), {"amount": 3, "order": "o"}) == (("o", 3), {})
    assert bind(("o",), {}) == (("o",), {})
    assert bind((), {"order": "o", "currency": "USD"}) == (("o",), {"currency": "USD"})
    one, two = bind(("o",), {"urgent": True, "currency": "A"}), bind(("o",), {"currency": "A", "urgent": True})
    assert list(one[1].items()) == list(two[1].items())

    bind = arguments_of(spread).bind
    assert bind((1, 2, 3, 4), {"flag": 1, "z": 2, "a": 3}) == ((1, 2, 3, 4), {"flag": 1, "z": 2, "a": 3})
    assert bind((1,), {"second": 2, "flag": 1, "first": 5}) == ((1, 2), {"flag": 1, "first": 5})

    def gap(a, b=1, c=2):
        """Leaves a hole in the middle."""

    assert arguments_of(gap).bind((1,), {"c": 3}) == ((1,), {"c": 3})


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (charge, (), {}),
        (charge, (1, 2, 3), {}),
        (charge, (1,), {"order": 1}),
        (charge, (1,), {"unknown": 1}),
        (charge, (), {"amount": 1}),
        (spread, (1, 2), {}),
        (spread, (), {"first": 1, "second": 2, "flag": 3}),
        (spread, (1,), {"flag": 3}),
        (spread, (1, 2), {"z": 3}),
    ],
)
def test_wrong_calls_fail_as_python_would(function, args, kwargs):
    with pytest.raises(TypeError):
        function(*args, **kwargs)
    with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) "):
        arguments_of(function).bind(args, kwargs)


def names(*parameters: inspect.Parameter) -> str:
    return ",".join(parameter.name for parameter in parameters)


@given(st.lists(st.integers(), max_size=4), st.dictionaries(st.sampled_from("abcde"), st.integers(), max_size=4))
@pytest.mark.parametrize(
    "function",
    [
        lambda a, b=2, *, c=3: (a, b, c),
        lambda a, /, b, *rest, c=3, **more: (a, b, rest, c, more),
        lambda a=1, b=2, c=3: (a, b, c),
        lambda *, a, b=1: (a, b),
        lambda a, b, /: (a, b),
        lambda *a, **b: (a, b),
    ],
)
def test_a_bound_call_does_what_the_call_does(function, args, kwargs):
    try:
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            arguments_of(function).bind(tuple(args), kwargs)
        return
    use = arguments_of(function)
    for _ in range(2):  # the second decoding goes the fast way
        bound_args, bound_kwargs = use.decode(use.encode(*use.bind(tuple(args), kwargs)))
        assert function(*bound_args, **bound_kwargs) == expected


def test_calls_are_recorded_by_their_hints():
    use = arguments_of(charge, order=Order, amount=Decimal, currency=Color)
    payload = use.encode((ORDER, Decimal("1.5")), {})
    assert codec.TAG not in payload
    for _ in range(2):
        assert use.decode(payload) == ((ORDER, Decimal("1.5")), {})
    assert use.decode(use.encode((ORDER,), {})) == ((ORDER,), {})
    assert alike(use.decode(use.encode((ORDER, "1.5"), {})), ((ORDER, "1.5"), {}))
    payload = use.encode((ORDER,), {"currency": Color.RED})
    assert payload.endswith('],"kwargs":{"currency":"red"}}')
    assert use.decode(payload) == ((ORDER,), {"currency": Color.RED})

    use = arguments_of(spread, first=int, rest=Decimal, others=Color)
    payload = use.encode((1, 2, Decimal(3), Decimal(4)), {"flag": 1, "x": Color.RED})
    assert codec.TAG not in payload
    assert use.decode(payload) == ((1, 2, Decimal(3), Decimal(4)), {"flag": 1, "x": Color.RED})


def test_keywords_that_look_like_tags_stay_keywords():
    payload = encode_arguments((), {"$decimal": "1"})
    assert decode_arguments(payload, None, None) == ((), {"$decimal": "1"})


def test_calls_recorded_before_a_hint_or_a_field_was_added_are_the_same():
    before, after = arguments_of(charge), arguments_of(charge, order=Payment, amount=Decimal)
    fresh = after.encode((Payment(1), Decimal("1.5")), {})
    assert after.same(before.encode((Payment(1), Decimal("1.5")), {}), fresh)
    assert after.same('[{"amount":1},"1.5"]', fresh)
    assert after.same('{"args":[{"amount":1}],"kwargs":{"amount":"1.5"}}', fresh)
    assert not after.same('[{"amount":2},"1.5"]', fresh)
    assert not after.same("nonsense", fresh)


# -- size and wrapping -----------------------------------------------------------------------------------------------


def test_size_is_counted_in_bytes():
    check_size('"éé"', 6, "result")
    with pytest.raises(CodecError, match=r"result takes 6 bytes as JSON, more than the limit of 5") as caught:
        check_size('"éé"', 5, "result")
    assert caught.value.path == "result"
    with pytest.raises(CodecError):
        check_size('"abc"', 4, "result")


def test_a_wrapper_keeps_json_and_can_be_switched_on_later():
    wrapper: PayloadWrapper = BytesWrapper("zlib", zlib.compress, zlib.decompress)
    payload = encode({"a": "é" * 100})
    stored = wrapper.wrap(payload)
    assert list(msgspec.json.decode(stored)) == ["$wrapped"]
    assert len(stored) < len(payload)
    assert wrapper.unwrap(stored) == payload
    assert wrapper.unwrap(payload) == payload


def test_an_unknown_wrapper_and_a_wrong_key_are_named():
    zipped = BytesWrapper("zlib", zlib.compress, zlib.decompress)
    sealed = BytesWrapper("sealed", lambda data: data[::-1], lambda data: data[::-1])
    with pytest.raises(CodecError, match=r"wrapped by 'zlib'.*has 'sealed'"):
        sealed.unwrap(zipped.wrap("1"))
    with pytest.raises(CodecError, match=r"\$wrapped"):
        decode(zipped.wrap("1"))
    broken = BytesWrapper("zlib", zlib.compress, lambda data: data[1:])
    with pytest.raises(CodecError, match="cannot be read"):
        BytesWrapper("zlib", lambda data: data, zlib.decompress).unwrap(sealed_as("zlib"))
    assert broken.name == "zlib"


def sealed_as(name: str) -> str:
    return f'{{"$wrapped":["{name}","eHh4"]}}'
