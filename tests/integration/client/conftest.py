"""Here live the fixtures of the client's tests: an instance on either wing, with and without an engine in this
process."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from continuum import Continuum
from continuum.journal.memory.journal import MemoryJournal


@pytest.fixture(params=["memory", "postgres"])
def continuum(request: pytest.FixtureRequest) -> Iterator[Continuum]:
    """Yield an instance; nothing runs in it unless the test says ``running()``."""
    quick = {"poll_interval": timedelta(milliseconds=200), "concurrency": 2}
    if request.param == "memory":
        journal = MemoryJournal()
        with Continuum(journal=journal, **quick) as instance:  # type: ignore[arg-type]
            yield instance
        journal.close()
    else:
        with Continuum(request.getfixturevalue("database_url"), **quick) as instance:  # type: ignore[arg-type]
            yield instance


@pytest.fixture
def postgres(database_url: str) -> Iterator[Continuum]:
    """Yield an instance on Postgres."""
    with Continuum(database_url, poll_interval=timedelta(milliseconds=200), concurrency=2) as instance:
        yield instance
