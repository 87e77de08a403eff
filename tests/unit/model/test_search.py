"""What may be asked of a search: read into canonical conditions, or refused with a word on what is valid."""

import base64
import uuid
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest

from continuum.errors import ContinuumError, SearchError
from continuum.model.conditions import FIELDS, AttributeCondition, Condition, Op
from continuum.model.ids import RunId, new_run_id
from continuum.model.runs import Run, RunState
from continuum.model.search import MAX_CURSOR, Order, Query, parse_query

RUN = "0190a6f0-0000-7000-8000-000000000001"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def conditions(where: Any) -> list[Any]:
    return list(parse_query(where).conditions)


def one(where: Any) -> Any:
    [condition] = conditions(where)
    return condition


def run_of(run_id: str = RUN, **fields: Any) -> Run:
    values: dict[str, Any] = dict.fromkeys(Run.__dataclass_fields__)
    return Run(**{**values, "id": RunId(run_id), "created_at": NOON, "attributes": {}, **fields})


# ------------------------------------------------------------------ conditions on fields


@pytest.mark.parametrize("nothing", [None, {}, [], ()])
def test_no_conditions_are_all_runs_newest_first(nothing: Any) -> None:
    query = parse_query(nothing)
    assert query == Query()
    assert (str(query.order), query.limit, query.after, query.namespace) == ("-created_at", 50, None, None)


@pytest.mark.parametrize(
    ("where", "op", "value"),
    [
        ({"state": "failed"}, Op.EQ, RunState.FAILED),
        ({"state": RunState.FAILED}, Op.EQ, RunState.FAILED),
        ({"state": ["failed", "stuck"]}, Op.IN, (RunState.FAILED, RunState.STUCK)),
        ({"state": []}, Op.IN, ()),
        ({"state": {"in": ("failed",)}}, Op.IN, (RunState.FAILED,)),
        ({"state": {"ne": "failed"}}, Op.NE, RunState.FAILED),
        ({"workflow": {"contains": "50%_"}}, Op.CONTAINS, "50%_"),
        ({"workflow": "'; drop table x; --"}, Op.EQ, "'; drop table x; --"),
        ({"version": {"gte": 3}}, Op.GTE, 3),
        ({"id": RUN.upper()}, Op.EQ, RUN),
        ({"id": uuid.UUID(RUN)}, Op.EQ, RUN),
        ({"parent_id": None}, Op.EQ, None),
        ({"parent_id": {"ne": None}}, Op.NE, None),
        ({"parent_id": {"exists": False}}, Op.EXISTS, False),
        ({"is_tip": True}, Op.EQ, True),
        ({"created_at": {"lt": NOON}}, Op.LT, NOON),
        ({"created_at": {"lt": "2026-03-01T12:00:00Z"}}, Op.LT, NOON),
        ({"created_at": {"lt": datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2)))}}, Op.LT, NOON),
        ({"completed_at": None}, Op.EQ, None),
        ([("idempotency_key", "k")], Op.EQ, "k"),
        ((("idempotency_key", "k"),), Op.EQ, "k"),
    ],
)
def test_a_value_means_equal_a_list_any_of_it_and_operators_are_named(where: Any, op: Op, value: Any) -> None:
    [name, _] = next(iter(where.items() if isinstance(where, dict) else where))
    assert one(where) == Condition(name, op, value)


def test_several_operators_of_a_field_are_several_conditions() -> None:
    found = conditions({"version": {"gte": 2, "lt": 5}, "namespace": "eu"})
    assert found == [
        Condition("version", Op.GTE, 2),
        Condition("version", Op.LT, 5),
        Condition("namespace", Op.EQ, "eu"),
    ]


def test_every_field_is_one_of_a_run() -> None:
    assert set(FIELDS) <= set(Run.__dataclass_fields__)


def test_a_time_comes_back_in_utc() -> None:
    at = one({"created_at": {"lt": datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2)))}}).value
    assert at.tzinfo is UTC


# ------------------------------------------------------------------ conditions on attributes


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("attributes.customer", ("customer",)),
        ("attributes.a.b.c", ("a", "b", "c")),
        (("attributes", "a.b"), ("a.b",)),
        (("attributes", ""), ("",)),
        (("attributes", "'; --", '"', "\\"), ("'; --", '"', "\\")),
    ],
)
def test_an_attribute_is_named_by_its_path(field: Any, path: tuple[str, ...]) -> None:
    assert one({field: 7}) == AttributeCondition(path, Op.EQ, 7)


def test_a_list_is_a_path_where_it_can_be_one() -> None:
    assert one([(["attributes", "a.b"], 1)]) == AttributeCondition(("a.b",), Op.EQ, 1)


