"""Here live ``continuum progress`` and ``continuum set-attributes``."""

import click
import msgspec
from rich.table import Table

from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.cli.start import parse_json
from continuum.cli.terminal import plain
from continuum.client.checks import check_namespace, check_run_id
from continuum.client.showing import Screen
from continuum.errors import CodecError, ConfigError

__all__ = ["progress_command", "set_attributes_command"]


@click.command("progress")
@click.argument("run_id", metavar="RUN")
@click.option("--namespace", help="The run must be in this namespace.")
@command_options
@pass_shell
def progress_command(shell: Shell, *, run_id: str, namespace: str | None) -> None:
    """Show the last value that RUN has published under each name."""
    instance = shell.instance
    screen = Screen(instance.settings.redact)
    # As it is stored: the classes of values need not be loaded here.
    found = instance.journal.runs.published(check_run_id(run_id), namespace=check_namespace(namespace))
    published = {name: screen.event(event).payload or "null" for name, event in sorted(found.items())}
    if shell.as_json:
        shell.emit({name: msgspec.Raw(payload.encode()) for name, payload in published.items()})
        return
    if not published:
        shell.say("It has published nothing.")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for name, payload in published.items():
        table.add_row(plain(name), plain(payload))
    shell.say(table)


@click.command("set-attributes")
@click.argument("run_id", metavar="RUN")
@click.argument("attributes", metavar="JSON")
@click.option("--namespace", help="The run must be in this namespace.")
@command_options
@pass_shell
def set_attributes_command(shell: Shell, *, run_id: str, attributes: str, namespace: str | None) -> None:
    """Set some of RUN's attributes, key by key: JSON is an object, @FILE reads a file, - stdin."""
    try:
        shell.instance.set_attributes(run_id, parse_json(attributes, "the argument"), namespace=namespace)
    except CodecError as error:
        raise ConfigError(str(error)) from None
    if shell.as_json:
        shell.emit({"id": run_id, "outcome": "set"})
    else:
        click.echo("set")
