"""Here live the conditions of a search: what may be compared with what, checked and in canonical form.

Two kinds. On a field of the run: texts, numbers and times compare as such, texts by code points. On the attributes,
along a path of keys of objects (never through an array): typed as JSON is, so 1 is not "1" and true is not 1; less and
greater compare numbers with numbers and texts with texts. What has no value (a field that is empty, a path that does
not exist) fulfils nothing, not even ``ne``, but ``exists: False``, and ``eq`` None for a field.

What :func:`parse_where` returns names fields and operators of the lists below and nothing else, so a journal never
meets a name that somebody typed; values stay values.
"""

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from continuum.errors import SearchError
from continuum.model.ids import RunId, parse_run_id
from continuum.model.names import is_storable, shown
from continuum.model.runs import RunState

__all__ = [
    "ATTRIBUTES",
    "FIELDS",
    "AttributeCondition",
    "Condition",
    "Field",
    "FieldKind",
    "Op",
    "parse_where",
    "refused",
]

ATTRIBUTES: Final = "attributes"
# Of one query; a statement has to be planned in no time. The values are those of all its lists together.
MAX_CONDITIONS: Final = 50
MAX_VALUES: Final = 1_000
# As deep as attributes may be.
MAX_PATH: Final = 32

_LARGEST: Final = 2**63 - 1


class Op(StrEnum):
    """How a value is compared. A list without an operator means ``in``, any other value ``eq``."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    EXISTS = "exists"
    CONTAINS = "contains"


_SAME: Final = frozenset({Op.EQ, Op.NE, Op.IN})
_ORDERED: Final = _SAME | {Op.LT, Op.LTE, Op.GT, Op.GTE}
_OF_ATTRIBUTES: Final = _ORDERED | {Op.EXISTS}


class FieldKind(StrEnum):
    """What the values of a field are."""

    ID = "id"
    STATE = "state"
    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a run that can be searched by.

    :ivar nullable: whether a run may have no value there.
    """

    kind: FieldKind
    ops: frozenset[Op]
    nullable: bool = False


def _field(kind: FieldKind, ops: frozenset[Op] = _ORDERED, *, nullable: bool = False) -> Field:
    return Field(kind, ops | {Op.EXISTS} if nullable else ops, nullable)


FIELDS: Final[Mapping[str, Field]] = {
    "id": _field(FieldKind.ID),
    "chain_id": _field(FieldKind.ID),
    "parent_id": _field(FieldKind.ID, nullable=True),
    "state": _field(FieldKind.STATE, _SAME),
    "workflow": _field(FieldKind.TEXT, _ORDERED | {Op.CONTAINS}),
    "version": _field(FieldKind.NUMBER),
    "namespace": _field(FieldKind.TEXT),
    "idempotency_key": _field(FieldKind.TEXT, nullable=True),
    "created_at": _field(FieldKind.MOMENT),
    "started_at": _field(FieldKind.MOMENT, nullable=True),
    "completed_at": _field(FieldKind.MOMENT, nullable=True),
    "is_tip": _field(FieldKind.FLAG, _SAME),
}
"""The fields of a run that can be searched by, named as in :class:`~continuum.model.runs.Run`."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a field. ``value`` is canonical: id text, a state, text, int, bool or a datetime in UTC.

    It is a tuple of such for ``in``, a bool for ``exists``, and None only for ``eq`` and ``ne`` of a nullable field.
    """

    field: str
    op: Op
    value: Any


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    """A condition on what the attributes hold along a path. ``value`` is plain JSON, a tuple of it for ``in``."""

    path: tuple[str, ...]
    op: Op
    value: Any


def parse_where(where: Any) -> tuple[Condition | AttributeCondition, ...]:
    """Return the conditions of a mapping, or of pairs, of field and condition. Raises ``SearchError``.

    :param where: a field is one of ``FIELDS``, or ``attributes.path.to.key``, or for keys with dots
        ``("attributes", "path", "a.b")``. A condition is a value, a list (any of these), or ``{operator: value}``.
    """
    conditions = tuple(_parse_where(where))
    if len(conditions) > MAX_CONDITIONS:
        raise refused(f"{len(conditions)} conditions are too many: {MAX_CONDITIONS} are the most.")
    listed = sum(len(condition.value) for condition in conditions if condition.op is Op.IN)
    if listed > MAX_VALUES:
        raise refused(f"{listed} values in the lists of one search are too many: {MAX_VALUES} are the most together.")
    return conditions


def _parse_where(where: Any) -> Iterable[Condition | AttributeCondition]:
    if where is None:
        return
    pairs = where.items() if isinstance(where, Mapping) else where
    if isinstance(where, str | bytes) or not isinstance(pairs, Iterable):
        raise _wrong_where(where)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise _wrong_where(where)
        name, wanted = pair
        path = _path(name)
        for op, value in _operations(name, wanted):
            yield _attribute(path, op, value) if path else _condition(name, op, value)


def _wrong_where(where: object) -> SearchError:
    return refused(f"where={shown(where)} is not valid: write a dict of fields and values, as {{'state': 'failed'}}.")


def _path(name: Any) -> tuple[str, ...]:
    """Return the keys within the attributes; none for a field of the run."""
    parts = name.split(".") if isinstance(name, str) else name
    if not isinstance(parts, tuple | list) or not all(isinstance(part, str) for part in parts):
        raise refused(f"{shown(name)} is not a field: write its name, or for an attribute ('attributes', 'key', …).")
    if isinstance(name, str) and name in FIELDS:
        return ()
    if not parts or parts[0] != ATTRIBUTES:
        raise refused(f"there is no field {shown(name)} to search by; there are {', '.join(FIELDS)} and attributes.….")
    path = tuple(parts[1:])
    if not path or len(path) > MAX_PATH or (isinstance(name, str) and not all(path)):
        raise refused(f"{shown(name)} names no attribute: write attributes.key, with at most {MAX_PATH} keys.")
    if not all(map(is_storable, path)):
        raise refused(f"{shown(name)} names no attribute: no key holds NUL or half a surrogate pair.")
    return path