@pytest.mark.parametrize(
    ("wanted", "op", "value"),
    [
        (None, Op.EQ, None),
        (True, Op.EQ, True),
        (1.5, Op.EQ, 1.5),
        ([1, "1", None], Op.IN, (1, "1", None)),
        ({"eq": {"city": "Oslo"}}, Op.EQ, {"city": "Oslo"}),
        ({"eq": (1, 2)}, Op.EQ, [1, 2]),
        ({"ne": {}}, Op.NE, {}),
        ({"gt": 3}, Op.GT, 3),
        ({"lte": "m"}, Op.LTE, "m"),
        ({"exists": True}, Op.EXISTS, True),
    ],
)
def test_an_attribute_is_compared_with_json(wanted: Any, op: Op, value: Any) -> None:
    assert one({"attributes.a": wanted}) == AttributeCondition(("a",), op, value)


def test_texts_of_other_classes_are_plain_texts() -> None:
    class Tier(StrEnum):
        GOLD = "gold"

    value = one({"attributes.tier": Tier.GOLD}).value
    assert type(value) is str


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"colour": "red"}, ["colour", "workflow", "attributes"]),
        ({"": 1}, ["field"]),
        ({5: 1}, ["5"]),
        ({None: 1}, ["None"]),
        ({"id; drop table continuum_runs": 1}, ["drop table", "workflow"]),
        ({"lease_owner": RUN}, ["lease_owner"]),
        ({"attributes": 1}, ["attributes.key"]),
        ({"attributes.": 1}, ["attributes.key"]),
        ({"attributes..a": 1}, ["attributes.key"]),
        ({("attributes",): 1}, ["attributes.key"]),
        ({("attributes", 1): 1}, ["field"]),
        ({(): 1}, ["field"]),
        ({("state", "a"): 1}, ["state"]),
        ({("attributes", "a\0"): 1}, ["NUL"]),
        ({("attributes", *"a" * 33): 1}, ["32"]),
        ({"state": "lost"}, ["lost", "suspended"]),
        ({"state": "FAILED"}, ["FAILED"]),
        ({"state": None}, ["None", "stuck"]),
        ({"state": 5}, ["5"]),
        ({"state": ["failed", None]}, ["None"]),
        ({"state": {"lt": "failed"}}, ["state", "lt", "eq"]),
        ({"state": {"contains": "fail"}}, ["contains"]),
        ({"state": {"like": "fail"}}, ["like", "contains"]),
        ({"state": {}}, ["operator"]),
        ({"state": {"in": "failed"}}, ["list"]),
        ({"state": {5: "failed"}}, ["5"]),
        ({"id": "order-1"}, ["order-1", "UUID"]),
        ({"id": 5}, ["UUID"]),
        ({"id": None}, ["UUID"]),
        ({"id": {"exists": True}}, ["exists"]),
        ({"parent_id": {"lt": None}}, ["parent_id"]),
        ({"parent_id": {"exists": "yes"}}, ["True or False"]),
        ({"workflow": 5}, ["workflow", "5"]),
        ({"workflow": "a\0b"}, ["workflow"]),
        ({"workflow": "\ud800"}, ["workflow"]),
        ({"namespace": {"contains": "e"}}, ["contains"]),
        ({"version": "1"}, ["version", "whole number"]),
        ({"version": True}, ["whole number"]),
        ({"version": 1.0}, ["whole number"]),
        ({"version": 2**63}, ["whole number"]),
        ({"is_tip": 1}, ["True or False"]),
        ({"is_tip": {"gt": False}}, ["gt"]),
        ({"created_at": NOON.replace(tzinfo=None)}, ["time zone"]),
        ({"created_at": "2026-03-01T12:00:00"}, ["time zone"]),
        ({"created_at": "yesterday"}, ["yesterday", "datetime"]),
        ({"created_at": NOON.date()}, ["datetime"]),
        ({"created_at": 1_700_000_000}, ["datetime"]),
        ({"created_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, ["calendar"]),
        ({"attributes.a": {"contains": "x"}}, ["contains", "eq"]),
        ({"attributes.a": {"city": "Oslo"}}, ["city", "{'eq': {…}}"]),
        ({"attributes.a": {}}, ["{'eq': {}}"]),
        ({"attributes.a": {"exists": 1}}, ["True or False"]),
        ({"attributes.a": {"lt": None}}, ["numbers or texts"]),
        ({"attributes.a": {"lt": True}}, ["numbers or texts"]),
        ({"attributes.a": {"lt": [1]}}, ["numbers or texts"]),
        ({"attributes.a": float("nan")}, ["nan"]),
        ({"attributes.a": {"gt": float("inf")}}, ["inf"]),
        ({"attributes.a": "a\0"}, ["attributes.a"]),
        ({"attributes.a": NOON}, ["datetime"]),
        ({"attributes.a": {"eq": {1: 2}}}, ["attributes.a"]),
        ({"attributes.a": {"in": [1, object()]}}, ["object"]),
        ({"attributes.a": list(range(1001))}, ["1001", "1000"]),
        ({"attributes.a": list(range(500)), "version": list(range(501))}, ["1001", "1000", "together"]),
        ([("attributes.a", list(range(1000)))] * 50, ["50000", "1000", "together"]),
        ([("version", 1)] * 51, ["51", "50"]),
        ("state=failed", ["where="]),
        (b"state", ["where="]),
        (5, ["where="]),
        (["state"], ["where="]),
        ([("state",)], ["where="]),
        ([("state", "failed", 1)], ["where="]),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_can(where: Any, words: list[str]) -> None:
    with pytest.raises(SearchError) as refused:
        parse_query(where)
    for word in words:
        assert word in str(refused.value)
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, ContinuumError)


def test_a_value_nested_too_deeply_is_refused() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(SearchError, match="nested"):
        parse_query({"attributes.a": {"eq": deep}})


class Nameless:
    def __repr__(self) -> str:
        raise RuntimeError


def bottomless() -> Any:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize("strange", [bottomless, lambda: 10**5_000, Nameless], ids=["deep", "long", "nameless"])
def test_values_that_have_no_text_are_refused_as_any_other(strange: Any) -> None:
    value = strange()
    for where in (
        {"attributes.a": {"eq": value}},
        {"version": value},
        {"workflow": {"contains": value}},
        {"id": value},
    ):
        with pytest.raises(SearchError):
            parse_query(where)
    for wrong in ({"where": value}, {"limit": value}, {"order": value}, {"cursor": value}):
        with pytest.raises(SearchError):
            parse_query(**wrong)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, "5", 2.0, None])
