"""Fixtures of the Celery executor's unit tests: a journal in memory, with tasks that were dispatched."""

from collections.abc import Iterator

import pytest

from tests.support.celery_bench import CeleryBench


@pytest.fixture
def celery_bench() -> Iterator[CeleryBench]:
    """Yield a bench whose instance, journal and worker are its own."""
    made = CeleryBench()
    yield made
    made.close()
