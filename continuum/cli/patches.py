"""Here lives ``continuum versions patches``."""

from typing import Any

import click
from rich.table import Table

from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.cli.terminal import plain
from continuum.client.patches import PatchAudit
from continuum.errors import ConfigError

__all__ = ["patches_command"]


@click.command("patches")
@click.option("--removable", is_flag=True, help="Only those that can be removed from the code.")
@command_options
@pass_shell
def patches_command(shell: Shell, *, removable: bool) -> None:
    """List each patched("id") of the app (-A), how open runs answer it, and whether it can go.

    NEW runs have recorded the id, or will when they come to it; OLD ones may have passed the place before it was there;
    of UNKNOWN ones no source is on record. Once no run is old or unknown the old branch can be deleted, and the
    question with it.
    """
    instance = shell.instance
    if shell.app is None:
        raise ConfigError("say whose code to look at: `continuum versions patches -A yourapp`.")
    found = [one for one in instance.patches() if one.removable or not removable]
    if shell.as_json:
        shell.emit({"patches": [_as_json(one) for one in found]})
    elif found:
        shell.say(_table(found))
    else:
        shell.say("No patches." if not removable else "No patches that can be removed.")


def _table(found: list[PatchAudit]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("WORKFLOW", "PATCH", "NEW", "OLD", "UNKNOWN", "", "WHERE"):
        table.add_column(column, overflow="fold", justify="right" if column in {"NEW", "OLD", "UNKNOWN"} else "left")
    for one in found:
        places = "\n".join(f"{site.file}:{site.line} in {site.function}" for site in one.sites)
        table.add_row(
            plain(f"{one.workflow} v{one.version}"),
            plain(one.patch),
            f"{one.taken + one.coming:,}",
            f"{one.refused:,}",
            f"{one.unknown:,}",
            _verdict(one),
            plain(places or "not in the workflow's module"),
        )
    return table


def _verdict(one: PatchAudit) -> str:
    if one.removable:
        return "[green]can be removed[/]"
    return "[yellow]in use[/]" if one.sites else "[dim]not asked here[/]"


def _as_json(one: PatchAudit) -> dict[str, Any]:
    return {
        "workflow": one.workflow,
        "version": one.version,
        "patch": one.patch,
        "removable": one.removable,
        "taken": one.taken,
        "coming": one.coming,
        "refused": one.refused,
        "unknown": one.unknown,
        "sites": [{"file": site.file, "line": site.line, "function": site.function} for site in one.sites],
    }
