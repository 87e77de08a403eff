"""Here lives the search of the memory wing: the same conditions as on Postgres, one run after the other."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from continuum.model.conditions import AttributeCondition, Condition, Op
from continuum.model.runs import Run
from continuum.model.search import Order, Position, Query

__all__ = ["find_page", "fulfils", "same_json"]

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_NOTHING: Final = object()
_COMPARE: Final[Mapping[Op, Callable[[Any, Any], bool]]] = {
    Op.EQ: lambda left, right: left == right,
    Op.NE: lambda left, right: left != right,
    Op.LT: lambda left, right: left < right,
    Op.LTE: lambda left, right: left <= right,
    Op.GT: lambda left, right: left > right,
    Op.GTE: lambda left, right: left >= right,
}


def find_page(runs: Iterable[Run], query: Query) -> tuple[list[Run], str | None]:
    """Return the page of a query and its cursor."""
    found = [
        run
        for run in runs
        if (query.namespace is None or run.namespace == query.namespace)
        and all(fulfils(run, condition) for condition in query.conditions)
    ]
    found.sort(key=lambda run: _place(run, query.order), reverse=query.order.descending)
    if query.after is not None:
        last = _place_of(query.after, query.order)
        if query.order.descending:
            found = [run for run in found if _place(run, query.order) < last]
        else:
            found = [run for run in found if _place(run, query.order) > last]
    return query.cut(found[: query.limit + 1])


def fulfils(run: Run, condition: Condition | AttributeCondition) -> bool:
    """Say whether a condition holds for a run."""
    match condition:
        case Condition():
            return _field_fulfils(getattr(run, condition.field), condition.op, condition.value)
        case AttributeCondition():
            return _attribute_fulfils(_at(run.attributes, condition.path), condition.op, condition.value)


def _place(run: Run, order: Order) -> tuple[bool, datetime, str]:
    value = None if order.field == "id" else getattr(run, order.field)
    return _place_of(Position(value, run.id), order)


def _place_of(position: Position, order: Order) -> tuple[bool, datetime, str]:
    # What has no value comes last, whichever way the order is turned.
    last = (position.value is None) != order.descending
    return last, position.value or _EARLIEST, position.run_id


def _field_fulfils(found: Any, op: Op, value: Any) -> bool:
    match op:
        case Op.EXISTS:
            return bool((found is not None) == value)
        case Op.EQ | Op.NE if value is None:
            return (found is None) == (op is Op.EQ)
        case _ if found is None:
            return False
        case Op.IN:
            return found in value
        case Op.CONTAINS:
            return value in found
        case _:
            return _COMPARE[op](found, value)


# ------------------------------------------------------------------ attributes


def _at(attributes: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = attributes
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return _NOTHING
        found = found[key]
    return found


def _attribute_fulfils(found: Any, op: Op, value: Any) -> bool:
    match op:
        case Op.EXISTS:
            return bool((found is not _NOTHING) == value)
        case _ if found is _NOTHING:
            return False
        case Op.EQ:
            return same_json(found, value)
        case Op.NE:
            return not same_json(found, value)
        case Op.IN:
            return any(same_json(found, one) for one in value)
        case _ if isinstance(value, str):
            return isinstance(found, str) and _COMPARE[op](found, value)
        case _:
            return _is_number(found) and _COMPARE[op](_number(found), _number(value))


def same_json(left: Any, right: Any) -> bool:
    """Say whether two JSON values are the same to ``jsonb``: numbers by their decimal value, nothing else converted."""
    if _is_number(left) and _is_number(right):
        return _number(left) == _number(right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return type(left) is type(right) and bool(left == right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float) -> Decimal:
    # As it is written: that is what Postgres reads.
    return Decimal(json.dumps(value))
