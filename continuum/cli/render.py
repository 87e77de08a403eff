"""Here lives how runs look in a terminal, and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from continuum.cli.terminal import harmless, plain
from continuum.client.findings import Finding, Weight, say_duration
from continuum.client.timeline import Ending, Step, StepState, moment
from continuum.model.events import Event
from continuum.model.runs import Run, RunState

__all__ = [
    "ending_json",
    "event_json",
    "events_table",
    "finding_line",
    "run_header",
    "run_json",
    "runs_table",
    "state_text",
    "step_json",
    "timeline_table",
]

_STATE_STYLES = {
    RunState.PENDING: "yellow",
    RunState.RUNNING: "cyan",
    RunState.SUSPENDED: "blue",
    RunState.STUCK: "bold red",
    RunState.COMPLETED: "green",
    RunState.FAILED: "red",
    RunState.CANCELLED: "magenta",
    RunState.TERMINATED: "magenta",
    RunState.CONTINUED: "dim",
}
_STEP_STYLES = {
    StepState.WAITING: "blue",
    StepState.RETRYING: "yellow",
    StepState.RUNNING: "cyan",
    StepState.DONE: "green",
    StepState.FAILED: "red",
    StepState.TIMED_OUT: "yellow",
    StepState.CANCELLING: "magenta",
    StepState.CANCELLED: "magenta",
    StepState.LEFT: "dim",
}
_WEIGHT_MARKS = {Weight.BLOCKED: "[bold red]✗[/]", Weight.SLOW: "[yellow]![/]", Weight.FINE: "[green]·[/]"}
_SHORT = 60
_NOTHING: Mapping[str, str | None] = {}
# Characters of a result or a message: what is longer is shown whole by --json.
_LONG = 2_000


def state_text(state: RunState) -> Text:
    """Return a state in its colour."""
    return Text(str(state), style=_STATE_STYLES[state])


def runs_table(runs: Sequence[Run], *, now: datetime) -> Table:
    """Return runs as a table, one line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("RUN", "WORKFLOW", "STATE", "NAMESPACE", "CREATED", "TOOK"):
        table.add_column(column, no_wrap=column in {"RUN", "STATE"}, overflow="fold")
    for run in runs:
        took = "" if run.duration is None else say_duration(run.duration)
        age = f"{say_duration(now - run.created_at)} ago"
        name = plain(f"{run.workflow} v{run.version}")
        table.add_row(run.id, name, state_text(run.state), plain(run.namespace), age, took)
    return table


def run_header(
    run: Run, *, now: datetime, ending: Ending | None = None, progress: Mapping[str, str | None] = _NOTHING
) -> Table:
    """Return what the run row says, what the run has published, and how it ended."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, value: object) -> None:
        if value is not None and str(value):
            table.add_row(name, value if isinstance(value, Text) else plain(str(value)))

    row("run", run.id)
    row("workflow", f"{run.workflow} version {run.version} ({run.version_hash[:12]})")
    row("state", state_text(run.state))
    if run.stuck_since is not None and run.state is RunState.STUCK:
        row("stuck since", f"{_clock(run.stuck_since)} ({say_duration(now - run.stuck_since)} ago)")
    row("namespace", run.namespace)
    row("key", run.idempotency_key)
    row("attributes", msgspec.json.encode(run.attributes).decode() if run.attributes else None)
    row("created", f"{_clock(run.created_at)} ({say_duration(now - run.created_at)} ago)")
    if run.started_at is not None:
        row("started", f"{_clock(run.started_at)} (after {say_duration(run.started_at - run.created_at)})")
    if run.completed_at is not None:
        row("ended", f"{_clock(run.completed_at)} (took {say_duration(run.completed_at - run.created_at)})")
    if run.continued_from is not None:
        row("continued from", run.continued_from)
    row("parent", None if run.parent_id is None else f"{run.parent_id} (when that ends: {run.parent_close})")
    if run.cancel_requested_at is not None:
        row("asked to cancel", f"{_clock(run.cancel_requested_at)} ({say_duration(now - run.cancel_requested_at)} ago)")
    row("owner", run.lease_owner)
    row("events", run.last_seq)
    for name, payload in progress.items():
        row(f"published {plain(name)}", _cut(payload or "null"))
    if ending is not None:
        if ending.failure is not None:
            row("error", Text(_cut(harmless(f"{ending.failure.type_name}: {ending.failure.message}")), style="red"))
            row("traceback", Text(harmless(ending.failure.traceback.rstrip())))
        row("reason", ending.reason)
        row("result", None if ending.result is None else _cut(ending.result))
        row("goes on with", None if ending.continued_with is None else _cut(ending.continued_with))
    return table


def timeline_table(steps: Sequence[Step], *, started: datetime, now: datetime) -> Table:
    """Return a run's steps: when each was asked for (since the start), how long it took, from which line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column("AT", justify="right", no_wrap=True)
    table.add_column("WHAT", overflow="fold")
    table.add_column("STATE", no_wrap=True)
    table.add_column("TOOK", justify="right", no_wrap=True)
    table.add_column("CODE", style="dim", overflow="fold")
    table.add_column("", overflow="ellipsis", no_wrap=True)
    for step in steps:
        took = say_duration(now - step.requested_at) + " …" if step.took is None else say_duration(step.took)
        table.add_row(
            str(step.command),
            f"+{say_duration(step.requested_at - started)}",
            plain(f"{step.kind} {step.name}" if step.name != step.kind else str(step.kind)),
            Text(str(step.state), style=_STEP_STYLES[step.state]),
            took,
            plain(step.location or ""),
            plain(_detail(step)),
        )
    return table


