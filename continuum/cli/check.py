"""Here lives ``continuum check``: whether runs have what they need, and whether their code can be replayed."""

import os

import click

from continuum.cli.code_checks import CodeReport, check_code
from continuum.cli.instance_checks import checked, exit_code, fields_of, table_of
from continuum.cli.shell import ExitCode, Shell, command_options, pass_shell
from continuum.cli.terminal import plain
from continuum.determinism.report import as_value, describe

__all__ = ["check_command"]


@click.command("check")
@click.argument("modules", metavar="[MODULE]...", nargs=-1)
@click.option("--select", "selected", metavar="CODES", multiple=True, help="Only these rules: CT101,CT3.")
@click.option("--ignore", "ignored", metavar="CODES", multiple=True, help="All rules but these.")
@click.option("--strict", is_flag=True, help="Distrust what cannot be followed (CT4), and fail on warnings.")
@command_options
@pass_shell
def check_command(
    shell: Shell, *, modules: tuple[str, ...], selected: tuple[str, ...], ignored: tuple[str, ...], strict: bool
) -> None:
    """Look whether workflow code can be replayed, and whether an instance has what it needs. Changes nothing.

    MODULE is the name of a module or package, or a file or directory: it is imported, and the code of its workflows
    is read, with all that they call. Files that do not mention continuum are passed over.

    Without any MODULE, or with -A besides, database, declarations, dispatchers and executors are looked at.

    Exits with 0 if nothing is broken, warnings or not; with 1 if workflow code cannot be replayed.
    """
    code_report: CodeReport | None = None
    if modules:
        code_report = check_code(modules, selected=selected, ignored=ignored, strict=strict)
    elif selected or ignored or strict:
        message = "--select, --ignore and --strict are for workflow code: name its MODULE."
        raise click.UsageError(message)
    lines = checked(shell.instance) if not modules or shell.app else None
    code = ExitCode.DONE if code_report is None or code_report.is_good else ExitCode.ERROR
    if lines is not None and code is ExitCode.DONE:
        code = exit_code(lines)
    if shell.as_json:
        value: dict[str, object] = {"ok": code is ExitCode.DONE}
        if lines is not None:
            value["checks"] = fields_of(lines)
        if code_report is not None:
            value["workflows"] = code_report.workflows
            value["findings"] = [as_value(finding) for finding in code_report.findings]
        shell.emit(value)
    else:
        if lines is not None:
            shell.say(table_of(lines))
        if code_report is not None:
            for finding in code_report.findings:
                shell.say(plain(describe(finding, base=os.getcwd())))  # noqa: PTH109 - findings have texts
            shell.say(plain(code_report.summary))
    click.get_current_context().exit(code)
