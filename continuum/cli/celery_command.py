"""Here lives ``celery -A shop continuum …``: the same commands, on the instance that belongs to that Celery app.

Found by Celery through the entry point group ``celery.commands``, and loaded by every ``celery`` command there is. So
nothing is imported here before it is used.
"""

from importlib import import_module

import click

from continuum.cli import COMMANDS
from continuum.cli.lazy import LazyGroup

__all__ = ["continuum"]


@click.group(
    cls=LazyGroup,
    places={**COMMANDS, "dispatcher": ("continuum.cli.dispatcher", "main")},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--instance", "name", metavar="NAME", help="Which instance, if the Celery app has several.")
@click.pass_context
def continuum(ctx: click.Context, *, name: str | None) -> None:
    """Durable workflows: dispatchers, runs, and whether all is well."""
    ctx.obj = import_module("continuum.cli.celery_shell").CeleryShell(ctx.obj.app, name=name)
