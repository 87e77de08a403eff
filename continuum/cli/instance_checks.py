"""Here lives what ``continuum check`` finds out about an instance: whether everything is there that runs need."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from rich.table import Table

from continuum.cli.shell import EXIT_CODES, ExitCode
from continuum.cli.terminal import plain
from continuum.client.findings import say_duration
from continuum.client.instance import Continuum
from continuum.errors import ConfigError, ContinuumError

__all__ = ["Grade", "Line", "checked", "exit_code", "fields_of", "table_of"]


class Grade(StrEnum):
    """How a line of the report should be read."""

    GOOD = "ok"
    WARNING = "warning"
    BROKEN = "broken"


_MARKS = {Grade.GOOD: "[green]✓[/]", Grade.WARNING: "[yellow]![/]", Grade.BROKEN: "[bold red]✗[/]"}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    subject: str
    grade: Grade
    text: str
    code: ExitCode = ExitCode.DONE


def checked(instance: Continuum) -> list[Line]:
    """Look at database, declarations, dispatchers and executors. Changes nothing."""
    return list(_examine(instance))


def exit_code(lines: Iterable[Line]) -> ExitCode:
    """Return what the first broken line is to the shell; warnings are done."""
    return next((line.code for line in lines if line.grade is Grade.BROKEN), ExitCode.DONE)


def table_of(lines: Iterable[Line]) -> Table:
    """Return them for people."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(_MARKS[line.grade], plain(line.subject), plain(line.text))
    return table


def fields_of(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Return them for programs."""
    return [{"subject": line.subject, "grade": line.grade, "text": line.text} for line in lines]


def _examine(instance: Continuum) -> Iterator[Line]:
    skew = timedelta(0)
    try:
        instance.journal.check()
    except ContinuumError as error:
        yield _broken("database", error)
    else:
        yield Line("database", Grade.GOOD, "reachable, and its schema fits this release")
        skew = timedelta(microseconds=time.time_ns() // 1000 - instance.journal.clock.now_us())
        yield _of_clock(skew)
        yield _of_workers(instance)
    yield from _of_declarations(instance)
    for name, executor in instance.executors.items():
        try:
            facts = executor.describe()
            yield Line(name, Grade.GOOD, ", ".join(f"{what} {value}" for what, value in facts.items()))
            findings = executor.examine(skew=skew)
        except ContinuumError as error:
            yield _broken(name, error)
        else:
            for finding in findings:
                grade = Grade.BROKEN if finding.broken else Grade.WARNING
                yield Line(name, grade, f"{finding.code}: {finding.message}", ExitCode.ERROR)


def _of_clock(skew: timedelta) -> Line:
    # Nothing here depends on it: the database's clock decides. Executors say what theirs depends on.
    side = "ahead of" if skew > timedelta(0) else "behind"
    return Line("clock", Grade.GOOD, f"this machine's is {say_duration(abs(skew))} {side} the database's")


def _of_workers(instance: Continuum) -> Line:
    alive = [worker for worker in instance.list_workers() if worker.alive]
    if not alive:
        return Line("workers", Grade.WARNING, "none is running: start `continuum-dispatcher -A yourapp`")
    hosts = ", ".join(sorted({worker.hostname for worker in alive}))
    if not any(worker.turns for worker in alive):
        # Those of executors alone look well, and nothing begins.
        text = f"no dispatcher is running, only {len(alive)} for activities, on {hosts}"
        return Line("workers", Grade.WARNING, f"{text}: start `continuum-dispatcher -A yourapp`")
    return Line("workers", Grade.GOOD, f"{len(alive)} hold a lease (dispatchers, and what executors run), on {hosts}")


def _of_declarations(instance: Continuum) -> Iterator[Line]:
    try:
        instance.import_modules()
    except ConfigError as error:
        yield _broken("modules", error)
    workflows = len({flow.name for flow in instance.registry.workflows()})
    text = f"workflows: {workflows}, activities: {len(instance.registry.activities())}"
    grade = Grade.GOOD if workflows else Grade.WARNING
    yield Line("declared", grade, text if workflows else f"{text}: name their modules in Continuum(modules=[…])")


def _broken(subject: str, error: ContinuumError) -> Line:
    code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), ExitCode.ERROR)
    return Line(subject, Grade.BROKEN, str(error), code)
