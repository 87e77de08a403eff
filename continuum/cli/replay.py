"""Here lives ``continuum replay``: recorded runs are stepped through the code that is loaded here."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from continuum.cli.rehearsals import Rehearsed, Word, rehearsed_json, rehearsed_lines
from continuum.cli.shell import ExitCode, Shell, command_options, pass_shell
from continuum.client.findings import say_count
from continuum.client.instance import Continuum
from continuum.errors import ConfigError, ContinuumError, HistoryError, RunNotFound, UnknownVersion
from continuum.model.histories import RecordedRun, load_history
from continuum.model.ids import parse_run_id
from continuum.model.runs import ENDED, Run, RunState

__all__ = ["replay_command"]

# Runs of a long list that are shown whole; the rest is counted.
_MOST_SHOWN = 20
_PAGE = 500


@click.command("replay")
@click.argument("targets", nargs=-1, metavar="RUN|FILE...")
@click.option("--open", "all_open", is_flag=True, help="All runs that have not ended; arguments name workflows then.")
@click.option("--flow", metavar="NAME", help="Replay with this workflow, not with the one that was recorded.")
@click.option("--namespace", help="Runs must be in this namespace.")
@click.option("--all", "show_all", is_flag=True, help="Show the runs that fit as well, however many they are.")
@command_options
@pass_shell
def replay_command(
    shell: Shell,
    *,
    targets: tuple[str, ...],
    all_open: bool,
    flow: str | None,
    namespace: str | None,
    show_all: bool,
) -> None:
    """Step recorded runs through the code of the app (-A), and show where they part. Changes nothing.

    FILE is what `continuum dump` has written. With --open all runs that have not ended are replayed, or those of the
    named workflows: what a deploy of this code would meet. Exits with 1 if a run does not fit.
    """
    if not targets and not all_open:
        raise ConfigError("say what to replay: ids of runs, files of `continuum dump`, or --open for all open runs.")
    if shell.app is None:
        raise ConfigError("say whose code to replay with: `continuum replay … -A yourapp`.")
    instance = shell.instance
    if all_open:
        found = _of_open_runs(instance, targets, flow=flow, namespace=namespace)
    else:
        found = (_of_target(instance, target, flow=flow, namespace=namespace) for target in targets)
    results = list(_counted(found) if all_open and sys.stderr.isatty() else found)
    code = ExitCode.DONE if all(result.word is Word.FITS for result in results) else ExitCode.ERROR
    counts = Counter(str(result.word) for result in results)
    if shell.as_json:
        shell.emit({"ok": code is ExitCode.DONE, "counts": counts, "runs": [rehearsed_json(one) for one in results]})
        click.get_current_context().exit(code)
    # Of many, those are of interest that do not fit.
    brief = all_open and not show_all
    shown = [result for result in results if not brief or result.word is not Word.FITS]
    for result in shown[:_MOST_SHOWN] if brief else shown:
        shell.say(*rehearsed_lines(result))
    if brief and len(shown) > _MOST_SHOWN:
        shell.say(f"[dim]… and {len(shown) - _MOST_SHOWN} more: --all or --json shows them[/]")
    if all_open or len(results) > 1:
        summary = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
        shell.say(f"{say_count(len(results), 'run', 'runs')}" + (f": {summary}" if summary else ""))
    click.get_current_context().exit(code)


def _counted(found: Iterator[Rehearsed]) -> Iterator[Rehearsed]:
    """Yield them, and show how many there were."""
    for number, one in enumerate(found, 1):
        click.echo(f"\rreplaying: {number:,}", nl=False, err=True)
        yield one
    click.echo("\r", err=True)


def _open_runs(instance: Continuum, workflow: str | None, namespace: str | None) -> Iterator[Run]:
    """Yield the runs that have not ended, oldest first; one that ends meanwhile may be among them."""
    where: dict[str, Any] = {"is_tip": True, "state": [str(state) for state in RunState if state not in ENDED]}
    if workflow is not None:
        where["workflow"] = workflow
    cursor: str | None = None
    while True:
        page = instance.search(where, order="id", limit=_PAGE, cursor=cursor, namespace=namespace)
        yield from page.runs
        cursor = page.cursor
        if cursor is None:
            return


def _of_open_runs(
    instance: Continuum, workflows: tuple[str, ...], *, flow: str | None, namespace: str | None
) -> Iterator[Rehearsed]:
    for workflow in workflows or (None,):
        for run in _open_runs(instance, workflow, namespace):
            made = Rehearsed(source=run.id, run_id=run.id, workflow=run.workflow, version=run.version)
            try:
                yield _rehearsed(instance, run.id, made, flow=flow, namespace=namespace)
            except RunNotFound:
                continue  # pruned meanwhile
            except ContinuumError as error:
                if error.transient:
                    raise
                yield made.failed(Word.UNREADABLE, error)


def _of_target(instance: Continuum, target: str, *, flow: str | None, namespace: str | None) -> Rehearsed:
    path = Path(target)
    if path.is_dir():
        raise ConfigError(f"{target} is a directory: name the files in it, {path / '*.json'}.")
    if not path.is_file():
        try:
            parse_run_id(target)
        except ValueError:
            raise ConfigError(f"{target} is no id of a run, and there is no such file.") from None
        run = instance.get(target, namespace=namespace)
        made = Rehearsed(source=target, run_id=run.id, workflow=run.workflow, version=run.version)
        return _rehearsed(instance, run.id, made, flow=flow, namespace=namespace)
    try:
        recorded = load_history(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{target} cannot be read: {error.strerror or error}") from None
    except HistoryError as error:
        return Rehearsed(source=target).failed(Word.UNREADABLE, error)
    made = Rehearsed(source=target, run_id=recorded.run_id, workflow=recorded.workflow, version=recorded.version)
    return _rehearsed(instance, recorded, made, flow=flow)


def _rehearsed(instance: Continuum, target: str | RecordedRun, made: Rehearsed, **options: Any) -> Rehearsed:
    try:
        return made.with_result(instance.rehearse(target, **options))
    except UnknownVersion as error:
        return made.failed(Word.NO_CODE, error)
