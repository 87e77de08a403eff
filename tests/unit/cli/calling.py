"""Here lives how tests call the commands on the app of `shop`."""

import json
from typing import Any

from click.testing import CliRunner, Result

from continuum.cli import main

__all__ = ["APP", "NOBODY", "cli", "document"]

APP = "tests.unit.cli.shop"
NOBODY = "0190a6f0-0000-7000-8000-000000000001"  # no run has this id


def cli(*arguments: str, stdin: str | None = None) -> Result:
    """Call a command; raise what it raises."""
    result = CliRunner().invoke(main, ["-A", APP, *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(*arguments: str) -> Any:
    """Return the document that a command prints."""
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
