"""Here lives what the demonstration looks like: a live table in a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from continuum.cli.render import state_text
from continuum.client.timeline import Step, StepKind, StepState, moment
from continuum.model.events import Event
from continuum.model.runs import RunState

__all__ = ["OrderLine", "View"]

_MARKS = {
    StepState.DONE: ("✓", "green"),
    StepState.RUNNING: ("▶", "cyan"),
    StepState.WAITING: ("…", "blue"),
    StepState.RETRYING: ("↻", "yellow"),
    StepState.FAILED: ("✗", "red"),
    StepState.TIMED_OUT: ("⏱", "yellow"),
    StepState.CANCELLED: ("–", "dim"),
    StepState.LEFT: ("–", "dim"),
}
_REFRESH_PER_SECOND = 10


@dataclass(frozen=True, slots=True)
class OrderLine:
    """Where one order stands."""

    name: str
    state: RunState
    steps: tuple[Step, ...]

    @property
    def text(self) -> Text:
        """Its steps with their marks, in the order they were asked for."""
        text = Text()
        for step in self.steps:
            if step.kind not in {StepKind.ACTIVITY, StepKind.SIGNAL}:
                continue
            mark, style = _MARKS[step.state]
            tries = f" (attempt {step.task.attempt})" if step.task is not None and step.task.attempt > 1 else ""
            text.append(f"{mark} {step.name.removeprefix('demo.')}{tries}  ", style=style)
        return text


class View:
    """Says what happens; nothing at all if ``quiet``."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._lines: Callable[[], Sequence[OrderLine]] | None = None
        self._live: Live | None = None
        self._said: dict[str, str] = {}

    def step(self, text: str) -> None:
        """Say what has been done."""
        self._print(f"[bold green]●[/] {escape(text)}")

    def alarm(self, text: str) -> None:
        """Say what has gone wrong, on purpose."""
        self._print(f"[bold red]✗ {escape(text)}[/]")

    @contextmanager
    def live(self, lines: Callable[[], Sequence[OrderLine]]) -> Iterator[None]:
        """Show the orders while the block runs and calls :meth:`refresh`."""
        self._lines = lines
        try:
            if self._quiet or not self._console.is_terminal:
                yield
                return
            with Live(console=self._console, refresh_per_second=_REFRESH_PER_SECOND, transient=False) as self._live:
                yield
        finally:
            self._lines = self._live = None

    def refresh(self) -> None:
        """Look again."""
        if self._quiet or self._lines is None:
            return
        lines = self._lines()
        if self._live is not None:
            self._live.update(_table(lines))
            return
        for line in lines:
            text = f"  {line.name}  {line.state:<10} {line.text.plain.rstrip()}"
            if self._said.get(line.name) != text:
                self._said[line.name] = text
                self._print(escape(text))

    def history(self, name: str, events: Sequence[Event], *, killed_after: int) -> None:
        """Show one history, and where in it the dispatcher died."""
        table = Table(title=f"history of order {name}", title_justify="left", box=None, header_style="bold")
        for column in ("SEQ", "SINCE START", "EVENT", "WHAT", "CODE"):
            table.add_column(column, no_wrap=True)
        start = events[0].at
        names: dict[int | None, str | None] = {None: None}
        for event in events:
            if event.name is not None and event.command is not None:
                names[event.command] = event.name
        for event in events:
            since = f"+{(moment(event.at) - moment(start)).total_seconds():.3f} s"
            what = (event.name or names.get(event.command) or "").removeprefix("demo.")
            code = (event.location or "").rpartition("/")[2]
            table.add_row(str(event.seq), since, str(event.type), what, code)
            if event.seq == killed_after:
                table.add_row(
                    "", "", Text("✗ kill -9", style="bold red"), Text("the dispatcher died here", style="red")
                )
        self._print(table)

    def ledger(self, rows: Sequence[tuple[str, str, str, int, int]]) -> None:
        """Show the side effects."""
        table = Table(title="ledger of side effects", title_justify="left", box=None, header_style="bold")
        for column in ("ORDER", "EFFECT", "DETAIL", "ATTEMPT", "PROCESS"):
            table.add_column(column, no_wrap=True)
        for order, effect, detail, attempt, pid in rows:
            style = "yellow" if attempt > 1 else ""
            again = f"{attempt} (executed again)" if attempt > 1 else str(attempt)
            table.add_row(order, effect, detail, Text(again, style=style), str(pid))
        self._print(table)

    def claims(self, claims: Sequence[tuple[bool, str]]) -> None:
        """Show the proof."""
        for true, text in claims:
            self._print(f"[bold green]✓[/] {escape(text)}" if true else f"[bold red]✗ NOT TRUE: {escape(text)}[/]")

    def _print(self, what: object) -> None:
        if not self._quiet:
            self._console.print(what, soft_wrap=isinstance(what, str))


def _table(lines: Sequence[OrderLine]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=True)
    table.add_column("ORDER", no_wrap=True)
    table.add_column("STATE", no_wrap=True, min_width=10)
    table.add_column("STEPS")
    for line in lines:
        table.add_row(line.name, state_text(line.state), line.text)
    return table
