"""Here lives the pytest plugin: fixtures and options, and nothing that takes time to import.

pytest imports it in every session of an environment in which Continuum is installed, whatever is tested there. That is
why it stands outside of the package: importing anything below ``continuum`` imports all of it. What the fixtures do is
in ``continuum.testing.fixtures``, which the first one that is used imports.
"""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from continuum import Continuum
    from continuum.testing.fixtures import Keep
    from continuum.testing.processes import WorkerProcesses

__all__ = [
    "continuum_databases",
    "continuum_history",
    "continuum_memory",
    "continuum_postgres",
    "continuum_worker",
]

_PARANOID = "CONTINUUM_PARANOID"
_SERVER = "CONTINUUM_TEST_DATABASE_URL"
_before = pytest.StashKey["str | None"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("continuum", "durable workflows")
    group.addoption(
        "--continuum-database-url",
        metavar="URL",
        help=f"Postgres server on which continuum_postgres makes its databases (default: {_SERVER}, else one is"
        " started)",
    )
    group.addoption(
        "--continuum-paranoid",
        action="store_true",
        help="replay every run before each of its commits, and compare (CONTINUUM_PARANOID=1)",
    )
    group.addoption(
        "--continuum-update-histories",
        action="store_true",
        help="let continuum_history write the histories that it is given",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Turn paranoid mode on for this process and those that it starts."""
    if config.getoption("--continuum-paranoid"):
        config.stash[_before] = os.environ.get(_PARANOID)
        os.environ[_PARANOID] = "1"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the environment as it was."""
    if _before in config.stash:
        before = config.stash[_before]
        if before is None:
            os.environ.pop(_PARANOID, None)
        else:
            os.environ[_PARANOID] = before


def _fixtures() -> Any:
    return importlib.import_module("continuum.testing.fixtures")


@pytest.fixture
def continuum_memory() -> "Iterator[Continuum]":
    """An instance of Continuum without a database, with its engine running in this process."""
    with _fixtures().memory_instance() as instance:
        yield instance


@pytest.fixture(scope="session")
def continuum_databases(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The maker of databases that `continuum_postgres` takes its own from."""
    url = request.config.getoption("--continuum-database-url") or os.environ.get(_SERVER)
    # pytest-xdist gives all of its processes this name; alone there is nobody to share a server with.
    session = getattr(request.config, "workerinput", {}).get("testrunuid")
    with _fixtures().scratch_databases(url, session=session) as databases:
        yield databases


@pytest.fixture
def continuum_postgres(continuum_databases: Any) -> "Iterator[Continuum]":
    """An instance of Continuum on a new, migrated Postgres database; no engine runs on it yet."""
    with _fixtures().postgres_instance(continuum_databases) as instance:
        yield instance


@pytest.fixture
def continuum_worker(continuum_postgres: "Continuum", tmp_path: Path) -> "Iterator[WorkerProcesses]":
    """Start dispatchers as processes, on the database of `continuum_postgres`: ``continuum_worker("myapp")``."""
    with _fixtures().worker_processes(continuum_postgres, tmp_path) as processes:
        yield processes


@pytest.fixture
def continuum_history(request: pytest.FixtureRequest) -> "Keep":
    """Compare runs with histories kept in ``histories/`` beside the test's file: ``continuum_history(run, "name")``."""
    update = request.config.getoption("--continuum-update-histories")
    keep: Keep = _fixtures().history_keeper(request.path.parent / "histories", update=bool(update))
    return keep
