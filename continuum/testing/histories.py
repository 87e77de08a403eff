"""Here live histories kept as files, and what today's code makes of them.

A kept history is a promise: whoever has such a run in a database can deploy this code. `assert_replays` is about one
history and wants all of it reproduced; `assert_compatible` is for a directory of them, in CI, and answers as a
dispatcher would that takes the runs over: an open run may ask for more, it may not ask for anything else.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from continuum.client.handles import AsyncRunHandle, RunHandle
from continuum.declare.registry import REGISTRY, Registry, WorkflowDeclaration
from continuum.declare.workflows import Workflow
from continuum.errors import HistoryError
from continuum.model import histories
from continuum.model.events import Event, EventType
from continuum.model.histories import RecordedRun
from continuum.replay.rehearsal import rehearse

__all__ = [
    "HistoryReport",
    "HistoryVerdict",
    "Kept",
    "Recordable",
    "assert_compatible",
    "assert_replays",
    "check_histories",
    "dump_history",
    "load_history",
]

R = TypeVar("R")

_ANY: Final[Any] = object()
_SHOWN_EVENTS: Final = 3


@runtime_checkable
class Recordable(Protocol):
    """Whatever can write down the history of its run; a run of the harness is such a thing."""

    def record(self) -> RecordedRun:
        """Return the history so far."""


Kept = RunHandle[Any] | AsyncRunHandle[Any] | RecordedRun | Recordable | str | os.PathLike[str]
"""A history: read already, in a file (a path), or of a run that can be asked for it."""


class HistoryVerdict(StrEnum):
    """What becomes of a run with this history when the code is deployed.

    It goes on; it drifts, or cannot be replayed for another reason (both are stuck then); no code is there for its
    version. The last one is about the file.
    """

    COMPATIBLE = "compatible"
    DRIFT = "drift"
    BROKEN = "broken"
    NO_CODE = "no_code"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryReport:
    """What was found about one history.

    :ivar source: the file, or the id of the run.
    :ivar workflow: empty, as ``run_id`` is, if the file cannot be read.
    :ivar reason: why the run would not go on; empty if it would.
    """

    source: str
    verdict: HistoryVerdict
    run_id: str = ""
    workflow: str = ""
    version: int = 0
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the run would go on."""
        return self.verdict is HistoryVerdict.COMPATIBLE


# -- files -------------------------------------------------------------------------------------------------------------


def dump_history(run: Kept, path: str | os.PathLike[str] | None = None) -> RecordedRun:
    """Return the history of a run, and write it to a file if a path is given; its directory is made.

    :param run: a handle, a run of the harness, or a history that was read before.

    What the instance's ``redact`` changes is changed here, too, and does not replay. Raises ``RunNotFound``, and
    ``HistoryError`` on a file that is no history.
    """
    recorded = _recorded(run)
    if path is not None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(histories.dump_history(recorded), encoding="utf-8")
    return recorded


def load_history(path: str | os.PathLike[str]) -> RecordedRun:
    """Return the history in a file. Raises ``HistoryError`` with the file's name; ``OSError`` if it cannot be read."""
    try:
        return histories.load_history(Path(path).read_bytes())
    except HistoryError as error:
        raise HistoryError(f"{os.fspath(path)}: {error}") from None


def _recorded(run: Kept) -> RecordedRun:
    match run:
        case RecordedRun():
            return run
        case str() | os.PathLike():
            return load_history(run)
        case AsyncRunHandle():
            return _of_handle(run.sync)
        case RunHandle():
            return _of_handle(run)
        case Recordable():
            return run.record()
        case _:
            message = (
                f"{type(run).__name__} is no history: pass a path, what load_history() returned, a handle, or a run of"
                " the harness."
            )
            raise TypeError(message)


def _of_handle(handle: RunHandle[Any]) -> RecordedRun:
    # The events first: what the run does meanwhile only makes the state newer, and nothing compares it.
    events = handle.history()
    return histories.record(handle.refresh(), events)


# -- one history -------------------------------------------------------------------------------------------------------


def assert_replays(
    flow: Workflow[..., R], history: Kept, *, result: R = _ANY, registry: Registry | None = None
) -> R | None:
    """Assert that the code does exactly what a history says: every command, and the end. Return the result.

    :param history: a path, what `load_history` returned, a handle, or a run of the harness.
    :param result: what the run must have returned.
    :param registry: where other versions of the workflow are declared; default that of the decorators.

    The result is None if the run has not completed. Raises ``AssertionError`` that shows the difference,
    ``HistoryError`` if the history is none, or is another workflow's.
    """
    __tracebackhide__ = True  # pytest shows the caller's line, and the message
    recorded = _recorded(history)
    if recorded.workflow != flow.name:
        message = f"the history is of a run of workflow {recorded.workflow!r}, not of {flow.name!r}"
        raise HistoryError(message)
    declared = _declaration(recorded, (flow,), registry)
    if declared is None:
        raise AssertionError(_no_code(recorded, flow.name, registry))
    for inline in (True, False):
        found = rehearse(declared.entry, recorded, inline=inline)
        if found.error is not None:
            raise AssertionError(f"run {recorded.run_id} does not replay: {found.error}") from found.error
        if found.news:
            message = f"the code of {flow.name!r} asks for more than the history of run {recorded.run_id} has: " + (
                _told(found.news)
            )
            raise AssertionError(message)
    end = recorded.events[-1]
    value = declared.decode_result(end.payload or "null") if end.type == EventType.RUN_COMPLETED else None
    if result is not _ANY:
        if end.type != EventType.RUN_COMPLETED:
            raise AssertionError(f"run {recorded.run_id} has returned nothing; its last event is {end.type}")
        if value != result:
            raise AssertionError(f"run {recorded.run_id} returned {value!r}, not {result!r}")
    return value


