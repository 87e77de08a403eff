"""Here lives the search for runs: a valid query (see `model.search`) as one statement, and the runs below a run.

Values are bound, never written; names of columns come from the query's closed lists. What answers a search:

- ``created_at`` and ``id``, as an order or as a span, have their indexes; so the newest page is read in its length.
- Equality of attributes is containment, which the GIN index answers, whatever else is asked for.
- Everything else is looked at run by run, in the order asked for, until the page is full. No index holds a run's state
  or its end: both change while it works, and that would cost every step (see `tables`). A search that finds little in
  many runs should name a span of ``created_at``; it is given up after ``PATIENCE``.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Select,
    Text,
    and_,
    case,
    cast,
    collate,
    false,
    func,
    literal,
    null,
    nulls_last,
    or_,
    select,
)
from sqlalchemy import tuple_ as row_of
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

from continuum.errors import JournalBusy
from continuum.journal.postgres import tables
from continuum.journal.postgres.database import QUERY_CANCELLED, UNSET, Database
from continuum.journal.postgres.history import fetch_runs, select_runs
from continuum.journal.protocol import RunPage
from continuum.model.conditions import FIELDS, AttributeCondition, Condition, FieldKind, Op
from continuum.model.ids import RunId
from continuum.model.runs import Run
from continuum.model.search import Query

__all__ = ["PATIENCE", "SEARCH_SETTINGS", "find_descendants", "search_query", "search_runs"]

PATIENCE: Final = 30_000
"""Milliseconds after which a search is given up (``JournalBusy``)."""

# A search is planned for its own values, by any means there are; the choices of our sessions are for short statements.
SEARCH_SETTINGS: Final = f"{UNSET}; set local jit = off; set local statement_timeout = {PATIENCE}"

_RUNS: Final = tables.runs
_ATTRIBUTES: Final = tables.attributes.c.attributes
_COMPARED: Final = {Op.EQ: "=", Op.NE: "<>", Op.LT: "<", Op.LTE: "<=", Op.GT: ">", Op.GTE: ">="}
_NO_PATH: Final = cast(literal("{}", Text()), ARRAY(Text()))


def search_runs(database: Database, query: Query) -> RunPage:
    """Return a page of runs. Raises ``JournalBusy`` if it takes too long."""
    try:
        return RunPage(*query.cut(fetch_runs(database, search_query(query), settings=SEARCH_SETTINGS)))
    except JournalBusy as error:
        if error.fields.get("sqlstate") != QUERY_CANCELLED:
            raise
        message = (
            f"the search was given up after {PATIENCE / 1000:g} seconds: narrow it, by a span of created_at or by what"
            " an attribute is equal to"
        )
        raise JournalBusy(message, sqlstate=QUERY_CANCELLED) from error


def search_query(query: Query) -> Select[Any]:
    """Return the statement for a page and one run more."""
    statement = select_runs(_RUNS).limit(query.limit + 1)
    if query.namespace is not None:
        statement = statement.where(_RUNS.c.namespace == query.namespace)
    for condition in query.conditions:
        match condition:
            case Condition():
                statement = statement.where(_of_field(condition))
            case AttributeCondition():
                statement = statement.where(_of_attribute(condition))
    if query.after is not None:
        statement = statement.where(_behind(query))
    return statement.order_by(*_order(query))


# ------------------------------------------------------------------ order


def _order(query: Query) -> Sequence[ColumnElement[Any]]:
    column = _RUNS.c[query.order.field]
    turned = [one.desc() if query.order.descending else one.asc() for one in (column, _RUNS.c.id)]
    if FIELDS[query.order.field].nullable:
        turned[0] = nulls_last(turned[0])
    return turned[1:] if query.order.field == "id" else turned


def _behind(query: Query) -> ColumnElement[bool]:
    """Return what holds for the runs after the cursor's, in the query's order."""
    after = query.after
    assert after is not None
    sign = "<" if query.order.descending else ">"
    by_id = _compare(_RUNS.c.id, sign, after.run_id)
    if query.order.field == "id":
        return by_id
    column = _RUNS.c[query.order.field]
    if after.value is None:
        return and_(column.is_(None), by_id)
    last = row_of(literal(after.value, column.type), literal(after.run_id, _RUNS.c.id.type))
    behind = row_of(column, _RUNS.c.id).op(sign, is_comparison=True)(last)
    return or_(behind, column.is_(None)) if FIELDS[query.order.field].nullable else behind


# ------------------------------------------------------------------ fields


def _of_field(condition: Condition) -> ColumnElement[bool]:
    column, value = _RUNS.c[condition.field], condition.value
    match condition.op:
        case Op.EXISTS:
            return column.is_not(None) if value else column.is_(None)
        case Op.IN:
            return column.in_([_stored(one) for one in value]) if value else false()
        case Op.CONTAINS:
            return column.contains(value, autoescape=True)
        case Op.EQ if value is None:
            return column.is_(None)
        case Op.NE if value is None:
            return column.is_not(None)
        case Op.EQ | Op.NE:
            return _compare(column, _COMPARED[condition.op], _stored(value))
        case _:
            by_code_points = FIELDS[condition.field].kind is FieldKind.TEXT
            compared = collate(column, "C") if by_code_points else column
            return _compare(compared, _COMPARED[condition.op], value)


def _compare(left: ColumnElement[Any], sign: str, value: Any) -> ColumnElement[bool]:
    return left.op(sign, is_comparison=True)(literal(value, left.type))


def _stored(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


# ------------------------------------------------------------------ attributes


def _of_attribute(condition: AttributeCondition) -> ColumnElement[bool]:
    path, value = condition.path, condition.value
    match condition.op:
        case Op.EQ:
            return _is(path, value)
        case Op.IN:
            return or_(*(_is(path, one) for one in value)) if value else false()
        case Op.NE:
            return _compared_json(_at(path), "<>", value)
        case Op.EXISTS:
            return _at(path).is_not(null()) if value else _at(path).is_(null())
        case _:
            sign = _COMPARED[condition.op]
            kind = func.jsonb_typeof(_at(path))
            if isinstance(value, str):
                text = collate(_at(path).op("#>>", return_type=Text())(_NO_PATH), "C")
                return case((kind == "string", text.op(sign, is_comparison=True)(literal(value, Text()))), else_=False)
            return case((kind == "number", _compared_json(_at(path), sign, value)), else_=False)


def _is(path: Sequence[str], value: Any) -> ColumnElement[bool]:
    """Return equality. Containment is typed, and exact for what is no container; those are compared once more."""
    shape = value
    for key in reversed(path):
        shape = {key: shape}
    contained = _ATTRIBUTES.op("@>", is_comparison=True)(_json(shape))
    return and_(contained, _compared_json(_at(path), "=", value)) if isinstance(value, dict | list) else contained


def _at(path: Sequence[str]) -> ColumnElement[Any]:
    """Return what is found along a path of keys of objects; a text never is the index of an array."""
    found: ColumnElement[Any] = _ATTRIBUTES
    for key in path:
        found = found.op("->", return_type=JSONB())(cast(literal(key, Text()), Text()))
    return found


def _compared_json(left: ColumnElement[Any], sign: str, value: Any) -> ColumnElement[bool]:
    return left.op(sign, is_comparison=True)(_json(value))


def _json(value: Any) -> ColumnElement[Any]:
    return cast(literal(msgspec.json.encode(value).decode(), Text()), JSONB(none_as_null=False))


# ------------------------------------------------------------------ families


def find_descendants(database: Database, run_id: RunId, *, limit: int) -> list[Run]:
    """Return the tips of the chains below a run's chain, generation by generation, each in the order of ids."""
    root = select(_RUNS.c.chain_id).where(_RUNS.c.id == run_id).scalar_subquery()
    child = _RUNS.alias("child")
    columns = child.c.id, child.c.chain_id
    below = (
        select(*columns, literal(1).label("generation"))
        .where(child.c.parent_chain_id == root, child.c.is_tip)
        .cte("below", recursive=True)
    )
    below = below.union_all(
        select(*columns, below.c.generation + 1).where(child.c.parent_chain_id == below.c.chain_id, child.c.is_tip)
    )
    # The server makes one generation after the other, and stops when it has enough: never a child before its parent.
    some = select(below).limit(limit).subquery("some")
    query = select_runs(_RUNS).join(some, some.c.id == _RUNS.c.id).order_by(some.c.generation, some.c.id)
    return fetch_runs(database, query)
