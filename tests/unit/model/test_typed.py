"""Here live the promises of the typed form: no tags where the hint says enough, no change where it does not."""

import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuum.errors import CodecError
from continuum.model import codec
from continuum.model.codec import (
    codec_for,
    encode,
)
from tests.support.payloads import (
    ORDER,
    Address,
    Bag,
    Box,
    Color,
    Customer,
    Item,
    Level,
    Node,
    Open,
    Options,
    Order,
    OrderId,
    Pair,
    Payment,
    Planet,
    Point,
    Renamed,
    Rights,
    Roots,
    Row,
    T,
    alike,
    texts,
    values,
)

items = st.builds(Item, texts, st.decimals(allow_nan=False, allow_infinity=False), st.integers())
HINTED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (Decimal, st.decimals(allow_nan=False)),
    (datetime, st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-3, minutes=-30))))),
    (date, st.dates()),
    (time, st.times().map(lambda value: value.replace(fold=0))),
    (timedelta, st.timedeltas()),
    (bytes, st.binary()),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (OrderId, st.text()),
    (int | str, st.integers() | texts),
    (Decimal | None, st.none() | st.decimals(allow_nan=False)),
    (Literal["a", 1] | None, st.sampled_from(["a", 1, None])),
    (Annotated[int, "note"], st.integers()),
    (Annotated[int, msgspec.Meta(ge=0)], st.integers(min_value=0)),
    (list[int], st.lists(st.integers())),
    (list[float], st.lists(st.floats(allow_nan=False, allow_infinity=False))),
    (Sequence[Decimal], st.lists(st.decimals(allow_nan=False))),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (tuple[str, Decimal], st.tuples(texts, st.decimals(allow_nan=False))),
    (set[int], st.sets(st.integers())),
    (frozenset[UUID], st.frozensets(st.uuids())),
    (dict[str, int], st.dictionaries(texts.filter(lambda key: key[:1] != "$"), st.integers())),
    (dict[int, str], st.dictionaries(st.integers(), texts)),
    (dict[UUID, Item], st.dictionaries(st.uuids(), items, max_size=3)),
    (Mapping[str, list[Item]], st.dictionaries(st.text("abc"), st.lists(items, max_size=2), max_size=3)),
    (Item, items),
    (list[Item] | None, st.none() | st.lists(items, max_size=3)),
    (
        Order,
        st.builds(
            Order,
            st.uuids(),
            st.lists(items, max_size=2),
            st.datetimes(timezones=st.just(UTC)),
            texts,
            st.sampled_from(Color),
        ),
    ),
    (Bag, st.builds(Bag, st.sets(texts), st.dictionaries(st.integers(), items, max_size=2), st.none() | st.integers())),
    (
        Node,
        st.recursive(st.builds(Node, texts), lambda n: st.builds(Node, texts, st.lists(n, max_size=2)), max_leaves=4),
    ),
    (Box[Decimal], st.builds(Box, st.decimals(allow_nan=False))),
    (Point, st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))),
    (Renamed, st.builds(Renamed, texts, st.frozensets(texts))),
    (Pair, st.builds(Pair, st.integers(), st.lists(st.integers()).map(tuple))),
    (Options, st.fixed_dictionaries({}, optional={"retries": st.integers()})),
    (Address, st.builds(Address, city=texts, since=st.none() | st.dates())),
    (
        list[Customer],
        st.lists(
            st.builds(
                Customer,
                name=texts,
                limit=st.decimals(allow_nan=False, allow_infinity=False),
                tags=st.sets(texts, max_size=3),
                aliasName=texts,
            ),
            max_size=2,
        ),
    ),
    (Roots, st.builds(Roots, st.lists(st.integers()))),
]


@pytest.mark.parametrize(("hint", "strategy"), HINTED, ids=[str(hint) for hint, _ in HINTED])
def test_values_that_fit_their_hint_carry_no_tags(hint, strategy):
    use = codec_for(hint)

    @given(strategy)
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(value: Any) -> None:
        payload = use.encode(value)
        assert codec.TAG not in payload
        assert alike(value, use.decode(payload))

    check()


ANY_HINT = st.sampled_from(
    [
        *(hint for hint, _ in HINTED),
        *(dict[str, str], dict[str, Decimal], dict[str, Any], list[Any], Any | None, Any, object, dict, list, tuple),
        *(set[Decimal], tuple[float, ...], tuple[int, str], float | None, int | float, Decimal | int, Decimal | str),
        *(str | datetime, Box, Box[Any], Box[int], Open, Rights, Planet, Row, "Nowhere", 5, inspect.Parameter.empty),
        *(Customer | None, T, type[int], list[Row], dict[Level, int], dict[Decimal, int], dict[bool, int]),
    ]
)


