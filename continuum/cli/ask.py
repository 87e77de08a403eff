"""Here lives ``continuum ask``."""

import click

from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.cli.start import parse_json
from continuum.cli.terminal import harmless
from continuum.client.checks import check_timeout
from continuum.errors import CodecError, ConfigError

__all__ = ["ask_command"]


@click.command("ask")
@click.argument("run_id", metavar="RUN")
@click.argument("name")
@click.argument("value", default="null", metavar="[JSON]")
@click.option("--delivery-id", help="Asking again with the same delivery id gets the same answer.")
@click.option("--namespace", help="The run must be in this namespace.")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait at most.")
@command_options
@pass_shell
def ask_command(
    shell: Shell,
    *,
    run_id: str,
    name: str,
    value: str,
    delivery_id: str | None,
    namespace: str | None,
    timeout: float | None,
) -> None:
    """Send the signal NAME to RUN, wait for the answer, and print it."""
    try:
        check_timeout(timeout)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    carried = parse_json(value, "the value")
    handle = shell.instance.handle(run_id, namespace=namespace)
    try:
        reply = handle.ask(name, carried, timeout=timeout, delivery_id=delivery_id)
    except CodecError as error:
        raise ConfigError(str(error)) from None
    if shell.as_json:
        shell.emit({"id": run_id, "signal": name, "reply": reply})
    else:
        shell.console.print(harmless(reply) if isinstance(reply, str) else reply, markup=False)
