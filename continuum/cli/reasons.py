"""Here lives the reading of what explains a run: of those that it waits for, too, down to the last one.

A run that waits for a child that waits for a child … is where it is because of the last of them. A fan-out has a
thousand; nobody wants to read the histories of all.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from continuum.client.children import MOST_TOLD, Child
from continuum.client.diagnosis import diagnose
from continuum.client.findings import Finding
from continuum.client.instance import Continuum
from continuum.client.showing import Screen
from continuum.client.timeline import StepKind, is_open, timeline
from continuum.model.events import Event
from continuum.model.leases import WorkerRecord
from continuum.model.runs import Run, RunState
from continuum.model.tasks import TaskRecord

__all__ = ["Reasons"]

# Runs below a run whose rows are read, the nearest first.
MOST_ROWS: Final = 2_000
# Those of them whose histories are read.
MOST_HISTORIES: Final = 10
_INTEREST: Final = [RunState.STUCK, RunState.PENDING, RunState.SUSPENDED, RunState.RUNNING]


class Reasons:
    """Explains one run."""

    def __init__(self, instance: Continuum, run: Run, *, workers: Sequence[WorkerRecord], now: datetime) -> None:
        self._instance = instance
        self._run = run
        self._workers = workers
        self._now = now
        self._below: dict[str, Run] = {}
        self._left = MOST_HISTORIES

    def find(self, events: Sequence[Event], tasks: Sequence[TaskRecord]) -> list[Finding]:
        """Return why the run is where it is, given its history and its task rows."""
        if not self._run.ended and _open_children(events):
            runs = self._instance.journal.runs.descendants(self._run.id, limit=MOST_ROWS)
            screen = Screen(self._instance.settings.redact)
            self._below = {run.chain_id: screen.run(run) for run in runs}
        return self._of(self._run, events, tasks)

    def _of(self, run: Run, events: Sequence[Event], tasks: Sequence[TaskRecord]) -> list[Finding]:
        found = [self._below[child] for child in _open_children(events) if child in self._below]
        closer = sorted((child for child in found if not child.ended), key=lambda one: _INTEREST.index(one.state))
        children = {child.chain_id: Child(run=child) for child in found}
        for child in closer[:MOST_TOLD]:
            children[child.chain_id] = Child(run=child, findings=self._look_into(child))
        return diagnose(
            run,
            events=events,
            tasks=tasks,
            workers=self._workers,
            now=self._now,
            children={str(chain): child for chain, child in children.items()},
        )

    def _look_into(self, child: Run) -> list[Finding]:
        if self._left == 0:
            return []
        self._left -= 1
        return self._of(child, self._instance.history(child.id), self._instance.tasks(child.id))


def _open_children(events: Sequence[Event]) -> list[str]:
    return [step.run for step in timeline(events) if step.kind is StepKind.CHILD and is_open(step) and step.run]
