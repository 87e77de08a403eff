"""Here lives ``continuum``, the command: one command group per file."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

import click

from continuum.cli.lazy import LazyGroup
from continuum.cli.shell import command_options

__all__ = ["COMMANDS", "DISTRIBUTION", "main", "release"]

DISTRIBUTION: Final = "continuum-workflows"

COMMANDS: Final = {
    name: (f"continuum.cli.{module}", f"{function}_command")
    for name, module, function in (
        ("migrate", "database", "migrate"),
        ("check", "check", "check"),
        ("start", "start", "start"),
        ("runs", "runs", "list"),
        ("show", "runs", "show"),
        ("tree", "tree", "tree"),
        ("versions", "versions", "versions"),
        ("dump", "dump", "dump"),
        ("replay", "replay", "replay"),
        ("progress", "marks", "progress"),
        ("set-attributes", "marks", "set_attributes"),
        ("signal", "control", "signal"),
        ("ask", "ask", "ask"),
        ("cancel", "control", "cancel"),
        ("terminate", "control", "terminate"),
    )
}
"""Where the commands on an instance are."""


def release() -> str:
    """Return the installed release."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown (not installed)"


@click.group(
    cls=LazyGroup,
    places={"demo": ("continuum.cli.demo", "demo_command"), **COMMANDS},
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
