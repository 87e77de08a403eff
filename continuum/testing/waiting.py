"""Here lives what a run at rest waits for, in sentences that say what the test can do about it."""

from collections.abc import Iterator
from pathlib import PurePath

from continuum.client.instance import Continuum
from continuum.client.timeline import Step, StepKind, is_open, timeline
from continuum.model.runs import Run, RunState

__all__ = ["name_of", "waits_of"]


def waits_of(continuum: Continuum, run: Run) -> Iterator[str]:
    """Yield what a run waits for; what a child waits for is told with the child."""
    if run.ended:
        return
    steps = timeline(continuum.history(run.id), continuum.tasks(run.id))
    open_steps = [step for step in steps if is_open(step)]
    limits = {step.limit for step in open_steps if step.limit is not None}
    said = False
    for step in open_steps:
        if step.command not in limits:
            said = True
            yield from _of_step(continuum, step, {one.command: one for one in steps})
    if not said and run.state is RunState.PENDING:
        yield f"waits to be taken in: workflow {run.workflow!r} version {run.version} is not declared here"
    elif not said:
        yield "waits inside its own code (an Event, a Queue, a Future, wait_until …)"


def _of_step(continuum: Continuum, step: Step, steps: dict[int, Step]) -> Iterator[str]:
    match step.kind:
        case StepKind.SIGNAL:
            timer = None if step.limit is None else steps.get(step.limit)
            until = "" if timer is None or timer.due_at is None else f", or {timer.due_at:%Y-%m-%d %H:%M:%S} UTC"
            yield f"waits for signal {step.name!r}{_at(step)}{until}"
        case StepKind.TIMER:
            when = "" if step.due_at is None else f" until {step.due_at:%Y-%m-%d %H:%M:%S} UTC"
            yield f"waits for a timer{_at(step)}{when}"
        case StepKind.CHILD:
            child = None if step.run is None else continuum.find(step.run)
            tip = None if child is None else continuum.handle(child.id).refresh()
            below = [] if tip is None else list(waits_of(continuum, tip))
            also = f", which {'; '.join(below)}" if below else ""
            yield f"waits for child {name_of(step.name)}{_at(step)}{also}"
        case _:
            yield f"waits for {step.kind} {name_of(step.name)}{_at(step)}"


def name_of(full: str) -> str:
    """Return a declared name without its module."""
    return full.rpartition(".")[2]


def _at(step: Step) -> str:
    if not step.location:
        return ""
    path, colon, line = step.location.rpartition(":")
    return f" ({PurePath(path).name}{colon}{line})"
