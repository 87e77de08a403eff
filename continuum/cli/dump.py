"""Here lives ``continuum dump``."""

from pathlib import Path

import click

from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.client.findings import say_count
from continuum.errors import ConfigError
from continuum.model.histories import dump_history

__all__ = ["dump_command"]


@click.command("dump")
@click.argument("run_id", metavar="RUN")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--namespace", help="The run must be in this namespace.")
@click.option("--raw", is_flag=True, help="Write payloads as they are stored, although the instance redacts them.")
@command_options
@pass_shell
def dump_command(shell: Shell, *, run_id: str, file: Path | None, namespace: str | None, raw: bool) -> None:
    """Write the history of RUN to FILE (or to the standard output), to be replayed or kept.

    What is written is what is stored: arguments and results included. It is JSON, an event on each line.
    """
    recorded = shell.instance.dump_history(run_id, namespace=namespace, raw=raw)
    text = dump_history(recorded)
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}") from None
    if shell.as_json:
        shell.emit({"id": recorded.run_id, "file": str(file), "events": len(recorded.events)})
    else:
        shell.say(f"{say_count(len(recorded.events), 'event', 'events')} of {recorded.run_id} written to {file}")