def _operations(name: object, wanted: Any) -> Iterable[tuple[Op, Any]]:
    if isinstance(wanted, Mapping):
        if not wanted:
            raise refused(
                f"{shown(name)}: {{}} says no operator; write {{'gte': value}}, or {{'eq': {{}}}} for an object."
            )
        for op, value in wanted.items():
            if op not in Op.__members__.values():
                raise refused(
                    f"{shown(name)}: there is no operator {shown(op)}; there are {', '.join(Op)}. An object as the"
                    " value is written {'eq': {…}}."
                )
            yield Op(op), value
    elif isinstance(wanted, list | tuple | set | frozenset):
        yield Op.IN, wanted
    else:
        yield Op.EQ, wanted


def _listed(name: object, op: Op, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise refused(f"{shown(name)}: {op} wants a list of values, not {shown(value)}.")
    if len(value) > MAX_VALUES:
        raise refused(f"{shown(name)}: {len(value)} values are too many: {MAX_VALUES} are the most.")
    return list(value)


def _condition(name: str, op: Op, value: Any) -> Condition:
    field = FIELDS[name]
    if op not in field.ops:
        raise refused(
            f"{name} cannot be searched with {op}; it takes {', '.join(one for one in Op if one in field.ops)}."
        )
    if op is Op.EXISTS:
        return Condition(name, op, _flag(name, value))
    if op is Op.IN:
        return Condition(name, op, tuple(_plain(name, field.kind, one) for one in _listed(name, op, value)))
    if value is None and field.nullable and op in {Op.EQ, Op.NE}:
        return Condition(name, op, None)
    return Condition(name, op, _plain(name, field.kind, value))


def _plain(name: str, kind: FieldKind, value: Any) -> Any:
    """Return a field's value in its canonical form."""
    match kind:
        case FieldKind.ID:
            return _id(name, value)
        case FieldKind.STATE:
            if isinstance(value, str) and value in RunState.__members__.values():
                return RunState(value)
            raise refused(f"there is no run state {shown(value)}; there are {', '.join(RunState)}.")
        case FieldKind.TEXT:
            if isinstance(value, str) and is_storable(value):
                return str.__str__(value)
            what = "a workflow or its name" if name == "workflow" else "a text without NUL and halves of surrogates"
            raise refused(f"{name}: {shown(value)} is not valid; write {what}.")
        case FieldKind.NUMBER:
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
                return int(value)
            raise refused(f"{name}: {shown(value)} is not valid; write a whole number.")
        case FieldKind.FLAG:
            return _flag(name, value)
        case FieldKind.MOMENT:
            return _moment(name, value)


def _flag(name: object, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise refused(f"{shown(name)}: {shown(value)} is not valid; write True or False.")


def _id(name: str, value: Any) -> RunId:
    if isinstance(value, str | uuid.UUID):
        try:
            return parse_run_id(str(value))
        except ValueError:
            pass
    raise refused(f"{name}: {shown(value)} is no run id: run ids are UUIDs.")


def _moment(name: str, value: Any) -> datetime:
    at = value
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
    if not isinstance(at, datetime):
        raise refused(
            f"{name}: {shown(value)} is not valid; write a datetime, or a text such as '2026-03-01T12:00:00Z'."
        )
    if at.tzinfo is None or at.utcoffset() is None:
        raise refused(
            f"{name}: {shown(value)} has no time zone; write datetime(…, tzinfo=UTC), or a text that ends with Z."
        )
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise refused(f"{name}: {shown(value)} is outside of the calendar.") from None


# ------------------------------------------------------------------ attributes


def _attribute(path: tuple[str, ...], op: Op, value: Any) -> AttributeCondition:
    name = ".".join((ATTRIBUTES, *path))
    if op not in _OF_ATTRIBUTES:
        raise refused(f"{shown(name)} cannot be searched with {op}; it takes {', '.join(sorted(_OF_ATTRIBUTES))}.")
    match op:
        case Op.EXISTS:
            return AttributeCondition(path, op, _flag(name, value))
        case Op.IN:
            return AttributeCondition(path, op, tuple(_json(name, one) for one in _listed(name, op, value)))
        case Op.EQ | Op.NE:
            return AttributeCondition(path, op, _json(name, value))
        case _:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise refused(f"{shown(name)}: {op} compares numbers or texts, not {shown(value)}.")
            return AttributeCondition(path, op, _json(name, value))


def _json(name: str, value: Any) -> Any:
    """Return the value as attributes hold it: plain JSON."""
    try:
        plain = _plain_json(value, 0)
        msgspec.json.encode(plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise refused(f"{shown(name)}: {shown(value)} is no value of an attribute: {error}.") from None
    return plain


def _plain_json(value: Any, depth: int) -> Any:
    if depth > MAX_PATH:
        raise ValueError(f"it is nested deeper than {MAX_PATH} levels")
    match value:
        case None | bool():
            return value
        case str():
            if not is_storable(value):
                raise ValueError("texts with NUL or half a surrogate pair are not stored")
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            if not math.isfinite(value):
                raise ValueError("it is not JSON")
            return float(value)
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise TypeError("its keys are not all text")
            return {_plain_json(key, depth): _plain_json(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_plain_json(item, depth + 1) for item in value]
        case _:
            raise TypeError(f"a {type(value).__name__} is not JSON")


def refused(message: str) -> SearchError:
    """Return the error to raise."""
    return SearchError(message)
