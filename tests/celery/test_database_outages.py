"""The database is away while Celery workers run activities."""

import time

import pytest

from continuum.journal.open import migrate_database
from continuum.journal.postgres.embedded import EmbeddedPostgres
from tests.celery.stage import Stage
from tests.support.eventually import eventually


@pytest.fixture
def database_url(own_postgres: EmbeddedPostgres) -> str:
    """Return the URL of a server of this test's own, to take away."""
    migrate_database(own_postgres.url)
    return own_postgres.url


@pytest.mark.timeout(120)
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_an_outage_longer_than_a_lease_ends_no_attempt_that_runs(stage: Stage, own_postgres: EmbeddedPostgres) -> None:
    stage.worker(concurrency=2)
    stage.dispatcher()
    handles = [stage.continuum.start("shop.call", "hold", [f"h{n}", "gate"]) for n in range(2)]
    stage.begun(2)
    with own_postgres.outage():
        down = stage.ledger("begin")[-1]["at"]
        eventually(lambda: time.time() - down > 10, 20)  # the lease is 3 s
    back = time.time()
    eventually(lambda: time.time() - back > 10, 20)
    stage.open("gate")
    assert [handle.result(timeout=40) for handle in handles] == ["h0", "h1"]
    assert [line["attempt"] for line in stage.ledger("begin")] == [1, 1]
