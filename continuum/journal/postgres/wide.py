"""Here lives how a statement reads numbers that travel in wide arrays.

A few arrays, row after row, are read by subscript, which costs nothing where there is no NULL (-1 stands for it). Each
further array of an ``unnest`` costs a store of its own, and each further parameter its parsing: together a quarter of
a commit of one run. Texts have to be unnested: finding the n-th is a walk.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Sequence
from typing import Final

__all__ = ["NONE", "numbers", "rows"]

NONE: Final = -1  # NULL among numbers


def numbers(parameter: str, row: str, names: Sequence[str]) -> str:
    """Return the columns of a wide array, each as a subscript of ``row`` (from 1)."""
    width = len(names)
    return ", ".join(
        f"({parameter}::bigint[])[{width} * {row} - {width - at}] as {name}" for at, name in enumerate(names, 1)
    )


def rows(parameter: str, first: str, *others: str) -> str:
    """Return a wide array as a relation; planned as a row or two, so that what it joins is found by index."""
    width = len(others) + 1
    columns = "".join(f", ({parameter}::bigint[])[k + {at}] as {name}" for at, name in enumerate(others, 1))
    return (
        f"(select v as {first}{columns} from unnest({parameter}::bigint[]) with ordinality as x(v, k)"
        f" where k % {width} = 1)"
    )
