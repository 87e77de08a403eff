"""Here lives what the fixtures of the pytest plugin hand out. The plugin imports it when the first of them is used."""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from continuum.client.instance import Continuum
from continuum.declare.registry import REGISTRY
from continuum.errors import ConfigError
from continuum.journal.open import make_scratch_databases, start_embedded_database
from continuum.testing.histories import Kept, assert_replays, dump_history
from continuum.testing.processes import WorkerProcesses

__all__ = ["Keep", "history_keeper", "memory_instance", "postgres_instance", "scratch_databases", "worker_processes"]

# A test has no time for the patience of a production system.
_QUICK: Final = timedelta(milliseconds=50)

Keep = Callable[..., None]
"""``keep(run, "name")``: assert that the kept history of this name replays; with the option, keep this run's first."""


@contextmanager
def memory_instance() -> Iterator[Continuum]:
    """Yield an instance on a memory journal of its own, with the engine running in threads."""
    with Continuum("memory://", poll_interval=_QUICK) as instance, instance.running():
        yield instance


@contextmanager
def scratch_databases(url: str | None, *, session: str | None) -> Iterator[Any]:
    """Yield the maker of databases, on the given server or on one that is started.

    :param session: name of the test session; processes that have the same share the server that is started. None for a
        process that is alone.
    """
    # Each process has its own template: whoever made it knows when it can go.
    process = secrets.token_hex(6)
    if url is not None:
        made = make_scratch_databases(url, session=process)
        yield made
        made.drop_template()
        return
    # Root starts the server as another user, who has to reach the directory.
    parent = "/tmp" if os.geteuid() == 0 else tempfile.gettempdir()  # noqa: S108 - its own directory in there is private
    directory = None if session is None else Path(parent) / f"continuum-pytest-{session}"
    with start_embedded_database(directory, fast=True) as server:
        yield make_scratch_databases(server.url, session=process)


@contextmanager
def postgres_instance(databases: Any) -> Iterator[Continuum]:
    """Yield an instance on a new database; nothing runs on it."""
    with databases.fresh() as url, Continuum(url, poll_interval=_QUICK) as instance:
        yield instance


@contextmanager
def worker_processes(instance: Continuum, directory: Path) -> Iterator[WorkerProcesses]:
    """Yield what starts dispatchers on the instance's database."""
    with WorkerProcesses(instance, directory) as processes:
        yield processes


def history_keeper(directory: Path, *, update: bool) -> Keep:
    """Return what compares runs with the histories in a directory, and writes them if ``update``."""

    def keep(run: Kept, name: str) -> None:
        path = directory / f"{name}.json"
        recorded = dump_history(run, path if update else None)
        if not path.exists():
            message = f"there is no history {path}: record it with --continuum-update-histories"
            raise AssertionError(message)
        flow = REGISTRY.find_workflow(recorded.workflow, recorded.version)
        if flow is None:
            message = f"workflow {recorded.workflow!r} is not declared by a decorator: use assert_replays() itself."
            raise ConfigError(message)
        assert_replays(flow, path)  # type: ignore[arg-type] # the registry of the decorators holds workflows

    return keep
