"""Here lives reading runs. Whoever names a namespace sees nothing outside it."""

from continuum.client.access import Access
from continuum.client.checks import check_namespace, check_run_id
from continuum.client.showing import Screen
from continuum.errors import ConfigError, RunNotFound
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.names import shown
from continuum.model.runs import Run
from continuum.model.tasks import TaskRecord

__all__ = ["find_run", "get_run", "not_found", "read_events", "read_history", "read_tasks", "tip_of"]

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


def read_history(
    access: Access,
    run_id: str,
    *,
    namespace: str | None = None,
    after: int = 0,
    payloads: bool = True,
    max_payload_bytes: int | None = None,
) -> list[Event]:
    """Return the run's events with a sequence number above ``after``, as they are shown. Raises ``RunNotFound``."""
    screen = Screen(access.settings.redact, payloads=payloads, max_bytes=max_payload_bytes)
    if isinstance(after, bool) or not isinstance(after, int):
        message = f"after={shown(after)} is not valid: write the sequence number of an event."
        raise ConfigError(message)
    run = get_run(access, run_id, namespace=namespace)
    return [] if after > run.last_seq else list(map(screen.event, read_events(access, run.id, after=max(after, 0))))


def read_events(access: Access, run_id: RunId, *, after: int = 0) -> list[Event]:
    """Return the events of a run that exists, as they are stored."""
    events: list[Event] = []
    while True:
        chunk = access.journal.runs.history(run_id, after=after, limit=_CHUNK)
        events += chunk
        if len(chunk) < _CHUNK:
            return events
        after = chunk[-1].seq


def read_tasks(access: Access, run_id: str, *, namespace: str | None = None) -> list[TaskRecord]:
    """Return the task rows of the run's activities that have not ended. Raises ``RunNotFound``."""
    run = get_run(access, run_id, namespace=namespace)
    screen = Screen(access.settings.redact)
    return [screen.task(task) for task in access.journal.tasks.of_run(run.id)]
