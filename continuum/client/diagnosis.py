"""Here lives the answer to "why is this run not moving?", in sentences that name what to look at.

Pure: the run, its events, its task rows, its children and the registered workers in; findings out, the most important
first. A run that waits for a child is where it is because of that one, so what the child waits for is told with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, assert_never

from continuum.client.children import Child, of_children
from continuum.client.findings import Finding, Weight, say_count, say_duration, worst_first
from continuum.client.timeline import Step, StepKind, is_open, moment, timeline
from continuum.declare.executors import LOCAL
from continuum.model.events import Event
from continuum.model.ids import WorkerId
from continuum.model.leases import WorkerRecord
from continuum.model.runs import Run, RunState
from continuum.model.tasks import TaskRecord, TaskState

__all__ = ["diagnose"]

# A live dispatcher claims within milliseconds of a hint, or at its next poll; later than this something is missing.
SLOW_CLAIM: Final = timedelta(seconds=10)
CELERY: Final = "celery"
_NO_CHILDREN: Final[Mapping[str, Child]] = MappingProxyType({})


def diagnose(
    run: Run,
    *,
    events: Sequence[Event],
    tasks: Sequence[TaskRecord],
    workers: Sequence[WorkerRecord],
    now: datetime,
    children: Mapping[str, Child] = _NO_CHILDREN,
) -> list[Finding]:
    """Return why the run is where it is; nothing for one that has ended.

    ``children`` are those that are known of the ones it waits for, by the id they were started with.
    """
    if run.ended:
        return []
    alive = {worker.id: worker for worker in workers if worker.alive}
    every = {worker.id: worker for worker in workers}
    steps = timeline(events, tasks)
    findings = [
        *_of_state(run, alive, now),
        *_of_owner(run, alive, every, now),
        *_of_cancel(run, steps, now),
    ]
    by_command = {step.command: step for step in steps}
    limits = {step.limit for step in steps if step.limit is not None and is_open(step)}
    for step in steps:
        if is_open(step) and step.command not in limits and step.kind is not StepKind.CHILD:
            findings.extend(_of_step(step, by_command, alive, every, now, cancelled_at=run.cancel_requested_at))
    findings.extend(of_children([step for step in steps if is_open(step)], children, now))
    if not findings:
        findings.extend(_of_own_wait(run, alive, now, events))
    return worst_first(findings)


def _of_state(run: Run, alive: Mapping[WorkerId, WorkerRecord], now: datetime) -> Iterator[Finding]:
    match run.state:
        case RunState.PENDING:
            yield from _of_pending(run, alive, now)
        case RunState.STUCK:
            again = "" if run.wake_at is None else f", and is tried again {_when(run.wake_at, now)}"
            yield Finding(
                weight=Weight.BLOCKED,
                text=f"stuck: {run.stuck_reason or 'no reason was recorded'}{again}",
                remedy=f"deploy code that continues it (it goes on by itself), or `continuum terminate {run.id}`",
            )
        case RunState.RUNNING | RunState.SUSPENDED:
            if not alive:
                yield _nobody()
        case RunState.COMPLETED | RunState.FAILED | RunState.CANCELLED | RunState.TERMINATED | RunState.CONTINUED:
            return
        case _:
            assert_never(run.state)


def _of_pending(run: Run, alive: Mapping[WorkerId, WorkerRecord], now: datetime) -> Iterator[Finding]:
    if not alive:
        yield _nobody()
    elif now - run.created_at > SLOW_CLAIM and run.lease_owner is None:
        yield Finding(
            weight=Weight.BLOCKED,
            text=f"pending: none of {say_count(len(alive), 'live dispatcher')} has taken it in"
            f" {say_duration(now - run.created_at)}; they have not loaded workflow {run.workflow!r} version"
            f" {run.version}, or are all busy",
            remedy="start a dispatcher with the app that declares this workflow and version",
        )
    else:
        yield Finding(weight=Weight.FINE, text="pending: waits to be taken by a dispatcher")


def _of_owner(
    run: Run, alive: Mapping[WorkerId, WorkerRecord], every: Mapping[WorkerId, WorkerRecord], now: datetime
) -> Iterator[Finding]:
    if run.lease_owner is None or run.lease_owner in alive:
        return
    remedy = None if alive else "start a dispatcher: it frees and continues the run"
    weight = Weight.SLOW if alive else Weight.BLOCKED
    owner = every.get(run.lease_owner)
    if owner is None:
        text = f"owned by worker {run.lease_owner}, which does not exist any more; the next sweep frees the run"
    else:
        lapsed = say_duration(now - moment(owner.expires_at))
        text = f"owned by {_name(owner)}, whose lease expired {lapsed} ago; the next sweep frees the run"
    yield Finding(weight=weight, text=text, remedy=remedy)


def _of_cancel(run: Run, steps: Sequence[Step], now: datetime) -> Iterator[Finding]:
    requested = run.cancel_requested_at
    if requested is None:
        return
    undoing = [step for step in steps if step.kind is StepKind.COMPENSATION and step.requested_at >= requested]
    if any(map(is_open, undoing)):
        why = f"it is rolling back ({say_count(len(undoing), 'compensation')} so far)"
    else:
        why = "it cleans up, waits for children that were asked too, or its code went on after CancelledError"
    yield Finding(
        weight=Weight.SLOW,
        text=f"a cancel was requested {say_duration(now - requested)} ago, and the run has not ended: {why}",
        remedy=f"`continuum terminate {run.id}` ends it without its code",
    )


def _of_own_wait(
    run: Run, alive: Mapping[WorkerId, WorkerRecord], now: datetime, events: Sequence[Event]
) -> Iterator[Finding]:
    """A run that has asked for nothing that is open waits for itself, or is at work this moment."""
    if run.state == RunState.SUSPENDED and run.wake_at is None:
        yield Finding(
            weight=Weight.BLOCKED,
            text="waits inside its own code (an Event, a Lock, a Future, wait_until …): no activity, child, timer or"
            " awaited signal is outstanding",
            remedy=f"a signal that its code handles moves it; else `continuum cancel {run.id}`, or `continuum terminate"
            f" {run.id}`",
        )
    elif run.state == RunState.RUNNING and run.lease_owner in alive:
        idle = now - (moment(events[-1].at) if events else run.created_at)
        yield Finding(
            weight=Weight.FINE if idle < SLOW_CLAIM else Weight.SLOW,
            text=f"its code is at work, or waits inside itself (an Event, a Lock, wait_until …); the last event is"
            f" {say_duration(idle)} old, and no activity, child, timer or signal is outstanding",
        )


def _of_step(
    step: Step,
    steps: Mapping[int, Step],
    alive: Mapping[WorkerId, WorkerRecord],
    every: Mapping[WorkerId, WorkerRecord],
    now: datetime,
    *,
    cancelled_at: datetime | None,
) -> Iterator[Finding]:
    match step.kind:
        case StepKind.SIGNAL:
            yield _of_signal(step, steps, now, cancelled_at)
        case StepKind.TIMER:
            yield _of_timer(step, now)
        case StepKind.ACTIVITY | StepKind.COMPENSATION:
            yield _of_activity(step, alive, every, now)
        case (
            StepKind.CHILD
            | StepKind.VALUE
            | StepKind.PATCH
            | StepKind.SENT
            | StepKind.ATTRIBUTES
            | StepKind.PUBLISHED
            | StepKind.ANSWERED
        ):
            return
        case _:
            assert_never(step.kind)


def _of_signal(step: Step, steps: Mapping[int, Step], now: datetime, cancelled_at: datetime | None) -> Finding:
    if step.limit is None and cancelled_at is not None and step.requested_at <= cancelled_at:
        # No event tells that a wait without a timeout was cancelled.
        text = (
            f"asked for signal {step.name} {say_duration(now - step.requested_at)} ago{_at(step)}, before the cancel,"
            " which has ended that wait unless the code shields it"
        )
        return Finding(weight=Weight.FINE, text=text)
    text = f"waits for signal {step.name} since {say_duration(now - step.requested_at)}{_at(step)}"
    timer = None if step.limit is None else steps.get(step.limit)
    if timer is not None and timer.due_at is not None:
        text += f", or the timeout {_when(timer.due_at, now)}"
    return Finding(weight=Weight.FINE, text=text)


def _of_timer(step: Step, now: datetime) -> Finding:
    due = step.due_at
    if due is None or due > now:
        when = "" if due is None else f" {_when(due, now)}"
        return Finding(weight=Weight.FINE, text=f"waits for a timer that fires{when}{_at(step)}")
    late = now - due
    return Finding(
        weight=Weight.SLOW if late < SLOW_CLAIM else Weight.BLOCKED,
        text=f"a timer{_at(step)} was due {say_duration(late)} ago and has not fired",
        remedy="look whether a live dispatcher has loaded this workflow" if late >= SLOW_CLAIM else None,
    )


def _of_activity(
    step: Step,
    alive: Mapping[WorkerId, WorkerRecord],
    every: Mapping[WorkerId, WorkerRecord],
    now: datetime,
) -> Finding:
    row = step.task
    if row is None:
        return Finding(
            weight=Weight.SLOW,
            text=f"{step.kind} {step.name}{_at(step)} has ended; its outcome is on its way into the run",
        )
    what = f"{step.kind} {step.name}{_at(step)}: attempt {row.attempt} of {row.max_attempts}"
    error = row.last_error
    last = (
        ""
        if error is None
        else f"; last error: {error.type_name}: {error.message.splitlines()[0] if error.message else ''}"
    )
    if row.state == TaskState.DISPATCHED:
        return _of_dispatched(row, what, last, now=now)
    if row.claimed_by is not None:
        return _of_claimed(row, what, last, alive=alive, every=every, now=now)
    available = moment(row.available_at)
    if available > now:
        return Finding(weight=Weight.FINE, text=f"{what} begins {_when(available, now)}{last}")
    waited = now - available
    if not alive:
        return Finding(weight=Weight.BLOCKED, text=f"{what} waits in queue {row.queue}, and nobody takes tasks{last}")
    if row.executor == LOCAL:
        advice = f"look whether a dispatcher serves queue {row.queue}, and whether all of its slots are taken"
    else:
        advice = (
            f"no dispatcher has published it: the broker is away, or as many messages as may be are under way in queue"
            f" {row.queue} (dispatch_window); `continuum check -A yourapp` looks"
        )
    return Finding(
        weight=Weight.FINE if waited < SLOW_CLAIM else Weight.BLOCKED,
        text=f"{what} waits in queue {row.queue} since {say_duration(waited)}{last}",
        remedy=None if waited < SLOW_CLAIM else advice,
    )


def _of_dispatched(row: TaskRecord, what: str, last: str, *, now: datetime) -> Finding:
    """A message is under way, or lost, or waits with nobody to take it; it is published again in time."""
    waited = now - moment(row.available_at)
    queue = f"{row.executor.capitalize()} queue {row.queue}"
    option = f" with `-Q {row.queue}`" if row.executor == CELERY else ""
    advice = f"is a {row.executor.capitalize()} worker{option} running, and not busy? `continuum check -A yourapp` asks"
    return Finding(
        weight=Weight.FINE if waited < SLOW_CLAIM else Weight.BLOCKED,
        text=f"{what} waits in {queue} since {say_duration(waited)}, published"
        f" {say_count(row.dispatch_no, 'time')}{last}",
        remedy=None if waited < SLOW_CLAIM else advice,
    )


def _of_claimed(
    row: TaskRecord,
    what: str,
    last: str,
    *,
    alive: Mapping[WorkerId, WorkerRecord],
    every: Mapping[WorkerId, WorkerRecord],
    now: datetime,
) -> Finding:
    since = "" if row.claimed_at is None else f" since {say_duration(now - moment(row.claimed_at))}"
    beat = "" if row.heartbeat_at is None else f", last heartbeat {say_duration(now - moment(row.heartbeat_at))} ago"
    claimant = WorkerId(row.claimed_by or "")
    worker = every.get(claimant)
    if claimant in alive and worker is not None:
        return Finding(weight=Weight.FINE, text=f"{what} runs on {_name(worker)}{since}{beat}{last}")
    who = claimant if worker is None else _name(worker)
    return Finding(
        weight=Weight.SLOW if alive else Weight.BLOCKED,
        text=f"{what} was running on {who}, which is dead{beat}; the next sweep offers it again{last}",
        remedy=None if alive else "start a dispatcher",
    )


def _nobody() -> Finding:
    return Finding(
        weight=Weight.BLOCKED,
        text="there is no live dispatcher",
        remedy="start one: `continuum-dispatcher -A yourapp`",
    )


def _name(worker: WorkerRecord) -> str:
    return f"{worker.hostname} (pid {worker.pid})"


def _at(step: Step) -> str:
    return f" ({step.location})" if step.location else ""


def _when(at: datetime, now: datetime) -> str:
    clock = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"at {clock} (in {say_duration(at - now)})" if at > now else f"at {clock} (now)"
