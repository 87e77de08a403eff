"""Each test in here runs on both wings of the journal."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest

from continuum.journal.memory import MemoryJournal
from continuum.journal.protocol import Journal
from continuum.model.ids import WorkerId
from tests.support.dispatches import age_in_memory, age_in_postgres
from tests.support.journals import Desk, row_locked


@pytest.fixture(params=["memory", "postgres"])
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    """Yield a fresh journal with a line to it, on one wing after the other."""
    if request.param == "memory":
        memory = MemoryJournal()
        made = Desk(memory, wing="memory", locked=memory.locked)
        yield made
        made.close()
        memory.close()
        return
    from continuum.journal.open import open_journal

    url = request.getfixturevalue("database_url")
    journal = open_journal(url)
    try:
        made = Desk(journal, wing="postgres", locked=partial(row_locked, url))
        yield made
        made.close()
    finally:
        journal.close()


@pytest.fixture
def journal(desk: Desk) -> Journal:
    """Return the journal alone."""
    return desk.journal


@pytest.fixture
def worker(desk: Desk) -> WorkerId:
    """Return a registered, living worker."""
    return desk.make_worker()


@pytest.fixture
def other(desk: Desk) -> WorkerId:
    """Return another one."""
    return desk.make_worker()


@pytest.fixture
def age(desk: Desk, request: pytest.FixtureRequest) -> Callable[[timedelta], None]:
    """Return what makes all task rows older: their deadlines and limits come nearer, no lease of a worker does."""
    if isinstance(desk.journal, MemoryJournal):
        return partial(age_in_memory, desk.journal)
    return partial(age_in_postgres, request.getfixturevalue("database_url"))
