"""Here live classes of every kind a payload may hold, values of them, and what it means to be the same value."""

import enum
import math
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Generic, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
from hypothesis import strategies as st

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = "good"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Planet(enum.Enum):
    EARTH = (5.97, Decimal("6.37"))


@dataclass
class Item:
    sku: str
    price: Decimal
    count: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    id: UUID
    items: list[Item]
    placed_at: datetime
    note: str | None = None
    color: Color = Color.RED


@dataclass
class Bag:
    tags: set[str]
    by_id: dict[int, Item] = field(default_factory=dict)
    anything: Any = None


@dataclass
class Node:
    name: str
    children: list["Node"] = field(default_factory=list)


@dataclass
class Normalised:
    text: str
    length: int = field(init=False)
    rounds: int = 0

    def __post_init__(self) -> None:
        self.length = len(self.text)
        self.rounds += 1
        self.cached = self.text.upper()


@dataclass
class Seeded:
    total: int = 0
    seed: InitVar[int] = 0

    def __post_init__(self, seed: int) -> None:
        self.total += seed


@dataclass
class Box(Generic[T]):
    content: T


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


class Renamed(msgspec.Struct, rename="camel", tag="renamed", omit_defaults=True):
    first_name: str
    some_tags: frozenset[str] = frozenset()
    extra: int | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True, frozen=True):
    key: str
    when: date | None = None


class Pair(NamedTuple):
    left: int
    right: tuple[int, ...] = ()


class Address(pydantic.BaseModel):
    city: str
    since: date | None = None


class Customer(pydantic.BaseModel):
    name: str
    addresses: list[Address] = []
    limit: Decimal = Decimal(0)
    tags: set[str] = set()
    pause: timedelta = timedelta(0)
    alias_name: str = pydantic.Field(default="x", alias="aliasName")


class Open(pydantic.BaseModel, extra="allow"):
    a: int


class Roots(pydantic.RootModel[list[int]]):
    pass


class Options(TypedDict, total=False):
    retries: int


OrderId = NewType("OrderId", str)
PARIS = ZoneInfo("Europe/Paris")
ORDER = Order(UUID(int=7), [Item("a", Decimal("1.50")), Item("b", Decimal(2), 3)], datetime(2024, 5, 6, 7, tzinfo=UTC))


@dataclass
class Payment:
    amount: int
    currency: str = "EUR"


def alike(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, enum.Enum):
        return left is right
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, dict):
        return alike(list(left.items()), list(right.items()))
    if isinstance(left, set | frozenset):
        return len(left) == len(right) and all(any(alike(one, other) for other in right) for one in left)
    if isinstance(left, datetime | time):
        return left.isoformat() == right.isoformat() and (left.tzinfo is not None or left.fold == right.fold)
    if isinstance(left, Decimal):
        return str(left) == str(right)
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, msgspec.Struct):
        return all(alike(getattr(left, name), getattr(right, name)) for name in left.__struct_fields__)
    if hasattr(left, "__dataclass_fields__"):
        return all(alike(getattr(left, name), getattr(right, name)) for name in left.__dataclass_fields__)
    if isinstance(left, pydantic.BaseModel):
        return alike(dict(left), dict(right))
    return bool(left == right)


offsets = st.builds(
    timezone,
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
        lambda d: timedelta(seconds=d // timedelta(seconds=1))
    ),
)
datetimes = st.datetimes(timezones=st.none() | st.just(UTC) | offsets)
texts = st.text() | st.sampled_from(["$", "$5", "$decimal", '{"$', '"$x":', "\0", "\u2028", "😀"])
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**64, max_value=10**700)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.binary()
    | st.binary().map(bytearray)
    | datetimes
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([*Color, *Level, *Mood, *Planet, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)])
)
hashables = st.recursive(
    atoms.filter(lambda value: not isinstance(value, bytearray)),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.sets(hashables, max_size=4)
        | st.frozensets(hashables, max_size=4)
        | st.builds(Box, inner)
        | st.builds(Bag, st.sets(texts, max_size=3), st.just({}), inner)
        | st.builds(Pair, st.integers(), st.lists(st.integers()).map(tuple))
    ),
    max_leaves=12,
)
