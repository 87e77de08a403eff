"""`ArgumentsCodec.record`, the way of nearly every call, comes to what `bind` and `encode` come to."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

import pytest

from continuum.errors import CodecError
from continuum.model.codec import ArgumentsCodec


@dataclass(frozen=True)
class Item:
    name: str


def plain(a: int, b: str = "x") -> None: ...
def typed(item: Item, *, count: int = 1) -> None: ...
def named(a: int, *, must: int) -> None: ...
def loose(a, b=None) -> None: ...  # type: ignore[no-untyped-def]
def many(a: int, *rest: int, **more: int) -> None: ...
def positional(a: int, /, b: int = 2) -> None: ...


CALLS: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any]]] = [
    (plain, (1,), {}),
    (plain, (1, "y"), {}),
    (plain, (1,), {"b": "y"}),
    (plain, (), {"b": "y", "a": 1}),
    (plain, (10**30,), {}),
    (plain, (True,), {}),
    (plain, ("not an int",), {}),
    (plain, (1, '{"$tag"'), {}),
    (typed, (Item("n"),), {}),
    (typed, (Item("n"),), {"count": 2}),
    (typed, ({"name": "n"},), {}),
    (named, (1,), {"must": 2}),
    (loose, ((1, 2), {3}), {}),
    (loose, ([1], None), {}),
    (many, (1, 2, 3), {}),
    (many, (1,), {"z": 1}),
    (positional, (1,), {}),
    (positional, (1,), {"b": 3}),
    (loose, (), {}),
    (named, (1,), {}),
    (plain, (1, "y", 2), {}),
    (plain, (), {}),
    (loose, (math.nan,), {}),
    (loose, (object(),), {}),
    (loose, ("\ud800",), {}),
]


def codec_of(function: Callable[..., None]) -> ArgumentsCodec:
    return ArgumentsCodec.for_signature(inspect.signature(function), get_type_hints(function), name="f")


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_a_call_is_recorded_as_it_is_bound_and_encoded(
    function: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    codec = codec_of(function)

    def slowly() -> Any:
        bound, rest = codec.bind(args, kwargs)
        return bound, rest, codec.encode(bound, rest)

    def outcome(record: Callable[[], Any]) -> Any:
        try:
            return record()
        except (TypeError, CodecError) as error:
            return type(error), str(error)

    assert outcome(lambda: codec.record(args, kwargs)) == outcome(slowly)
