"""Here live the fixtures of the runtime's integration suite: the same tests on memory, on Postgres, and on a Postgres
whose every hint is lost."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from continuum import Continuum
from continuum.journal.open import open_journal
from continuum.journal.protocol import Journal
from tests.support.deaf import DeafJournal


@pytest.fixture(params=["memory", "postgres", "deaf"])
def journal(request: pytest.FixtureRequest) -> Iterator[Journal]:
    wing = request.param
    url = "memory://" if wing == "memory" else request.getfixturevalue("database_url")
    opened = open_journal(url)
    yield DeafJournal(opened) if wing == "deaf" else opened
    opened.close()


@pytest.fixture
def continuum(journal: Journal) -> Iterator[Continuum]:
    """Yield an instance whose floor poll is quick, so that the deaf wing is slow and not endless."""
    with Continuum(
        journal=journal,
        poll_interval=timedelta(milliseconds=50),
        lease_ttl=timedelta(seconds=5),
        heartbeat_interval=timedelta(seconds=1),
        reap_interval=timedelta(milliseconds=500),
        stuck_backoff=timedelta(milliseconds=200),
        concurrency=4,
    ) as instance:
        yield instance
