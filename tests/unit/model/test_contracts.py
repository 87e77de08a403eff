"""The stored contract of signals: what it describes, what it refuses, and that it agrees with the decoder."""

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.declare.signals import Signal
from continuum.errors import CodecError
from continuum.model.codec import codec_for, encode
from continuum.model.contracts import FORMAT, Contract, Mismatch, write_contract
from continuum.model.readers import neutral
from continuum.model.schemas import KEYWORDS, describe


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Bits(Flag):
    A = 1
    B = 2


@dataclass
class Item:
    name: str
    price: Decimal
    at: datetime | None = None
    tags: set[str] = field(default_factory=set)
    next: "Item | None" = None


class Cat(msgspec.Struct, tag=True, rename="camel"):
    life_count: int


class Dog(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    name: str = ""


class Point(msgspec.Struct, array_like=True):
    x: int
    y: int = 0


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Options(TypedDict, total=False):
    depth: int
    note: str


class Model(pydantic.BaseModel):
    number: int = pydantic.Field(alias="Number", ge=0)
    price: Decimal = Decimal(1)
    blob: bytes = b""
    after: timedelta = timedelta(0)
    inner: "Model | None" = None


@dataclass
class Loose:
    anything: Any
    item: Item | None = None


@dataclass
class Grid:
    cells: dict[tuple[int, int], Item]


Order = NewType("Order", int)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.none() | st.just(UTC))
items = st.recursive(
    st.builds(Item, texts, decimals, st.none() | moments, st.sets(texts, max_size=3), st.none()),
    lambda inner: st.builds(Item, texts, decimals, st.none() | moments, st.sets(texts, max_size=3), inner),
    max_leaves=3,
)
whole = st.integers(-(2**63), 2**63 - 1)
models = st.builds(
    lambda number, price, blob, after: Model(Number=number, price=price, blob=blob, after=after),
    st.integers(0, 9),
    decimals,
    st.binary(max_size=4),
    st.timedeltas(timedelta(0), timedelta(days=9)),
)

# Types with their values. Those of the first list have no code of their own: there the contract says all.
EXACT: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (int, whole),
    (bool, st.booleans()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (None, st.none()),
    (Decimal, decimals),
    (datetime, moments),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(days=-999), timedelta(days=999))),
    (UUID, st.uuids()),
    (bytes, st.binary()),
    (Order, whole),
    (Annotated[int, msgspec.Meta(ge=3, lt=9)], st.integers(3, 8)),
    (Annotated[str, msgspec.Meta(min_length=2, pattern="^a")], st.just("ab")),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1] | None, st.sampled_from(["a", 1, None])),
    (int | str | None, whole | texts | st.none()),
    (tuple[int, str], st.tuples(whole, texts)),
    (tuple[Decimal, ...], st.lists(decimals).map(tuple)),
    (set[int], st.sets(whole)),
    (frozenset[date], st.frozensets(st.dates())),
    (list[datetime | None], st.lists(st.none() | moments)),
    (dict[str, Decimal], st.dictionaries(texts, decimals)),
    (dict[int, list[str]], st.dictionaries(whole, st.lists(texts))),
    (dict[date, int], st.dictionaries(st.dates(), whole)),
    (dict[Color, int], st.dictionaries(st.sampled_from(Color), whole)),
    (Item, items),
    (list[Item], st.lists(items, max_size=3)),
    (Cat, st.builds(Cat, whole)),
    (Cat | Dog, st.builds(Cat, whole) | st.builds(Dog, texts)),
    (Point, st.builds(Point, whole, whole)),
    (Pair, st.builds(Pair, whole, texts)),
    (Options, st.fixed_dictionaries({}, optional={"depth": whole, "note": texts})),
]
LOOSE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Model, models),
    (list[Model], st.lists(models, max_size=2)),
    (Loose, st.builds(Loose, st.one_of(decimals, st.tuples(whole), texts), st.none() | items)),
    (Any, st.one_of(decimals, texts, st.tuples(whole))),
    (object, decimals),
    (dict, st.dictionaries(whole, decimals)),
    (dict[str, Any], st.dictionaries(texts, st.tuples(whole))),
    (list, st.lists(decimals)),
    (tuple, st.tuples(whole, decimals)),
    (Bits, st.sampled_from(Bits)),
]

names = [str(hint) for hint, _ in [*EXACT, *LOOSE]]
each_type = pytest.mark.parametrize(("hint", "values"), [*EXACT, *LOOSE], ids=names)
each_exact = pytest.mark.parametrize(("hint", "values"), EXACT, ids=names[: len(EXACT)])


@cache
def contract_of(hint: Any) -> Contract:
    return Contract.parse(write_contract({"s": hint}, {}))


