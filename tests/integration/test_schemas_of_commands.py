"""An app's tables may lie in any schema; the commands name the one they looked in, and can be told another."""

from typing import Any

import pytest
from click.testing import CliRunner, Result

from continuum import Continuum
from continuum.cli import main
from continuum.cli.shell import ExitCode
from continuum.errors import SchemaOutdated
from continuum.journal.postgres.migrate import current, upgrade


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_show_without_an_app_finds_the_run_in_a_named_schema(empty_database_url: str) -> None:
    upgrade(empty_database_url, "cli")
    where = ("--database-url", empty_database_url)
    blind = cli("runs", *where)
    assert blind.exit_code == ExitCode.SCHEMA
    assert 'in schema "public"' in blind.stderr
    assert "-A yourapp" in blind.stderr
    assert "--schema NAME" in blind.stderr
    assert cli("runs", *where, "--schema", "cli").stdout == "No runs.\n"
    assert cli("--schema", "cli", "runs", *where).stdout == "No runs.\n"


def test_migrate_touches_the_named_schema_only(empty_database_url: str) -> None:
    assert cli("migrate", "--database-url", empty_database_url, "--schema", "cli").exit_code == 0
    assert current(empty_database_url, "cli") is not None
    assert current(empty_database_url, "public") is None


@pytest.mark.parametrize(("schema", "argument"), [("cli", "cli"), ("Tenant B", "'Tenant B'")])
def test_an_app_whose_schema_is_not_migrated_is_told_the_whole_command(
    database_url: str, schema: str, argument: str
) -> None:
    options: dict[str, Any] = {"schema": schema}
    with Continuum(database_url, **options) as instance, pytest.raises(SchemaOutdated) as refused:
        instance.search()
    assert f"continuum migrate --schema {argument}`" in str(refused.value)
    assert f'in schema "{schema}"' in str(refused.value)
