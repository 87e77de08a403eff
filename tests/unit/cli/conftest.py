"""Here lives the store of the app that most tests of the commands use."""

from collections.abc import Iterator

import pytest

from continuum import Continuum
from continuum.journal.memory.journal import MemoryJournal
from tests.unit.cli.shop import URL, continuum


@pytest.fixture
def shop() -> Iterator[Continuum]:
    """Yield an instance of the test's own on the app's store, empty; the commands open and close the app's."""
    MemoryJournal.forget(URL.removeprefix("memory://"))
    with Continuum(URL, concurrency=2) as instance:
        yield instance
    continuum.close()
