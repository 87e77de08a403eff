"""Here live ``continuum signal``, ``cancel`` and ``terminate``."""

import click

from continuum.cli.render import run_json
from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.cli.start import parse_json
from continuum.client.showing import Screen
from continuum.client.trees import MAX_TREE
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


_CASCADE = click.option(
    "--cascade", is_flag=True, help="All runs below it, too, also those that it has abandoned or that outlive it."
)


@click.command("cancel")
@click.argument("run_id", metavar="RUN")
@_CASCADE
@click.option("--namespace", help="The run must be in this namespace.")
@command_options
@pass_shell
def cancel_command(shell: Shell, *, run_id: str, cascade: bool, namespace: str | None) -> None:
    """Ask RUN to cancel itself; it may compensate first."""
    asked = shell.instance.cancel(run_id, cascade=cascade, namespace=namespace)
    if not asked:
        raise _nothing_left(shell, run_id, "cancel", namespace=namespace)
    if shell.as_json:
        shell.emit({"id": run_id, "outcome": "requested", "requested": asked})
    elif cascade:
        click.echo("\n".join(f"requested {one}" for one in asked))
    else:
        click.echo("requested")


@click.command("terminate")
@click.argument("run_id", metavar="RUN")
@_CASCADE
@click.option("--reason", help="Why; kept in the history.")
@click.option("--namespace", help="The run must be in this namespace.")
@click.option("--execute", is_flag=True, help="Do it. Without this the command only says what it would do.")
@command_options
@pass_shell
def terminate_command(
    shell: Shell, *, run_id: str, cascade: bool, reason: str | None, namespace: str | None, execute: bool
) -> None:
    """End RUN at once, without its code and without compensation."""
    instance = shell.instance
    if not execute:
        _say_what_would_end(shell, run_id, cascade=cascade, namespace=namespace)
        return
    ended = instance.terminate(run_id, reason, cascade=cascade, namespace=namespace)
    if not ended:
        raise _nothing_left(shell, run_id, "terminate", namespace=namespace)
    if shell.as_json:
        shell.emit({"id": ended[0], "terminated": ended, "executed": True})
    else:
        click.echo("\n".join(f"terminated {one}" for one in ended))


def _nothing_left(shell: Shell, run_id: str, what: str, *, namespace: str | None) -> RunTerminal:
    """Return the error for a run that has ended, and all below it if that was asked for."""
    tip = shell.instance.handle(run_id, namespace=namespace).refresh()
    message = f"run {tip.id} has ended ({tip.state}); there is nothing to {what}"
    return RunTerminal(message, run_id=tip.id, state=str(tip.state))


def _say_what_would_end(shell: Shell, run_id: str, *, cascade: bool, namespace: str | None) -> None:
    instance = shell.instance
    tip = instance.handle(run_id, namespace=namespace).refresh()
    runs = list(instance.tree(run_id, namespace=namespace, limit=MAX_TREE)) if cascade else [tip]
    alive = [run for run in runs if not run.ended]
    if not alive:
        raise _nothing_left(shell, run_id, "terminate", namespace=namespace)
    if shell.as_json:
        screen = Screen(instance.settings.redact)
        shell.emit({"would_terminate": [run_json(screen.run(run)) for run in alive], "executed": False})
        return
    for run in alive:
        click.echo(
            f"would terminate {run.id} ({run.workflow}, {run.state}, {run.last_seq} events): no compensation runs."
        )
    click.echo("Nothing was done. Add --execute to do it, or use `continuum cancel` to let it compensate.")