def _told(events: Sequence[Event]) -> str:
    shown = ", ".join(
        f"{event.type}{'' if event.name is None else ' ' + event.name}" for event in events[:_SHOWN_EVENTS]
    )
    return shown if len(events) <= _SHOWN_EVENTS else f"{shown} and {len(events) - _SHOWN_EVENTS} more"


def _declaration(
    recorded: RecordedRun, flows: Iterable[WorkflowDeclaration], registry: Registry | None
) -> WorkflowDeclaration | None:
    """Return the code a dispatcher would take: the declared version, whatever its hash."""
    for flow in flows:
        if (flow.name, flow.version) == (recorded.workflow, recorded.version):
            return flow
    return (REGISTRY if registry is None else registry).find_workflow(recorded.workflow, recorded.version)


def _no_code(recorded: RecordedRun, name: str, registry: Registry | None) -> str:
    known = [flow.version for flow in (REGISTRY if registry is None else registry).workflows() if flow.name == name]
    declared = ", ".join(str(number) for number in known) or "none"
    return (
        f"run {recorded.run_id} is pinned to version {recorded.version} of {name!r}, and no code declares it (declared:"
        f" {declared}): keep the old function declared under its old number until such runs have ended."
    )


# -- many --------------------------------------------------------------------------------------------------------------


def check_histories(
    flows: Workflow[..., Any] | Iterable[Workflow[..., Any]],
    histories: Kept | Iterable[Kept],
    *,
    registry: Registry | None = None,
) -> tuple[HistoryReport, ...]:
    """Replay all histories of these workflows through today's code, and report on each.

    :param histories: a directory (all ``*.json`` in it and below), a file, anything `assert_replays` takes, or several
        of them. Histories of other workflows are left out; files that are no histories are reported.
    """
    wanted = (flows,) if isinstance(flows, Workflow) else tuple(flows)
    names = {flow.name for flow in wanted}
    reports = []
    for source, kept in _sources(histories):
        try:
            recorded = _recorded(kept)
        except (HistoryError, OSError) as error:
            reports.append(HistoryReport(source=source, verdict=HistoryVerdict.UNREADABLE, reason=str(error)))
            continue
        if recorded.workflow in names:
            reports.append(_report(source or recorded.run_id, recorded, wanted, registry))
    return tuple(reports)


def assert_compatible(
    flows: Workflow[..., Any] | Iterable[Workflow[..., Any]],
    histories: Kept | Iterable[Kept],
    *,
    registry: Registry | None = None,
) -> tuple[HistoryReport, ...]:
    """Assert that runs with these histories would go on under today's code, and return the reports.

    Takes what `check_histories` takes. Raises ``AssertionError`` that tells of each history which would not go on, and
    also if there was no history of one of these workflows: a check that looks at nothing proves nothing.
    """
    __tracebackhide__ = True  # as above
    wanted = (flows,) if isinstance(flows, Workflow) else tuple(flows)
    reports = check_histories(wanted, histories, registry=registry)
    bad = [report for report in reports if not report.ok]
    if bad:
        head = f"{len(bad)} of {len(reports)} histories do not go on under this code:"
        raise AssertionError("\n".join([head, *(f"\n{report.source}: {report.reason}" for report in bad)]))
    without = sorted({flow.name for flow in wanted} - {report.workflow for report in reports})
    if without or not reports:
        where = f" in {os.fspath(histories)}" if isinstance(histories, str | os.PathLike) else ""
        message = f"there is no history of {', '.join(without) or 'any workflow'}{where}: nothing was compared."
        raise AssertionError(message)
    return reports


def _report(
    source: str, recorded: RecordedRun, flows: tuple[WorkflowDeclaration, ...], registry: Registry | None
) -> HistoryReport:
    verdict, reason = HistoryVerdict.COMPATIBLE, ""
    declared = _declaration(recorded, flows, registry)
    if declared is None:
        verdict, reason = HistoryVerdict.NO_CODE, _no_code(recorded, recorded.workflow, registry)
    else:
        found = rehearse(declared.entry, recorded)
        if found.error is not None:
            verdict, reason = HistoryVerdict(found.verdict.value), str(found.error)
    return HistoryReport(
        source=source,
        verdict=verdict,
        run_id=recorded.run_id,
        workflow=recorded.workflow,
        version=recorded.version,
        reason=reason,
    )


def _sources(histories: Kept | Iterable[Kept]) -> Iterable[tuple[str, Kept]]:
    """Yield each history with the name of its file, empty if it has none."""
    if isinstance(histories, str | os.PathLike):
        path = Path(histories)
        found = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        yield from ((str(file), file) for file in found)
    elif isinstance(histories, RunHandle | AsyncRunHandle | RecordedRun | Recordable):
        yield "", histories
    else:
        for one in histories:
            yield from _sources(one)