def _detail(step: Step) -> str:
    if step.failure is not None:
        tries = f" after {step.failure.attempts} attempts" if step.failure.attempts > 1 else ""
        return _short(f"{step.failure.type_name}: {step.failure.message}{tries}")
    if step.task is not None and step.task.attempt > 1:
        return f"attempt {step.task.attempt} of {step.task.max_attempts}"
    said = [
        "" if step.undoes is None else f"undoes #{step.undoes}",
        "" if step.undone_by is None else f"undone by #{step.undone_by}",
        "" if step.run is None else f"→ {step.run}",
        "" if step.key is None else f"key {step.key!r}",
        "" if step.outcome in {None, "null"} else _short(str(step.outcome)),
    ]
    return " · ".join(filter(None, said))


def events_table(events: Sequence[Event]) -> Table:
    """Return the raw history."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SEQ", "AT", "EVENT", "#", "NAME", "CODE", "PAYLOAD"):
        table.add_column(column, overflow="ellipsis" if column == "PAYLOAD" else "fold", no_wrap=column == "PAYLOAD")
    for event in events:
        number = "" if event.command is None else str(event.command)
        cells = (str(event.seq), _clock(moment(event.at)), event.type, number, event.name or "", event.location or "")
        table.add_row(*map(plain, cells), plain(_short(event.payload or "")))
    return table


def finding_line(finding: Finding) -> str:
    """Return one finding as a line of markup."""
    remedy = f"\n    [dim]→ {plain(finding.remedy)}[/]" if finding.remedy else ""
    return f"  {_WEIGHT_MARKS[finding.weight]} {plain(finding.text)}{remedy}"


def ending_json(ending: Ending | None) -> dict[str, Any] | None:
    """Return how a run ended as plain data; None while it goes on."""
    if ending is None:
        return None
    failure = ending.failure
    return {
        "at": ending.at,
        "result": _raw(ending.result),
        "continued_with": _raw(ending.continued_with),
        "error": None
        if failure is None
        else {"type": failure.type_name, "message": failure.message, "traceback": failure.traceback},
        "reason": ending.reason,
    }


def run_json(run: Run) -> dict[str, Any]:
    """Return a run as plain data."""
    fields: dict[str, Any] = msgspec.to_builtins(run, builtin_types=(datetime,))
    return {**fields, "ended": run.ended}


def event_json(event: Event) -> dict[str, Any]:
    """Return an event as plain data; its payload is JSON already."""
    return {
        "seq": event.seq,
        "type": str(event.type),
        "command": event.command,
        "name": event.name,
        "at": moment(event.at),
        "location": event.location,
        "payload": _raw(event.payload),
    }


def step_json(step: Step) -> dict[str, Any]:
    """Return a step as plain data."""
    return {
        "command": step.command,
        "kind": str(step.kind),
        "name": step.name,
        "state": str(step.state),
        "requested_at": step.requested_at,
        "ended_at": step.ended_at,
        "due_at": step.due_at,
        "seconds": None if step.took is None else step.took.total_seconds(),
        "location": step.location,
        "outcome": _raw(step.outcome),
        "attempt": None if step.task is None else step.task.attempt,
        "run": step.run,
        "key": step.key,
        "undoes": step.undoes,
        "undone_by": step.undone_by,
    }


def _raw(payload: str | None) -> msgspec.Raw | None:
    return None if payload is None else msgspec.Raw(payload.encode())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}… ({len(text):,} characters; --json shows all)"


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC"
