"""Here lives ``continuum-dispatcher``: one dispatcher process, or a supervisor of several.

SIGTERM and SIGINT drain: no new work, running activities finish, runs are given back. A second signal stops at once;
what is left then is taken over by others when the lease expires. Exit codes are those of ``continuum``; 0 means
drained in time, 1 that work was left behind.
"""

import gc
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Final

import click

from continuum.cli.http import StatusServer, parse_address
from continuum.cli.shell import ExitCode, Shell, command_options, explain, pass_shell
from continuum.cli.supervisor import SUPERVISOR, Supervisor
from continuum.client.instance import Continuum
from continuum.config import Settings
from continuum.errors import ConfigError, ContinuumError
from continuum.model.names import flaw_of
from continuum.runtime.instance import Dispatcher

__all__ = ["main"]

logger = logging.getLogger("continuum.dispatcher")

# How often the main thread looks whether the engine and the supervisor still live.
GC_THRESHOLDS: Final = (50_000, 20, 100)
LOOK_SECONDS: Final = 1.0
# What a second signal leaves the dispatcher to say goodbye.
GOODBYE_SECONDS: Final = 2.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--concurrency", type=click.IntRange(1), help="Activities that run at once.")
@click.option("--queues", metavar="Q[=N],…", help="Serve only these queues, each with at most N activities at once.")
@click.option("--no-activities", is_flag=True, help="Turn workflows only; activities run elsewhere.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Run this many processes.")
@click.option("--http", "address", metavar="HOST:PORT", help="Serve /ready, /live and /status there.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@command_options
@click.version_option(package_name="continuum-workflows", prog_name="continuum-dispatcher")
@pass_shell
def main(
    shell: Shell,
    *,
    concurrency: int | None,
    queues: str | None,
    processes: int,
    address: str | None,
    log_level: str,
    no_activities: bool,
) -> None:
    """Turn the workflows of APP, and run their activities, until told to stop."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if shell.app is None:
            message = "which workflows? Name the app that declares them: continuum-dispatcher -A myapp"
            raise ConfigError(message)
        where = None if address is None else parse_address(address)
        overrides = _overrides(shell.instance.settings, concurrency, queues)
        code = _run(shell, overrides, processes=processes, where=where, activities=not no_activities)
    except ContinuumError as error:
        code = explain(error, as_json=shell.as_json)
    sys.exit(code)


def _run(
    shell: Shell,
    overrides: dict[str, Any],
    *,
    processes: int,
    where: tuple[str, int] | None,
    activities: bool,
) -> ExitCode:
    instance = shell.instance
    # Also before supervising: a child that cannot start would only be started again.
    dispatcher = instance.dispatcher(activities=activities, **overrides)
    _greet(shell, instance, overrides, activities=activities)
    if processes > 1:
        instance.close()
        return Supervisor(_child_arguments(), processes=processes, where=where, module=shell.module).run()
    return _dispatch(dispatcher, where)


def _dispatch(dispatcher: Dispatcher, where: tuple[str, int] | None) -> ExitCode:
    """Run one dispatcher in this process until a signal comes, or it dies."""
    parent = os.environ.get(SUPERVISOR)
    asked = Asked()
    dispatcher.start()
    # Parked runs are many small objects that live long: passes over all of them, every few hundred allocations, would
    # cost a fifth of the turns thread. What is loaded by now stays for good; the rest is looked at less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    server = None
    try:
        if where is not None:
            server = StatusServer(
                where, ready=lambda: dispatcher.ready, live=lambda: dispatcher.alive, status=dispatcher.status
            )
            server.start()
        logger.info("worker %s is ready", dispatcher.worker)
        while not asked.once.wait(LOOK_SECONDS):
            if parent is not None and str(os.getppid()) != parent:
                logger.warning("the supervisor is gone; draining")
                break
        return _drain(dispatcher, asked)
    finally:
        if server is not None:
            server.close()


def _drain(dispatcher: Dispatcher, asked: "Asked") -> ExitCode:
    logger.info("draining; signal again to stop at once")
    outcome: list[bool] = []
    draining = threading.Thread(target=lambda: outcome.append(dispatcher.drain()), name="continuum-drain", daemon=True)
    draining.start()
    while draining.is_alive() and not asked.twice.is_set():
        draining.join(0.1)
    if draining.is_alive():
        logger.warning("stopping at once; what is left is taken over when the lease expires")
        ending = threading.Thread(target=dispatcher.stop_now, name="continuum-stop", daemon=True)
        ending.start()
        ending.join(GOODBYE_SECONDS)
        logging.shutdown()
        # Activities may be running on threads that nobody can stop.
        os._exit(ExitCode.ERROR)
    if outcome == [True]:
        logger.info("drained")
        return ExitCode.DONE
    logger.warning("not drained in time; what is left is taken over by others")
    return ExitCode.ERROR


class Asked:
    """How often SIGTERM or SIGINT has asked this process to stop."""

    def __init__(self) -> None:
        self.once = threading.Event()
        self.twice = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        (self.twice if self.once.is_set() else self.once).set()


def _overrides(settings: Settings, concurrency: int | None, queues: str | None) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    if concurrency is not None:
        overrides["concurrency"] = concurrency
    if queues is not None:
        overrides["queues"] = _parse_queues(queues, concurrency or settings.concurrency)
    return overrides


def _parse_queues(text: str, unlimited: int) -> dict[str, int]:
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, limit = part.partition("=")
        if equals and not (limit.isdigit() and int(limit) > 0):
            message = f"--queues: {part!r} is not valid: write name, or name=2 for at most two at once."
            raise ConfigError(message)
        if (flaw := flaw_of(name)) is not None:
            message = f"--queues: {name!a:.100} is not the name of a queue: {flaw}."
            raise ConfigError(message)
        found[name] = int(limit) if equals else unlimited
    if not found:
        message = "--queues names no queue: write --queues default,payments=2"
        raise ConfigError(message)
    return found


def _child_arguments() -> list[str]:
    """Return this command line for one process: without the options that are the supervisor's."""
    kept = []
    skip = False
    for argument in sys.argv[1:]:
        if skip:
            skip = False
        elif argument in {"--processes", "--http"}:
            skip = True
        elif not argument.startswith(("--processes=", "--http=")):
            kept.append(argument)
    return kept


def _greet(shell: Shell, instance: Continuum, overrides: dict[str, Any], *, activities: bool) -> None:
    if os.environ.get(SUPERVISOR):
        return
    registry = instance.registry
    flows = ", ".join(f"{flow.name} v{flow.version}" for flow in registry.workflows()) or "none"
    known = ", ".join(activity.name for activity in registry.activities()) or "none"
    queues = overrides.get("queues", instance.settings.queues)
    if not registry.workflows():
        logger.warning("app %s declares no workflow; name its modules in Continuum(modules=[…])", shell.app)
    click.echo(f"continuum-dispatcher · app {shell.app} · instance {instance.settings.name}")
    click.echo(f"  workflows   {flows}")
    click.echo(f"  activities  {known if activities else 'not here'}")
    if activities:
        click.echo(f"  queues      {'all' if queues is None else ', '.join(queues)}")
    for name, executor in instance.executors.items():
        facts = ", ".join(f"{what} {value}" for what, value in executor.describe().items())
        click.echo(f"  executor    {name}: {facts}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
