"""Here lives what is told of the children a run waits for: which, in what state, and what they wait for themselves.

Pure, as the diagnosis that it is part of.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from continuum.client.findings import Finding, Weight, say_count, say_duration
from continuum.client.timeline import Step, StepKind, StepState
from continuum.model.runs import Run, RunState

__all__ = ["MOST_TOLD", "Child", "of_children"]

# Children told one by one; of more than that, those that need somebody, and the number of the others.
MOST_TOLD: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What is known of a child.

    :ivar run: the run that stands for it now, the last of its chain.
    :ivar findings: why that one is where it is, the most important first; empty if nobody looked.
    """

    run: Run
    findings: Sequence[Finding] = ()


def of_children(steps: Sequence[Step], children: Mapping[str, Child], now: datetime) -> Iterator[Finding]:
    """Yield a finding for each child that a run waits for; for many, one for those that are as they should be.

    ``steps`` are the open ones of the run.
    """
    waits = [step for step in steps if step.kind is StepKind.CHILD]
    told = [(step, _of_child(step, children.get(step.run or ""), now)) for step in waits]
    if len(waits) <= MOST_TOLD:
        yield from (finding for _, finding in told)
        return
    blocked = [(step, finding) for step, finding in told if finding.weight is Weight.BLOCKED][:MOST_TOLD]
    yield from (finding for _, finding in blocked)
    said = {step.command for step, _ in blocked}
    yield _of_the_rest([step for step in waits if step.command not in said], children, more=bool(blocked))


def _of_child(step: Step, child: Child | None, now: datetime) -> Finding:
    key = "" if step.key is None else f", key {step.key!r}"
    place = f" ({step.location})" if step.location else ""
    asked = ", which it has asked to cancel," if step.state is StepState.CANCELLING else ""
    what = f"waits for child {step.name} {step.run}{key}{place}{asked} since {say_duration(now - step.requested_at)}"
    look = f"`continuum show {step.run}` tells more"
    if child is None:
        return Finding(weight=Weight.FINE, text=what, remedy=look)
    run = child.run
    if run.ended:
        text = f"child {step.name} {step.run}{key}{place} is {run.state}; its outcome is on its way into the run"
        return Finding(weight=Weight.SLOW, text=text)
    continued = "" if run.id == step.run else f" (as {run.id})"
    text = f"{what}; it is {run.state}{continued}"
    if child.findings:
        first = child.findings[0]
        more = f" (and {len(child.findings) - 1} more)" if len(child.findings) > 1 else ""
        return Finding(weight=first.weight, text=f"{text}: {first.text}{more}", remedy=first.remedy)
    weight = Weight.BLOCKED if run.state is RunState.STUCK else Weight.FINE
    return Finding(weight=weight, text=f"{text}: {run.stuck_reason}" if run.stuck_reason else text, remedy=look)


def _of_the_rest(steps: Sequence[Step], children: Mapping[str, Child], *, more: bool) -> Finding:
    """What many have in common: how many of which workflows are in which state."""
    known = (children.get(step.run) for step in steps if step.run is not None)
    states = Counter(str(child.run.state) for child in known if child is not None)
    by_state = ", ".join(f"{number:,} {state}" for state, number in states.most_common())
    names = ", ".join(sorted({step.name for step in steps}))
    count = say_count(len(steps), "more child", "more children") if more else say_count(len(steps), "child", "children")
    return Finding(weight=Weight.FINE, text=f"waits for {count} ({names}){f': {by_state}' if by_state else ''}")