@given(ANY_HINT, values)
@settings(max_examples=800, deadline=None)
def test_a_hint_that_does_not_fit_changes_nothing(hint, value):
    use = codec_for(hint)
    payload = use.encode(value)
    assert alike(value, use.decode(payload))
    assert use.encode(use.decode(payload)) == payload


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (float, 3),
        (int, True),
        (int, 3.0),
        (str, Decimal("1.5")),
        (Decimal, "1.5"),
        (Decimal, 3),
        (datetime, "2020-01-01T00:00:00"),
        (bytes, "YWJj"),
        (tuple[int, ...], [1, 2]),
        (list[int], (1, 2)),
        (dict[str, str], {"$decimal": "1.5"}),
        (dict[str, str], Decimal("1.5")),
        (dict[str, int], {1: 2}),
        (dict[int, int], {"1": 2}),
        (dict[str, float], {"a": 1}),
        (Item, {"sku": "a", "price": "1", "count": 1}),
        (Item, Item("a", 1.5)),  # type: ignore[arg-type]
        (Item, Item("a", "1.5")),  # type: ignore[arg-type]
        (list[Item], [{"sku": "a", "price": "1", "count": 1}]),
        (Color, "red"),
        (Level, 1),
        (int | None, False),
        (Address, {"city": "Rome"}),
        (Options, {"retries": 1, "unknown": 2}),
        (Annotated[int, msgspec.Meta(ge=0)], -1),
        (Point, Point(1, 2)),
        (UUID, str(UUID(int=1))),
        (set[str], ["a"]),
    ],
    ids=str,
)
def test_a_value_that_only_looks_like_its_hint_is_not_converted(hint, value):
    use = codec_for(hint)
    assert alike(value, use.decode(use.encode(value)))


def test_plain_json_of_a_caller_without_hints_is_converted():
    assert codec_for(Item).decode(encode({"sku": "a", "price": "1.5"})) == Item("a", Decimal("1.5"))
    assert codec_for(Item).decode(encode({"sku": "a", "price": Decimal("1.5")})) == Item("a", Decimal("1.5"))
    assert codec_for(list[Address]).decode('[{"city":"Rome"}]') == [Address(city="Rome")]
    assert codec_for(dict[int, Item]).decode(encode({1: {"sku": "a", "price": 1}})) == {1: Item("a", Decimal(1))}
    assert codec_for(datetime).decode('"2024-01-01T00:00:00Z"') == datetime(2024, 1, 1, tzinfo=UTC)


def test_json_that_does_not_fit_is_delivered_as_it_is():
    assert codec_for(Item).decode('{"other":1}') == {"other": 1}
    assert codec_for(int).decode('"x"') == "x"


def test_only_a_payload_that_names_its_class_is_unreadable_once_the_class_has_changed():
    """What `docs/how_to/investigate_a_run.md` says of stuck runs."""
    changed = '{"sku":"a"}'  # as an Item without a price was recorded
    assert codec_for(Item).decode(changed) == {"sku": "a"}
    name = f"{Item.__module__}:{Item.__qualname__}"
    with pytest.raises(CodecError, match="no 'price'"):
        codec_for(Any).decode(f'{{"$class":["{name}",{changed}]}}')


def test_tagged_and_plain_payloads_are_both_read():
    assert codec_for(Order).decode(encode(ORDER)) == ORDER
    assert codec_for(list[Order]).decode(encode([ORDER])) == [ORDER]
    assert codec_for(Decimal).decode(encode(Decimal("1.5"))) == Decimal("1.5")


def test_a_codec_is_made_once_per_hint():
    assert codec_for(list[Item]) is codec_for(list[Item])
    assert codec_for(Any) is codec_for(inspect.Parameter.empty)
    assert codec_for(Annotated[int, []]).encode(5) == "5"


def test_a_forward_reference_may_be_resolved_after_declaration():
    module = types.ModuleType("codec_forward")
    sys.modules["codec_forward"] = module
    try:
        source = "from dataclasses import dataclass\n@dataclass\nclass A:\n    b: 'B'\n"
        exec(source, module.__dict__)
        use = codec_for(module.A)
        exec("@dataclass\nclass B:\n    n: int\n", module.__dict__)
        assert use.encode(module.A(module.B(1))) == '{"b":{"n":1}}'
    finally:
        del sys.modules["codec_forward"]


def test_an_object_has_one_text_however_it_was_made():
    use = codec_for(Payment)
    made, read, disordered, cached = Payment(1), use.decode('{"amount":1}'), Payment(1), Payment(1)
    disordered.__dict__ = {"currency": "EUR", "amount": 1}
    cached.__dict__["cached"] = object()
    assert "currency" not in vars(read)  # msgspec leaves defaults to the class
    texts = {use.encode(value) for value in (made, read, disordered, cached)}
    assert texts == {'{"amount":1,"currency":"EUR"}'}


def test_defaults_are_recorded_since_they_may_change():
    assert codec_for(Renamed).encode(Renamed("a")) == '{"type":"renamed","firstName":"a","someTags":[]}'
