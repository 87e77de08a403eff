"""Here lives ``continuum migrate``."""

import click

from continuum.cli.shell import ExitCode, Shell, command_options, pass_shell
from continuum.errors import SchemaOutdated

__all__ = ["migrate_command"]


@click.command("migrate")
@click.option("--check", is_flag=True, help="Change nothing; exit with 8 if the schema does not fit this release.")
@command_options
@pass_shell
def migrate_command(shell: Shell, *, check: bool) -> None:
    """Bring the database's schema up to this release. Safe to repeat, and to run from several places at once."""
    instance = shell.instance
    if not check:
        instance.migrate()
    try:
        instance.journal  # noqa: B018 - opening it checks the schema
    except SchemaOutdated as error:
        if not check:
            raise
        if shell.as_json:
            shell.emit({"fits": False, "reason": str(error)})
        else:
            click.echo(str(error))
        click.get_current_context().exit(ExitCode.SCHEMA)
    if shell.as_json:
        shell.emit({"fits": True})
    else:
        click.echo("The schema is up to date.")
