"""Here lives ``continuum start``."""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.cli.terminal import harmless
from continuum.client.checks import check_timeout
from continuum.client.instance import Continuum
from continuum.errors import CodecError, ConfigError

__all__ = ["parse_json", "start_command"]


@click.command("start")
@click.argument("workflow")
@click.option(
    "--input",
    "input_",
    default="[]",
    metavar="JSON",
    help="Arguments: a JSON array for positional ones, an object for named ones; @FILE reads a file, - stdin.",
)
@click.option("--key", "idempotency_key", help="Idempotency key: a second start with it finds the first run.")
@click.option("--namespace", help="Start it in this namespace.")
@click.option("--attributes", metavar="JSON", help="A JSON object to search by.")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result.")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait at most.")
@command_options
@pass_shell
def start_command(
    shell: Shell,
    *,
    workflow: str,
    input_: str,
    idempotency_key: str | None,
    namespace: str | None,
    attributes: str | None,
    timeout: float | None,
    wait: bool,
) -> None:
    """Start a run of WORKFLOW, which the app given by -A declares."""
    instance = shell.instance
    try:
        check_timeout(timeout)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    args, kwargs = read_arguments(instance, workflow, input_)
    try:
        handle = instance.start(
            workflow,
            *args,
            **kwargs,
            idempotency_key=idempotency_key,
            namespace=namespace,
            attributes=None if attributes is None else parse_json(attributes, "--attributes"),
        )
    except TypeError as error:
        raise _misfit(error) from None
    except CodecError as error:
        raise ConfigError(str(error)) from None
    if not wait:
        if shell.as_json:
            shell.emit({"id": handle.id})
        else:
            click.echo(handle.id)
        return
    shell.say(f"[dim]started {handle.id}[/]")
    result = handle.result(timeout)
    if shell.as_json:
        shell.emit({"id": handle.id, "result": result})
    else:
        shell.console.print(harmless(result) if isinstance(result, str) else result, markup=False)


def read_arguments(instance: Continuum, name: str, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments a JSON text stands for, read by the workflow's type hints. Raises ``ConfigError``."""
    value = parse_json(text, "--input")
    match value:
        case list():
            call: Any = value
        case dict():
            call = {"args": [], "kwargs": value}
        case _:
            call = [value]
    declared = instance.get_workflow(name)
    try:
        return declared.read_input(msgspec.json.encode(call).decode())
    except TypeError as error:
        raise _misfit(error) from None
    except CodecError as error:
        message = f"--input: {error}"
        raise ConfigError(message) from None


def _misfit(error: TypeError) -> ConfigError:
    return ConfigError(f"--input does not fit the workflow: {error}")


def parse_json(text: str, option: str) -> Any:
    """Return the value of a JSON option. Raises ``ConfigError``."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            message = f"{option}: cannot read {text[1:]!r}: {why}"
            raise ConfigError(message) from None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        why = str(error).removeprefix("JSON is malformed: ")
        message = f"{option} is not JSON ({why}). A text needs quotes of its own, as in '\"o1\"'."
        raise ConfigError(message) from None
