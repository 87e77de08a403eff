"""Here lives reading runs. Whoever names a namespace sees nothing outside it."""

from collections.abc import Iterable, Sequence
from typing import Any

from continuum.client.access import Access
from continuum.client.checks import check_namespace, check_run_id
from continuum.declare.workflows import Workflow
from continuum.errors import ConfigError, RunNotFound
from continuum.journal.protocol import RunPage
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.names import is_storable
from continuum.model.runs import Run, RunState
from continuum.model.tasks import TaskRecord

__all__ = ["MAX_PAGE", "find_run", "get_run", "list_runs", "read_history", "read_tasks", "tip_of"]

MAX_PAGE = 1_000
# Events of one statement: a long history must not become one huge answer.
_CHUNK = 5_000


def find_run(access: Access, run_id: str, *, namespace: str | None = None) -> Run | None:
    """Return the run, None if there is none."""
    namespace = check_namespace(namespace)
    try:
        known = check_run_id(run_id)
    except RunNotFound:
        return None
    return access.journal.runs.find(known, namespace=namespace)


def get_run(access: Access, run_id: str, *, namespace: str | None = None) -> Run:
    """Return the run. Raises ``RunNotFound``."""
    namespace = check_namespace(namespace)
    known = check_run_id(run_id)
    run = access.journal.runs.find(known, namespace=namespace)
    if run is None:
        raise not_found(known, namespace)
    return run


def tip_of(access: Access, run_id: str, *, namespace: str | None = None) -> Run:
    """Return the last run of the run's chain. Raises ``RunNotFound``."""
    namespace = check_namespace(namespace)
    known = check_run_id(run_id)
    run = access.journal.runs.find(known, namespace=namespace, tip=True)
    if run is None:
        raise not_found(known, namespace)
    return run


def not_found(run_id: RunId, namespace: str | None) -> RunNotFound:
    """Return the error to raise."""
    place = "" if namespace is None else f" in namespace {namespace!r}"
    return RunNotFound(f"there is no run {run_id}{place}", run_id=run_id)


def read_history(access: Access, run_id: str, *, namespace: str | None = None, after: int = 0) -> list[Event]:
    """Return the run's events with a sequence number above ``after``. Raises ``RunNotFound``."""
    if isinstance(after, bool) or not isinstance(after, int):
        message = f"after={after!r} is not valid: write the sequence number of an event."
        raise ConfigError(message)
    run = get_run(access, run_id, namespace=namespace)
    events: list[Event] = []
    if after > run.last_seq:
        return events
    after = max(after, 0)
    while True:
        chunk = access.journal.runs.history(run.id, after=after, limit=_CHUNK)
        events += chunk
        if len(chunk) < _CHUNK:
            return events
        after = chunk[-1].seq


def list_runs(
    access: Access,
    *,
    namespace: str | None,
    states: Sequence[RunState | str],
    workflow: Workflow[..., Any] | str | None,
    limit: int,
    cursor: str | None,
) -> RunPage:
    """Return a page of runs, newest first. Raises ``ConfigError``, and ``ValueError`` on a cursor of another origin."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        message = f"limit={limit!r} is not valid: write a whole number from 1 to {MAX_PAGE}."
        raise ConfigError(message)
    if cursor is not None and not isinstance(cursor, str):
        message = f"cursor={cursor!r:.100} is not valid: pass the cursor of the page before, or None."
        raise ConfigError(message)
    return access.journal.runs.list_runs(
        namespace=check_namespace(namespace),
        states=_states(states),
        workflow=_workflow_name(workflow),
        limit=limit,
        cursor=cursor,
    )


def read_tasks(access: Access, run_id: str, *, namespace: str | None = None) -> list[TaskRecord]:
    """Return the task rows of the run's activities that have not ended. Raises ``RunNotFound``."""
    run = get_run(access, run_id, namespace=namespace)
    return access.journal.tasks.of_run(run.id)


def _states(given: object) -> list[RunState]:
    wanted = [given] if isinstance(given, str) else given
    if not isinstance(wanted, Iterable):
        message = f"states={given!r:.100} is not valid: write a list of run states, empty for all of them."
        raise ConfigError(message)
    return [_state(state) for state in wanted]


def _state(text: object) -> RunState:
    try:
        return RunState(text)  # type: ignore[arg-type]
    except ValueError:
        message = f"there is no run state {text!r}; there are {', '.join(RunState)}."
        raise ConfigError(message) from None


def _workflow_name(workflow: object) -> str | None:
    if workflow is None or isinstance(workflow, Workflow):
        return None if workflow is None else workflow.name
    # Not the check of declarations: asking for a name that no workflow can have is no error, only a text must it be.
    if not isinstance(workflow, str) or not is_storable(workflow):
        message = f"workflow={workflow!a:.100} is not valid: write a workflow or its name."
        raise ConfigError(message)
    return workflow
