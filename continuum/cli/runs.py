"""Here live ``continuum runs`` and ``continuum show``."""

from datetime import UTC, datetime, timedelta

import click
import msgspec

from continuum.cli.conditions import parse_conditions
from continuum.cli.reasons import Reasons
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
from continuum.cli.terminal import plain
from continuum.client.findings import say_count
from continuum.client.instance import Continuum
from continuum.client.showing import Screen
from continuum.client.timeline import StepKind, ending_of, timeline
from continuum.model.events import EventType
from continuum.model.runs import RunState
from continuum.model.search import DEFAULT_ORDER, MAX_PAGE

__all__ = ["database_time", "list_command", "show_command"]


@click.command("runs")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="FIELD=VALUE, or with !=, <, <=, >, >=, ~ (contains): attributes.customer=7. May be repeated; all must hold.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in RunState]),
    help="Only this state; may be repeated.",
)
@click.option("--workflow", help="Only runs of this workflow.")
@click.option("--namespace", help="Only runs in this namespace.")
@click.option(
    "--order",
    default=DEFAULT_ORDER,
    show_default=True,
    metavar="FIELD",
    help="created_at, id, started_at or completed_at; with a - in front the greatest first.",
)
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True)
@click.option("--cursor", help="Continue where the page that printed this cursor ended; with the same order.")
@command_options
@pass_shell
def list_command(
    shell: Shell,
    *,
    conditions: tuple[str, ...],
    states: tuple[str, ...],
    workflow: str | None,
    namespace: str | None,
    order: str,
    limit: int,
    cursor: str | None,
) -> None:
    """Search for runs; without conditions all of them, newest first."""
    where = parse_conditions(conditions)
    if states:
        where.append(("state", list(states)))
    if workflow is not None:
        where.append(("workflow", workflow))
    instance = shell.instance
    page = instance.search(where, order=order, limit=limit, cursor=cursor, namespace=namespace)
    if shell.as_json:
        screen = Screen(instance.settings.redact)
        shell.emit({"runs": [run_json(screen.run(run)) for run in page.runs], "cursor": page.cursor})
        return
    if not page.runs:
        shell.say("No runs.")
        return
    shell.say(runs_table(page.runs, now=database_time(instance)))
    if page.cursor is not None:
        turned = "" if order == DEFAULT_ORDER else f" --order {order}"
        shell.say(f"[dim]more:{turned} --cursor {page.cursor}[/]")


@click.command("show")
@click.argument("run_id", metavar="RUN")
@click.option("--namespace", help="The run must be in this namespace.")
@click.option("--this-run", "exact", is_flag=True, help="Exactly this run, also if another one goes on with it.")
@click.option("--events", "raw", is_flag=True, help="Show the raw history.")
@click.option("--source", "with_source", is_flag=True, help="Show the source of the code it is pinned to.")
@click.option(
    "--max-payload-bytes",
    "most",
    type=click.IntRange(min=0),
    help="Say only how large a value is that takes more than this.",
)
@command_options
@pass_shell
def show_command(
    shell: Shell,
    *,
    run_id: str,
    namespace: str | None,
    exact: bool,
    raw: bool,
    with_source: bool,
    most: int | None,
) -> None:
    """Show one run: what it did, line by line, how it ended, or why it is not moving.

    A run that was continued stands for its chain, and the last run of that is shown.
    """
    instance = shell.instance
    named = instance.get(run_id, namespace=namespace)
    run = named
    if named.state is RunState.CONTINUED and not exact:
        run = instance.handle(named.id, namespace=namespace).refresh()
    run = Screen(instance.settings.redact).run(run)
    events = instance.history(run.id, namespace=namespace, max_payload_bytes=most)
    tasks = instance.tasks(run.id, namespace=namespace)
    now = database_time(instance)
    findings = Reasons(instance, run, workers=instance.list_workers(), now=now).find(events, tasks)
    steps = timeline(events, tasks)
    ending = ending_of(events)
    published = {event.name or "": event.payload for event in events if event.type == EventType.VALUE_PUBLISHED}
    children = [step.run for step in steps if step.kind is StepKind.CHILD]
    if shell.as_json:
        document = {
            "run": run_json(run),
            "ending": ending_json(ending),
            "steps": [step_json(step) for step in steps],
            "findings": findings,
            "progress": {name: msgspec.Raw((payload or "null").encode()) for name, payload in published.items()},
            "children": children,
            "events": [event_json(event) for event in events] if raw else None,
            "source": instance.source(run.id) if with_source else None,
        }
        shell.emit(document)
        return
    if run.id != named.id:
        note = f"{named.id} was continued: this is {run.id}, the last run of chain {run.chain_id} (but for --this-run)"
        shell.say(f"[dim]{note}[/]", "")
    shell.say(run_header(run, now=now, ending=ending, progress=published), "")
    if raw:
        shell.say(events_table(events))
    elif steps:
        shell.say(timeline_table(steps, started=run.created_at, now=now))
    else:
        shell.say("It has asked for nothing." if run.ended else "It has asked for nothing yet.")
    if children:
        count = say_count(len(children), "child", "children")
        shell.say("", f"[dim]It has started {count}: `continuum tree {run.id}`[/]")
    if run.state is RunState.CONTINUED:
        shell.say("", f"[dim]Another run goes on with it: `continuum runs --where chain_id={run.chain_id}`[/]")
    if with_source:
        source = instance.source(run.id)
        shell.say("", f"[bold]Its code, {run.version_hash}[/]", "")
        shell.say("It is not on record: no dispatcher has had it loaded." if source is None else plain(source.rstrip()))
    if findings:
        shell.say("", "[bold]Why it is where it is[/]", *map(finding_line, findings))


def database_time(instance: Continuum) -> datetime:
    """Return the present as the database sees it: ages must not depend on this host's clock."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=instance.journal.clock.now_us())
