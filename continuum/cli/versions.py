"""Here live ``continuum versions``, its ``check`` for deploy pipelines, and its ``retire``."""

from collections.abc import Sequence
from datetime import datetime

import click
import msgspec
from rich.table import Table

from continuum.cli.patches import patches_command
from continuum.cli.runs import database_time
from continuum.cli.shell import ExitCode, Shell, command_options, pass_shell
from continuum.cli.terminal import plain
from continuum.client.findings import say_count, say_duration
from continuum.client.versions import Standing, VersionStatus

__all__ = ["versions_command"]

_STYLES = {
    Standing.LOADED: "green",
    Standing.REPLACED: "yellow",
    Standing.MISSING: "bold red",
    Standing.RETIRABLE: "cyan",
    Standing.IDLE: "dim",
}
_HASH = 12


@click.group("versions", invoke_without_command=True)
@command_options
@pass_shell
@click.pass_context
def versions_command(context: click.Context, shell: Shell) -> None:
    """List the versions of workflows: who has them loaded, which runs need them, what can go."""
    if context.invoked_subcommand is not None:
        return
    instance = shell.instance
    versions = instance.versions()
    if shell.as_json:
        shell.emit({"versions": [_as_json(version) for version in versions]})
        return
    if not versions:
        shell.say("No versions: no dispatcher has ever been started on this database.")
        return
    shell.say(_table(versions, now=database_time(instance)))


@versions_command.command("check")
@click.option(
    "--strict", is_flag=True, help="Only the very code that runs are pinned to counts, not another of its version."
)
@command_options
@pass_shell
def check_command(shell: Shell, *, strict: bool) -> None:
    """Look whether the code of the app (-A) can go on with all open runs. Exits with 1 if some are left out.

    Without --strict other code of the same version is enough: whether it can adopt a run is seen when it is replayed
    (`continuum replay --open` does that beforehand).
    """
    instance = shell.instance
    found = instance.check_versions(strict=strict)
    if shell.as_json:
        shell.emit(
            {
                "ready": found.ready,
                "strict": found.strict,
                "required": found.required,
                "loaded": found.loaded,
                "missing": [_as_json(version) for version in found.missing],
            }
        )
    else:
        what = "piece of code" if strict else "version"
        required = say_count(found.required, what, "pieces of code" if strict else None)
        shell.say(
            f"Open runs need {required}; {found.loaded:,} loaded here, {found.required - found.loaded:,} missing."
        )
        if found.missing:
            shell.say("", _table(found.missing, now=database_time(instance)))
    click.get_current_context().exit(ExitCode.DONE if found.ready else ExitCode.ERROR)


@versions_command.command("retire")
@click.option("--execute", is_flag=True, help="Delete them; without it they are only listed.")
@command_options
@pass_shell
def retire_command(shell: Shell, *, execute: bool) -> None:
    """Delete the recorded source of versions that no open run is pinned to and nobody has loaded.

    Of workflows that nobody has loaded at all everything stays: another app may have them.
    """
    instance = shell.instance
    found = instance.retire_versions(execute=execute)
    if shell.as_json:
        shell.emit({"executed": execute, "versions": [_as_json(version) for version in found]})
        return
    if not found:
        shell.say("Nothing to retire.")
        return
    shell.say(_table(found, now=database_time(instance)), "")
    said = say_count(len(found), "version")
    shell.say(f"{said} retired." if execute else f"{said} can be retired: add --execute.")


def _table(versions: Sequence[VersionStatus], *, now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("WORKFLOW", overflow="fold")
    for column in ("VERSION", "HASH", "OPEN", "STUCK", "DISPATCHERS"):
        table.add_column(column, no_wrap=True, justify="left" if column == "HASH" else "right")
    for column in ("HERE", "FIRST SEEN", "STANDING"):
        table.add_column(column, no_wrap=True)
    for one in versions:
        seen = "never" if one.first_seen is None else f"{say_duration(now - one.first_seen)} ago"
        table.add_row(
            plain(one.workflow),
            str(one.version),
            plain(one.hash[:_HASH]),
            f"{one.open_runs:,}",
            f"{one.stuck_runs:,}" if one.stuck_runs else "",
            f"{one.dispatchers:,}",
            "yes" if one.loaded_here else "",
            seen,
            f"[{_STYLES[one.standing]}]{one.standing}[/]",
        )
    return table


def _as_json(version: VersionStatus) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(version, builtin_types=(datetime,))
    return fields


versions_command.add_command(patches_command)
