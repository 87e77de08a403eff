"""Fixtures of the runtime's tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.pools import PoolBench


@pytest.fixture
def make_bench() -> Iterator[Callable[..., PoolBench]]:
    """Make pools under test; they are stopped afterwards."""
    made: list[PoolBench] = []

    def make(**options: Any) -> PoolBench:
        made.append(PoolBench(**options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., PoolBench]) -> PoolBench:
    """Return a pool of four threads that serves every queue."""
    return make_bench()