@each_type
@settings(max_examples=30)
@given(data=st.data())
def test_a_valid_value_is_never_refused_and_arrives_as_it_was(
    hint: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value, signal, contract = data.draw(values), Signal("s", hint), contract_of(hint)
    payload = signal.encode(value)
    fitted = contract.check("s", payload)
    arrived = signal._decode(payload if signal.is_exact else fitted)
    assert arrived == value and type(arrived) is type(value)


@each_exact
@settings(max_examples=30)
@given(data=st.data())
def test_plain_json_of_a_valid_value_by_name_alone_arrives_as_the_type(
    hint: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value, signal = data.draw(values), Signal("s", hint)
    plain = json.loads(msgspec.json.encode(neutral(json.loads(signal.encode(value)))))
    assert signal._decode(contract_of(hint).check("s", encode(plain))) == value


@each_exact
@settings(max_examples=30)
@given(data=st.data())
def test_the_value_itself_by_name_alone_arrives_as_the_type(
    hint: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value, signal = data.draw(values), Signal("s", hint)
    assert signal._decode(contract_of(hint).check("s", encode(value))) == value


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (dict[tuple[int, int], str], {(1, 2): "a"}),
        (dict[bool, int], {True: 1}),
        (dict[int | str, int], {1: 1, "b": 2}),
        (dict[str | None, int], {None: 1, "b": 2}),
        (dict[frozenset[int], Decimal], {frozenset({1}): Decimal("1.50")}),
        (list[dict[tuple[int, ...], Decimal]], [{(1,): Decimal("1.50")}]),
        (Grid, Grid({(0, 1): Item("a", Decimal("1.50"))})),
    ],
    ids=str,
)
def test_keys_that_no_text_brings_back_arrive_as_they_were(hint: Any, value: Any) -> None:
    signal, contract = Signal("s", hint), contract_of(hint)
    assert signal._decode(contract.check("s", encode(value))) == value
    assert signal._decode(signal.encode(value)) == value
    with pytest.raises(Mismatch):
        contract.check("s", encode("text"))


scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | texts | st.just("2024-02-30")
anything = st.recursive(
    scalars | decimals | st.dates() | st.uuids() | st.sampled_from(Color),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner, inner) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


def mutated(node: Any, draw: Any) -> Any:
    """Return JSON with one part of it replaced, added or taken away."""
    if isinstance(node, list) and node and draw(st.booleans()):
        index = draw(st.integers(0, len(node) - 1))
        changed = [mutated(node[index], draw)] if draw(st.booleans()) else []
        return [*node[:index], *changed, *node[index + 1 :]]
    if isinstance(node, dict) and node and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(node)))
        rest = {key: item for key, item in node.items() if key != name}
        return {**rest, name: mutated(node[name], draw)} if draw(st.booleans()) else rest
    return draw(anything)