def test_a_limit_is_a_number_from_one_to_a_thousand(limit: Any) -> None:
    with pytest.raises(SearchError, match="limit"):
        parse_query(limit=limit)


@pytest.mark.parametrize("order", ["", "-", "--id", "state", "workflow", "created_at desc", "id; --", None, 5, "ID"])
def test_an_order_is_one_of_few(order: Any) -> None:
    with pytest.raises(SearchError, match="completed_at"):
        parse_query(order=order)


# ------------------------------------------------------------------ cursors


def cursor_of(order: str = "-created_at", **fields: Any) -> str:
    query = parse_query(order=order, limit=1)
    _, cursor = query.cut([run_of(**fields), run_of()])
    assert cursor is not None
    return cursor


def test_a_page_is_cut_at_its_limit_and_only_then_has_a_cursor() -> None:
    query = parse_query(limit=2)
    runs = [run_of(str(new_run_id(index))) for index in range(3)]
    assert query.cut([]) == ([], None)
    assert query.cut(runs[:2]) == (runs[:2], None)
    page, cursor = query.cut(runs)
    assert page == runs[:2]
    assert cursor is not None


@pytest.mark.parametrize("order", ["created_at", "-created_at", "id", "-id", "-started_at", "completed_at"])
@pytest.mark.parametrize("at", [None, NOON, NOON + timedelta(microseconds=1), datetime(1, 1, 1, tzinfo=UTC)])
def test_a_cursor_leads_behind_the_run_it_was_made_of(order: str, at: datetime | None) -> None:
    field = order.removeprefix("-")
    made = cursor_of(order) if field == "id" else cursor_of(order, **{field: at})
    after = parse_query(order=order, cursor=made).after
    assert after is not None
    assert after.run_id == RUN
    assert after.value == (None if field == "id" else at)
    assert len(made) <= MAX_CURSOR


@pytest.mark.parametrize("other", ["created_at", "-id", "-started_at"])
def test_a_cursor_of_another_order_is_refused(other: str) -> None:
    with pytest.raises(SearchError, match="order='-created_at'"):
        parse_query(order=other, cursor=cursor_of())


@pytest.mark.parametrize(
    "forged",
    ["", "x", "%%%", "ü", "a" * 5000, "bnVsbA==", base64.urlsafe_b64encode(b"x" * 100).decode(), 5, b"x", "\ud800"],
)
def test_a_forged_cursor_is_refused(forged: Any) -> None:
    with pytest.raises(SearchError, match="cursor"):
        parse_query(cursor=forged)


def test_a_cursor_is_refused_whatever_character_of_it_is_changed() -> None:
    made = cursor_of()
    # The last character before the padding holds bits that mean nothing.
    for index in range(len(made.rstrip("=")) - 1):
        changed = made[:index] + ("A" if made[index] != "A" else "B") + made[index + 1 :]
        with pytest.raises(SearchError):
            parse_query(cursor=changed)
    for other in (made[:-1], made[:-4], made + "AAAA", made * 2, made[4:]):
        with pytest.raises(SearchError):
            parse_query(cursor=other)


def test_an_order_says_how_it_is_written() -> None:
    assert [str(Order("id", descending=turned)) for turned in (False, True)] == ["id", "-id"]
