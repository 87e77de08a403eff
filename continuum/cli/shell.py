"""Here lives what all commands share: the options, the instance, output as a table or as JSON, exit codes.

Exit codes: 0 done · 1 error · 2 wrong usage or configuration · 3 no such run · 4 the run failed or was cancelled ·
5 the wait timed out · 6 the run has ended already · 7 the database cannot be reached · 8 its schema does not fit.
"""

import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, ParamSpec, TypeVar

import click
import msgspec
from rich.console import Console

from continuum.cli.apps import find_instance
from continuum.cli.terminal import harmless
from continuum.client.instance import Continuum
from continuum.errors import (
    ConfigError,
    ContinuumError,
    DeclarationError,
    JournalUnavailable,
    ResultTimeout,
    RunCancelled,
    RunFailed,
    RunNotFound,
    RunTerminal,
    SchemaOutdated,
    SearchError,
    SignalRefused,
)

__all__ = ["EXIT_CODES", "ExitCode", "Group", "Shell", "command_options", "explain", "pass_shell"]

P = ParamSpec("P")
R = TypeVar("R")

# Tables of a pipe are not cut to the eighty columns that rich assumes there.
_PIPE_WIDTH: Final = 160


class ExitCode(IntEnum):
    """What a command says to the shell that called it."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    RUN_FAILED = 4
    TIMEOUT = 5
    ENDED = 6
    UNAVAILABLE = 7
    SCHEMA = 8


# The first that fits counts.
EXIT_CODES: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (RunNotFound, ExitCode.NOT_FOUND),
    (RunFailed, ExitCode.RUN_FAILED),
    (RunCancelled, ExitCode.RUN_FAILED),
    (ResultTimeout, ExitCode.TIMEOUT),
    (RunTerminal, ExitCode.ENDED),
    (JournalUnavailable, ExitCode.UNAVAILABLE),
    (SchemaOutdated, ExitCode.SCHEMA),
    (ConfigError, ExitCode.USAGE),
    (SearchError, ExitCode.USAGE),
    (DeclarationError, ExitCode.USAGE),
    (SignalRefused, ExitCode.USAGE),
)


class Shell:
    """The options of one invocation, and what is made of them.

    :ivar module: what ``python -m`` runs to repeat this invocation's dispatcher.
    """

    module = "continuum.cli.dispatcher"

    def __init__(self) -> None:
        self.app: str | None = None
        self.database_url: str | None = None
        self.schema: str | None = None
        self.as_json = False

    @cached_property
    def console(self) -> Console:
        """Where tables go."""
        console = Console(highlight=False)
        return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)

    @cached_property
    def instance(self) -> Continuum:
        """The instance named by ``-A``, or one on the database alone. Raises ``ConfigError``."""
        found = self.find_instance()
        click.get_current_context().call_on_close(found.close)
        return found

    def find_instance(self) -> Continuum:
        """Return the instance. Raises ``ConfigError``."""
        return find_instance(self.app, database_url=self.database_url, schema=self.schema)

    def emit(self, value: Any) -> None:
        """Print one JSON document."""
        text = msgspec.json.encode(value, enc_hook=str)
        click.echo(msgspec.json.format(text, indent=2 if sys.stdout.isatty() else 0).decode())

    def say(self, *lines: object) -> None:
        """Print lines or tables, markup included, unless JSON was asked for."""
        if not self.as_json:
            for line in lines:
                self.console.print(line, soft_wrap=isinstance(line, str))


pass_shell = click.make_pass_decorator(Shell, ensure=True)


def command_options(function: Callable[P, R]) -> Callable[P, R]:
    """Add the options every command takes; they may stand before or after the command's name."""

    def store(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
        def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
            if value:
                setattr(context.ensure_object(Shell), name, value)
            return value

        return callback

    options = [
        click.option(
            "-A",
            "--app",
            metavar="APP",
            envvar="CONTINUUM_APP",
            expose_value=False,
            callback=store("app"),
            help="Where the instance is: myapp, myapp.module or myapp:continuum.  [env: CONTINUUM_APP]",
        ),
        click.option(
            "--database-url",
            metavar="URL",
            expose_value=False,
            callback=store("database_url"),
            help="Use this database.  [env: CONTINUUM_DATABASE_URL]",
        ),
        click.option(
            "--schema",
            metavar="NAME",
            expose_value=False,
            callback=store("schema"),
            help="Continuum's tables are in this schema; default that of the app, without one public.",
        ),
        click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            callback=store("as_json"),
            help="Print one JSON document.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class Group(click.Group):
    """A group that turns our errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if ctx.obj is None:
            # Made here, so that what a command reads of its options is known here as well when it fails.
            ctx.obj = Shell()
        # A wrong option is found before `--json` behind it is read.
        asked = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except ContinuumError as error:
            sys.exit(explain(error, as_json=ctx.ensure_object(Shell).as_json))
        except click.UsageError as error:
            if not (asked or ctx.ensure_object(Shell).as_json):
                raise
            sys.exit(explain(ConfigError(error.format_message()), as_json=True))


def explain(error: BaseException, *, as_json: bool = False) -> ExitCode:
    """Say what went wrong, on stderr; return the exit code."""
    code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), ExitCode.ERROR)
    if as_json:
        fields = {"type": type(error).__name__, "message": str(error), "exit_code": int(code)}
        click.echo(msgspec.json.encode({"error": fields}).decode(), err=True)
        return code
    if isinstance(error, ConfigError) and not isinstance(error.__cause__, ContinuumError | None):
        # The user's own code failed while it was imported: their traceback is what helps.
        click.echo(harmless("".join(traceback.format_exception(error.__cause__))), err=True)
    if isinstance(error, RunFailed) and error.remote_traceback:
        click.echo(harmless(error.remote_traceback), err=True)
    click.secho(f"Error: {harmless(str(error))}", fg="red", err=True)
    return code
