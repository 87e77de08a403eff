"""Here lives ``continuum``, the command: one command group per file."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

import click

from continuum.cli.check import check_command
from continuum.cli.control import cancel_command, signal_command, terminate_command
from continuum.cli.database import migrate_command
from continuum.cli.demo import demo_command
from continuum.cli.runs import list_command, show_command
from continuum.cli.shell import Group, command_options
from continuum.cli.start import start_command

__all__ = ["COMMANDS", "DISTRIBUTION", "main", "release"]

DISTRIBUTION: Final = "continuum-workflows"


def release() -> str:
    """Return the installed release."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown (not installed)"


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage or configuration, 3 no such run, 4 the run failed or was"
    " cancelled, 5 the wait timed out, 6 the run has ended already, 7 the database cannot be reached, 8 its schema"
    " does not fit.",
)
@click.version_option(release(), prog_name="continuum", message="%(prog)s %(version)s")
@command_options
def main() -> None:
    """Durable workflows on Postgres.

    The app (-A) is needed to start workflows; everything else needs only the database (CONTINUUM_DATABASE_URL).
    """


COMMANDS: Final = (
    migrate_command,
    check_command,
    start_command,
    list_command,
    show_command,
    signal_command,
    cancel_command,
    terminate_command,
)
"""The commands on an instance."""

for command in (demo_command, *COMMANDS):
    main.add_command(command)
