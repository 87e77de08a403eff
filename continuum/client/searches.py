"""Here lives the search for runs by what they are: everything that is asked for is checked before anything is asked."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from continuum.client.access import Access
from continuum.client.checks import check_namespace
from continuum.declare.workflows import Workflow
from continuum.journal.protocol import RunPage
from continuum.model.search import parse_query

__all__ = ["Where", "search_runs"]

Where = Mapping[Any, Any] | Iterable[tuple[Any, Any]]
"""Conditions by field, or pairs of field and condition; a field is a text, or a tuple for an attribute's path."""

# A list of workflows behind an operator.
_DEEPEST: Final = 2


def search_runs(
    access: Access,
    where: Where | None,
    *,
    order: str,
    limit: int,
    cursor: str | None,
    namespace: str | None,
) -> RunPage:
    """Return a page of runs. Raises ``SearchError``, and ``ConfigError`` on what is no namespace."""
    query = parse_query(_named(where), order=order, limit=limit, cursor=cursor, namespace=check_namespace(namespace))
    return access.journal.runs.search(query)


def _named(where: Any) -> Any:
    """Return the conditions with names in the place of workflows. What is wrong stays as it is, to be refused."""
    if isinstance(where, str | bytes) or not isinstance(where, Iterable):
        return where
    pairs = where.items() if isinstance(where, Mapping) else where
    return [
        (pair[0], _name_of(pair[1]))
        if isinstance(pair, tuple | list) and len(pair) == 2 and pair[0] == "workflow"  # noqa: PLR2004 - a pair
        else pair
        for pair in pairs
    ]


def _name_of(value: Any, depth: int = 0) -> Any:
    match value:
        case Workflow():
            return value.name
        case _ if depth == _DEEPEST:
            return value
        case Mapping():
            return {op: _name_of(one, depth + 1) for op, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_name_of(one, depth + 1) for one in value]
        case _:
            return value
