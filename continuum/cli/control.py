"""Here live ``continuum signal``, ``cancel`` and ``terminate``."""

import click

from continuum.cli.render import run_json
from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.cli.start import parse_json
from continuum.errors import CodecError, ConfigError, RunTerminal

__all__ = ["cancel_command", "signal_command", "terminate_command"]


@click.command("signal")
@click.argument("run_id", metavar="RUN")
@click.argument("name")
@click.option("--value", default="null", show_default=True, metavar="JSON", help="What comes with it.")
@click.option("--delivery-id", help="A second signal with the same delivery id is a duplicate.")
@click.option("--namespace", help="The run must be in this namespace.")
@command_options
@pass_shell
def signal_command(
    shell: Shell, *, run_id: str, name: str, value: str, delivery_id: str | None, namespace: str | None
) -> None:
    """Send the signal NAME to RUN."""
    carried = parse_json(value, "--value")
    try:
        outcome = shell.instance.signal(run_id, name, carried, delivery_id=delivery_id, namespace=namespace)
    except CodecError as error:
        raise ConfigError(str(error)) from None
    if shell.as_json:
        shell.emit({"id": run_id, "signal": name, "outcome": str(outcome)})
    else:
        click.echo(str(outcome))


@click.command("cancel")
@click.argument("run_id", metavar="RUN")
@click.option("--namespace", help="The run must be in this namespace.")
@command_options
@pass_shell
def cancel_command(shell: Shell, *, run_id: str, namespace: str | None) -> None:
    """Ask RUN to cancel itself; it may compensate first."""
    shell.instance.cancel(run_id, namespace=namespace)
    if shell.as_json:
        shell.emit({"id": run_id, "outcome": "requested"})
    else:
        click.echo("requested")


@click.command("terminate")
@click.argument("run_id", metavar="RUN")
@click.option("--reason", help="Why; kept in the history.")
@click.option("--namespace", help="The run must be in this namespace.")
@click.option("--execute", is_flag=True, help="Do it. Without this the command only says what it would do.")
@command_options
@pass_shell
def terminate_command(shell: Shell, *, run_id: str, reason: str | None, namespace: str | None, execute: bool) -> None:
    """End RUN at once, without its code and without compensation."""
    instance = shell.instance
    tip = instance.handle(run_id, namespace=namespace).refresh()
    if not execute:
        if tip.ended:
            message = f"run {tip.id} has ended ({tip.state}); there is nothing to terminate"
            raise RunTerminal(message, run_id=tip.id, state=str(tip.state))
        if shell.as_json:
            shell.emit({"would_terminate": run_json(tip), "executed": False})
        else:
            click.echo(
                f"would terminate {tip.id} ({tip.workflow}, {tip.state}, {tip.last_seq} events): no compensation runs."
            )
            click.echo("Nothing was done. Add --execute to do it, or use `continuum cancel` to let it compensate.")
        return
    ended = instance.terminate(tip.id, reason, namespace=namespace)
    if shell.as_json:
        shell.emit({"id": ended, "executed": True})
    else:
        click.echo(f"terminated {ended}")
