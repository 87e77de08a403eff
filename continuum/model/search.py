"""Here lives what may be asked of a search: conditions, an order, a limit, and the cursor of a page.

:func:`parse_query` checks everything before anything is executed.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import msgspec

from continuum.model.conditions import AttributeCondition, Condition, parse_where, refused
from continuum.model.ids import RunId, parse_run_id
from continuum.model.names import shown
from continuum.model.runs import Run

__all__ = ["DEFAULT_ORDER", "MAX_CURSOR", "MAX_PAGE", "Order", "Position", "Query", "parse_query"]

DEFAULT_ORDER: Final = "-created_at"
MAX_PAGE: Final = 1_000
MAX_CURSOR: Final = 1_024

_ORDERS: Final = ("created_at", "id", "started_at", "completed_at")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DIGEST: Final = 8


@dataclass(frozen=True, slots=True)
class Order:
    """By which field, and whether the greatest comes first; ties by id in the same direction, no value always last."""

    field: str
    descending: bool

    def __str__(self) -> str:
        return f"-{self.field}" if self.descending else self.field


@dataclass(frozen=True, slots=True)
class Position:
    """The last run of a page: its value of the field ordered by (None: it has none, or it is the id), and its id."""

    value: datetime | None
    run_id: RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search that has been found valid. All conditions must hold."""

    conditions: tuple[Condition | AttributeCondition, ...] = ()
    order: Order = Order("created_at", descending=True)
    limit: int = 50
    after: Position | None = None
    namespace: str | None = None

    def cut(self, found: Sequence[Run]) -> tuple[list[Run], str | None]:
        """Return the page and its cursor, given what was found in this order: one run more if there are more."""
        page = list(found[: self.limit])
        return page, self._cursor(page[-1]) if page and len(found) > self.limit else None

    def _cursor(self, last: Run) -> str:
        value = None if self.order.field == "id" else getattr(last, self.order.field)
        micros = None if value is None else (value - _EPOCH) // _MICROSECOND
        body = msgspec.json.encode([str(self.order), micros, last.id])
        return base64.urlsafe_b64encode(_digest(body) + body).decode()


def parse_query(
    where: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
    *,
    order: str = DEFAULT_ORDER,
    limit: int = 50,
    cursor: str | None = None,
    namespace: str | None = None,
) -> Query:
    """Return the query. Raises ``SearchError`` that names what is wrong and what is valid.

    :param where: as `parse_where` takes it; all of it must hold.
    :param namespace: valid already.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise refused(f"limit={shown(limit)} is not valid: write a whole number from 1 to {MAX_PAGE}.")
    ordered = _parse_order(order)
    conditions = parse_where(where)
    after = None if cursor is None else _parse_cursor(cursor, ordered)
    return Query(conditions=conditions, order=ordered, limit=limit, after=after, namespace=namespace)


def _parse_order(order: Any) -> Order:
    if isinstance(order, str):
        field = order.removeprefix("-")
        if field in _ORDERS:
            return Order(field, descending=order != field)
    raise refused(
        f"order={shown(order)} is not valid: write one of {', '.join(_ORDERS)}, with a - in front to turn it."
    )


def _digest(body: bytes) -> bytes:
    # No secret: a cursor opens nothing. It only must not be taken for what it is not.
    return blake2b(body, digest_size=_DIGEST, person=b"continuum cursor").digest()


def _parse_cursor(cursor: Any, order: Order) -> Position:
    """Return where to go on. All forgeries get the same answer."""
    try:
        if not isinstance(cursor, str) or len(cursor) > MAX_CURSOR:
            raise ValueError  # noqa: TRY301
        plain = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        digest, body = plain[:_DIGEST], plain[_DIGEST:]
        written, micros, run_id = _read_cursor(body)
        if digest != _digest(body):
            raise ValueError  # noqa: TRY301
        after = Position(None if micros is None else _EPOCH + timedelta(microseconds=micros), parse_run_id(run_id))
    except (ValueError, OverflowError):
        message = f"cursor={shown(cursor)} is not valid: pass the cursor of the page before, or None."
        raise refused(message) from None
    if written != str(order):
        raise refused(f"this cursor is one of order={written!r}, and this search has order={str(order)!r}.")
    return after


_read_cursor: Final = msgspec.json.Decoder(tuple[str, int | None, str]).decode
