"""Here lives the taking out of histories, and the rehearsal of recorded runs with the code that is loaded here."""

from typing import Any

import msgspec

from continuum.client.access import Access
from continuum.client.lookups import get_run, read_events
from continuum.client.showing import Screen
from continuum.declare.registry import WorkflowDeclaration
from continuum.declare.workflows import Workflow
from continuum.errors import ConfigError, ContinuumError, UnknownVersion
from continuum.model.histories import RecordedRun, record
from continuum.model.names import shown
from continuum.model.runs import Run
from continuum.replay.rehearsal import Rehearsal, rehearse

__all__ = ["record_run", "rehearse_run"]


def record_run(access: Access, run_id: str, *, namespace: str | None, raw: bool) -> RecordedRun:
    """Return a run's history as it is stored. Raises ``RunNotFound``, and ``ConfigError`` if it would show too much."""
    if access.settings.redact is not None and raw is not True:
        message = (
            "this instance redacts what it shows, and a redacted history does not replay. dump_history(…, raw=True),"
            " `continuum dump --raw`, writes the payloads as they are stored: keep the file where those may be."
        )
        raise ConfigError(message)
    return _record(access, get_run(access, run_id, namespace=namespace))


def rehearse_run(
    access: Access,
    target: str | RecordedRun,
    *,
    flow: Workflow[..., Any] | str | None = None,
    namespace: str | None = None,
) -> Rehearsal:
    """Step a run, of the journal or written down, through the loaded code.

    Raises ``RunNotFound``, ``UnknownVersion`` if the code is not loaded here.
    """
    if not isinstance(target, str | RecordedRun):
        message = f"{shown(target)} cannot be rehearsed: give the id of a run, or what load_history returned."
        raise ConfigError(message)
    recorded = target
    if isinstance(recorded, str):
        recorded = _record(access, get_run(access, recorded, namespace=namespace))
    declared = _code_of(access, recorded, flow)
    found = rehearse(declared.entry, recorded, spin_limit=access.settings.spin_limit)
    return found if access.settings.redact is None else _screened(found, Screen(access.settings.redact), recorded)


def _record(access: Access, run: Run) -> RecordedRun:
    # No further than the row said: what has been committed since belongs to another state of the run.
    return record(run, (event for event in read_events(access, run.id) if event.seq <= run.last_seq))


def _code_of(access: Access, recorded: RecordedRun, flow: Workflow[..., Any] | str | None) -> WorkflowDeclaration:
    if isinstance(flow, Workflow):
        return flow
    access.import_modules()
    name = recorded.workflow if flow is None else flow
    found = access.registry.find_workflow(name, recorded.version if flow is None else None)
    if found is None:
        what = f"{name!r} version {recorded.version}" if flow is None else repr(name)
        message = (
            f"no code is loaded here for workflow {what}: name its module in Continuum(modules=[…]), import it, or say"
            " with which workflow to replay the run."
        )
        raise UnknownVersion(message, run_id=recorded.run_id)
    return found


def _screened(found: Rehearsal, screen: Screen, recorded: RecordedRun) -> Rehearsal:
    """Return the rehearsal as it is shown by an instance that redacts."""
    return msgspec.structs.replace(
        found,
        error=None if found.error is None else _screened_error(found.error, screen, recorded.workflow),
        before=tuple(map(screen.event, found.before)),
        at=None if found.at is None else screen.event(found.at),
        after=tuple(map(screen.event, found.after)),
        news=tuple(map(screen.event, found.news)),
    )


def _screened_error(error: ContinuumError, screen: Screen, workflow: str) -> ContinuumError:
    made = error.__reduce__()
    (kind, message, fields) = made[1]
    # All that may quote a payload; the rest of an error is ours.
    quoted = {
        name: screen.reason(workflow, value)
        for name, value in fields.items()
        if name in {"recorded", "requested", "difference"} and isinstance(value, str)
    }
    again: ContinuumError = made[0](kind, screen.reason(workflow, message), {**fields, **quoted})
    return again
