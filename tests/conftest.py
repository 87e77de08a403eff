"""Here live the fixtures every test may use: a Postgres server, a database per test, real processes.
 `CONTINUUM_TEST_DATABASE_URL` names a server to use (its user must be allowed to create databases); without
it the tests start an embedded one. Nothing here looks at `CONTINUUM_DATABASE_URL`: tests never touch a user's
database."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum.journal.postgres.embedded import EmbeddedPostgres, start_embedded
from tests.support.databases import Databases
from tests.support.processes import Processes

SESSION_ID = "CONTINUUM_TEST_SESSION"


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a name which xdist workers inherit, and keep a user's settings out of it."""
    if not hasattr(config, "workerinput"):
        os.environ[SESSION_ID] = os.urandom(4).hex()
    for name in [name for name in os.environ if name.startswith("CONTINUUM_")]:
        if not name.startswith("CONTINUUM_TEST_") and name != "CONTINUUM_PARANOID":
            del os.environ[name]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield the URL of the session's server, for administration; xdist workers share one."""
    given = os.environ.get("CONTINUUM_TEST_DATABASE_URL")
    if given:
        yield given
        return
    # Each worker is an owner of the same directory: the first starts the server, the last one stops it.
    parent = "/tmp" if os.geteuid() == 0 else tempfile.gettempdir()
    with start_embedded(Path(parent) / f"continuum-tests-{os.environ[SESSION_ID]}", fast=True) as server:
        yield server.url


@pytest.fixture(scope="session")
def databases(postgres_url: str) -> Databases:
    """Return the maker of databases, for a test that needs two of them, or an empty one."""

    def migrate(url: str) -> None:
        from continuum.journal.postgres.migrate import upgrade

        upgrade(url, schema="public")

    return Databases(postgres_url, prefix=f"continuum_test_{os.environ[SESSION_ID]}", migrate=migrate)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drop the template from a server that outlives us; under xdist the controller does, at the end."""
    given = os.environ.get("CONTINUUM_TEST_DATABASE_URL")
    if given and not hasattr(session.config, "workerinput"):
        prefix = f"continuum_test_{os.environ[SESSION_ID]}"
        Databases(given, prefix=prefix, migrate=lambda _url: None).drop_template()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """Yield the URL of this test's own, migrated database; the test must leave no connection to it open."""
    with databases.fresh() as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """Yield the URL of this test's own database with nothing in it."""
    with databases.fresh(migrated=False) as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """Yield a server of this test's own, to restart and to break; it is not migrated."""
    with start_embedded(fast=True) as server:
        yield server


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Yield a temporary directory that other users can pass through, unlike `tmp_path`."""
    made = Path(tempfile.mkdtemp(prefix="continuum-test-", dir="/tmp" if os.geteuid() == 0 else None)).resolve()
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Start real processes; whatever still runs after the test is killed."""
    with Processes(tmp_path) as started:
        yield started
