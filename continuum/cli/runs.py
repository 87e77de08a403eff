"""Here live ``continuum runs`` and ``continuum show``."""

from datetime import UTC, datetime, timedelta

import click

from continuum.cli.render import (
    ending_json,
    event_json,
    events_table,
    finding_line,
    run_header,
    run_json,
    runs_table,
    step_json,
    timeline_table,
)
from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.client.diagnosis import diagnose
from continuum.client.instance import Continuum
from continuum.client.lookups import MAX_PAGE
from continuum.client.timeline import ending_of, timeline
from continuum.model.runs import RunState

__all__ = ["list_command", "show_command"]


@click.command("runs")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in RunState]),
    help="Only this state; may be repeated.",
)
@click.option("--workflow", help="Only runs of this workflow.")
@click.option("--namespace", help="Only runs in this namespace.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True)
@click.option("--cursor", help="Continue where the page that printed this cursor ended.")
@command_options
@pass_shell
def list_command(
    shell: Shell,
    *,
    states: tuple[str, ...],
    workflow: str | None,
    namespace: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List runs, newest first."""
    instance = shell.instance
    try:
        page = instance.list_runs(
            states=list(map(RunState, states)), workflow=workflow, namespace=namespace, limit=limit, cursor=cursor
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cursor") from error
    if shell.as_json:
        shell.emit({"runs": [run_json(run) for run in page.runs], "cursor": page.cursor})
        return
    if not page.runs:
        shell.say("No runs.")
        return
    shell.say(runs_table(page.runs, now=database_time(instance)))
    if page.cursor is not None:
        shell.say(f"[dim]more: --cursor {page.cursor}[/]")


@click.command("show")
@click.argument("run_id", metavar="RUN")
@click.option("--namespace", help="The run must be in this namespace.")
@click.option("--events", "raw", is_flag=True, help="Show the raw history.")
@command_options
@pass_shell
def show_command(shell: Shell, *, run_id: str, namespace: str | None, raw: bool) -> None:
    """Show one run: what it did, line by line, how it ended, or why it is not moving."""
    instance = shell.instance
    run = instance.get(run_id, namespace=namespace)
    events = instance.history(run.id, namespace=namespace)
    tasks = instance.tasks(run.id, namespace=namespace)
    now = database_time(instance)
    findings = diagnose(run, events=events, tasks=tasks, workers=instance.list_workers(), now=now)
    steps = timeline(events, tasks)
    ending = ending_of(events)
    if shell.as_json:
        document = {
            "run": run_json(run),
            "ending": ending_json(ending),
            "steps": [step_json(step) for step in steps],
            "findings": findings,
            "events": [event_json(event) for event in events] if raw else None,
        }
        shell.emit(document)
        return
    shell.say(run_header(run, now=now, ending=ending), "")
    if raw:
        shell.say(events_table(events))
    elif steps:
        shell.say(timeline_table(steps, started=run.created_at, now=now))
    else:
        shell.say("It has asked for nothing." if run.ended else "It has asked for nothing yet.")
    if findings:
        shell.say("", "[bold]Why it is where it is[/]", *map(finding_line, findings))


def database_time(instance: Continuum) -> datetime:
    """Return the present as the database sees it: ages must not depend on this host's clock."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=instance.journal.clock.now_us())