@each_exact
@settings(max_examples=30)
@given(data=st.data())
def test_what_passes_is_what_the_decoder_takes(hint: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    wire = neutral(json.loads(Signal("s", hint).encode(data.draw(values))))
    value = mutated(wire, data.draw)
    try:
        payload = contract_of(hint).check("s", encode(value))
    except Mismatch:
        return
    arrived = Signal("s", hint)._decode(payload)
    assert codec_for(hint).fits(arrived) or msgspec.convert(arrived, hint) == arrived


@each_type
def test_a_schema_uses_the_words_it_says(hint: Any, values: Any) -> None:
    def walk(schema: Any) -> None:
        if isinstance(schema, bool):
            return
        assert schema.keys() <= KEYWORDS, schema
        for word in ("properties", "$defs"):
            for part in schema.get(word, {}).values():
                walk(part)
        for word in ("anyOf", "allOf", "prefixItems"):
            for part in schema.get(word, ()):
                walk(part)
        for word in ("items", "additionalProperties", "propertyNames"):
            walk(schema.get(word, True))

    walk(describe(hint))


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (str, 5, "must be a text, and 5 is not"),
        (int, True, "must be a whole number, and true is not"),
        (int, 1.0, "must be a whole number"),
        (bool, 1, "must be true or false"),
        (Decimal, "x", "must be a decimal number or a number"),
        (datetime, "soon", "must be a date with a time"),
        (date, "2024-02-30", "must be a date"),
        (UUID, "u", "must be a UUID"),
        (bytes, "a", "must be bytes in base64"),
        (timedelta, 3, "must be a text"),
        (Color, "green", 'must be "red" or "blue", and "green" is not'),
        (Level, 3, "must be 1 or 2"),
        (Literal["a", 1], "b", "must be "),
        (int | str | None, 1.5, "must be a whole number or a text or null, and 1.5 does not fit"),
        (tuple[int, str], [1], "at least 2"),
        (tuple[int, str], [1, "a", 2], "at most 2"),
        (tuple[int, str], [1, 2], r"\[1\]: must be a text"),
        (list[int], [1, "a"], r"\[1\]: must be a whole number"),
        (dict[int, int], {"a": 1}, "'a'.*must be a whole number"),
        (dict[str, list[int]], {"a": [1, None]}, r"a\[1\]: must be a whole number, and null is not"),
        (Item, {"name": "n"}, "must have 'price', and has 'name'"),
        (Item, {"name": "n", "price": "x"}, "price: must be a decimal number"),
        (Item, {"name": "n", "price": 1, "next": {"name": 3, "price": 1}}, r"next\.name: must be a text"),
        (Item, "text", "must be an object"),
        (Cat | Dog, {"type": "Cow"}, "type: must be"),
        (Dog, {"type": "Dog", "name": "a", "x": 1}, "must have nothing but 'type', 'name', and has 'x'"),
        (Annotated[int, msgspec.Meta(ge=3)], 2, "must be at least 3"),
        (Annotated[str, msgspec.Meta(pattern="^a")], "b", r"must be a text that matches \^a"),
        (Model, {"number": 1}, "must have 'Number'"),
        (Model, {"Number": -1}, "Number: must be at least 0"),
        (dict[str, Any], 3, "must be an object"),
        (list, "a", "must be a list"),
    ],
)
def test_a_refusal_says_where_and_what(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(Mismatch, match=message):
        contract_of(hint).check("s", encode(value))


def test_tags_are_taken_off_where_the_type_is_described_and_stay_elsewhere() -> None:
    contract = contract_of(Loose)
    sent = {"anything": (1, Decimal(2)), "item": {"name": "n", "price": Decimal(3), "tags": {"a"}}}
    payload = contract.check("s", encode(sent))
    assert json.loads(payload) == {
        "anything": {"$tuple": [1, {"$decimal": "2"}]},
        "item": {"name": "n", "price": "3", "tags": ["a"]},
    }
    assert Signal("s", Loose)._decode(payload) == Loose((1, Decimal(2)), Item("n", Decimal(3), tags={"a"}))


@pytest.mark.parametrize("value", [{"$ask": ["x", 1]}, {"$decimal": [1]}, {"a": 1, "$b": 2}, {"$a": 1, "b": 2}])
def test_what_looks_like_a_tag_stays_escaped(value: Any) -> None:
    hint = dict[str, int | list[Any]]
    payload = contract_of(hint).check("s", encode(value))
    assert not payload.startswith('{"$ask"')
    assert Signal("s", hint)._decode(payload) == value
    nested = contract_of(dict[str, hint]).check("s", encode({"in": value}))
    assert Signal("s", dict[str, hint])._decode(nested) == {"in": value}


def test_a_decimal_for_a_text_arrives_as_the_text() -> None:
    assert contract_of(str).check("s", encode(Decimal("1.50"))) == '"1.50"'


@pytest.mark.parametrize("hint", [Any, object, Bits, tuple, dict[Any, Any] | None, "no type", int | Item | Options])
def test_what_cannot_be_described_is_anything(hint: Any) -> None:
    assert describe(hint) is True
    assert contract_of(hint).check("s", '{"$tuple":[1]}') == '{"$tuple":[1]}'


def test_what_a_schema_cannot_say_is_refused_at_the_wait() -> None:
    class Even(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError("odd")

    payload = contract_of(Even).check("s", '{"number":1}')
    with pytest.raises(CodecError, match="odd"):
        Signal("s", Even)._decode(payload)


def test_the_text_of_a_contract_is_always_the_same_and_names_its_format() -> None:
    text = write_contract({"b": Item, "a": str}, {"a": Decimal})
    assert text == write_contract({"a": str, "b": Item}, {"a": Decimal})
    stored = json.loads(text)
    assert stored["format"] == FORMAT == 1
    assert list(stored["signals"]) == ["a", "b"]
    assert stored["signals"]["a"] == {"type": "string"}
    assert stored["replies"] == {"a": {"anyOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]}}


def test_a_contract_of_a_later_release_still_names_its_signals() -> None:
    contract = Contract.parse('{"format":2,"signals":{"a":{"type":"string"}},"else":1}')
    assert contract.names == {"a"} and contract.questions == frozenset()
    assert contract.check("a", "5") == "5"


def test_words_of_a_schema_that_are_not_known_are_not_checked() -> None:
    contract = Contract.parse('{"format":1,"signals":{"a":{"type":["string","null"],"if":{},"format":"email"}}}')
    assert contract.check("a", '"x"') == '"x"'
    with pytest.raises(Mismatch, match="a text or null"):
        contract.check("a", "5")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format":"1","signals":{}}', '{"format":1,"signals":[]}'])
def test_what_is_no_contract_is_an_error(text: str) -> None:
    with pytest.raises(CodecError):
        Contract.parse(text)
