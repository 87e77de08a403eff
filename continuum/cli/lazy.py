"""Here lives a group whose commands are imported when they are used: ``celery --help`` loads the group as well."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from continuum.cli.shell import Group

__all__ = ["LazyGroup"]


class LazyGroup(Group):
    """A group that knows where its commands are: ``name -> (module, attribute)``."""

    def __init__(self, *args: Any, places: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, imported or not."""
        return sorted({*super().list_commands(ctx), *self._places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported if need be."""
        if cmd_name in self._places and cmd_name not in self.commands:
            module, attribute = self._places[cmd_name]
            self.add_command(getattr(import_module(module), attribute), cmd_name)
        return super().get_command(ctx, cmd_name)
